//! Another reader sees the same rows: the Delta library with DataFusion.

use std::collections::{BTreeMap, HashMap};

use alluvium_lake::{Commit, FileId, Lake, Table};
use deltalake::datafusion::prelude::SessionContext;
use roaring::RoaringTreemap;

use crate::table::{commit, open, rows, scanned, spec, values, written};
use crate::{Dice, lake_in};

/// Where a row of the model stands: its file's path, and its index in it.
type Place = (String, u64);
type Model = HashMap<Place, (i64, i64, bool)>;

/// One round: rows deleted anywhere, others appended, in one commit.
async fn round(table: &mut Table, model: &mut Model, dice: &mut Dice, number: i64) {
    let mut delete: BTreeMap<FileId, RoaringTreemap> = BTreeMap::new();
    let mut places: Vec<Place> = model.keys().cloned().collect();
    places.sort_unstable();
    let share = 1 + dice.below(4);
    for place in places {
        if dice.below(5) < share && model.len() > 50 {
            let id = table.file_by_path(&place.0).unwrap().id;
            delete.entry(id).or_default().insert(place.1);
            model.remove(&place);
        }
    }
    let mut add = Vec::new();
    for current in [true, false] {
        let new: Vec<(i64, i64)> = (0..1 + dice.below(400))
            .map(|n| (dice.below(1_000_000) as i64, number + n as i64))
            .collect();
        let staged = table.stage_file(&rows(&new), Some(current)).await.unwrap();
        for (index, row) in (0..).zip(&new) {
            model.insert((staged.path.clone(), index), (row.0, row.1, current));
        }
        add.push(staged);
    }
    let change = Commit { delete, ..commit(add, &[], number) };
    written(table.commit(change).await.unwrap());
}

fn expected(model: &Model) -> Vec<(i64, i64, bool)> {
    let mut rows: Vec<_> = model.values().copied().collect();
    rows.sort_unstable();
    rows
}

pub(crate) async fn by_datafusion(lake: &Lake) -> Vec<(i64, i64, bool)> {
    let mut all: Vec<_> = query(lake, "select * from t").await.iter().flat_map(values).collect();
    all.sort_unstable();
    all
}

async fn query(lake: &Lake, sql: &str) -> Vec<arrow::array::RecordBatch> {
    let table = alluvium_lake::reader(lake, &spec().path).unwrap().load().await.unwrap();
    let context = SessionContext::new();
    if let Some((store, url)) = lake.root() {
        context.runtime_env().register_object_store(&url, store);
    }
    context.register_table("t", table.table_provider().await.unwrap()).unwrap();
    context.sql(sql).await.unwrap().collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_twenty_rounds_of_deletes_and_appends_all_readers_see_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let (mut model, mut dice) = (Model::new(), Dice(88_172_645_463_325_252));
    for number in 1..=20 {
        round(&mut table, &mut model, &mut dice, number).await;
        if number % 5 == 0 {
            assert_eq!(scanned(&table).await, expected(&model), "after round {number}");
            table = open(&lake).await;
            assert_eq!(table.txn("alluvium/silver/7"), Some(number));
        }
    }
    assert_eq!(scanned(&table).await, expected(&model));
    assert_eq!(by_datafusion(&lake).await, expected(&model));
    assert_eq!(table.rows(), model.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_and_bounds_that_another_reader_takes_from_the_log_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let staged =
        table.stage_file(&rows(&[(3, 1), (1, 2), (9, 5), (7, 3)]), Some(true)).await.unwrap();
    let file = written(table.commit(commit(vec![staged], &[], 1)).await.unwrap())[0];
    // The least and the greatest are deleted: the bounds in the log are not tight any more.
    written(table.commit(commit(vec![], &[(file, &[1, 2])], 2)).await.unwrap());
    let sql = "select count(*), min(id), max(id), min(v), max(v), min(name), count(name), \
               cast(max(at) as bigint) from t";
    let answer = arrow::util::pretty::pretty_format_batches(&query(&lake, sql).await).unwrap();
    let last = answer.to_string().lines().nth(3).unwrap().replace(' ', "");
    assert_eq!(last, format!("|2|3|7|1|3|name3|2|{}|", crate::table::at(3)));
    let found =
        query(&lake, "select id from t where id >= 3 and name < 'name 6' and _is_current").await;
    assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_opens_from_a_checkpoint_when_the_entries_before_it_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let (mut model, mut dice) = (Model::new(), Dice(42));
    for number in 1..=6 {
        round(&mut table, &mut model, &mut dice, number).await;
    }
    let library = deltalake::open_table(lake.url_of(&spec().path)).await.unwrap();
    deltalake::checkpoints::create_checkpoint(&library, None).await.unwrap();
    let log = folder.path().join("silver/shop/orders/_delta_log");
    for version in 0..6 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let mut table = open(&lake).await;
    assert_eq!((table.version(), table.txn("alluvium/silver/7")), (6, Some(6)));
    assert_eq!(table.commit_info(), Some(&serde_json::json!({"to": 6})));
    assert_eq!(scanned(&table).await, expected(&model));
    round(&mut table, &mut model, &mut dice, 7).await;
    assert_eq!(scanned(&open(&lake).await).await, expected(&model));
    assert_eq!(by_datafusion(&lake).await, expected(&model));
}

/// The entry that said it is gone, and the newest checkpoint is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_last_is_found_in_a_checkpoint_of_ours_before_one_of_another_library() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let staged = table.stage_file(&rows(&[(1, 1)]), Some(true)).await.unwrap();
    written(table.commit(commit(vec![staged], &[], 1)).await.unwrap());
    assert_eq!(table.write_checkpoint(0).await.unwrap().version, 1);
    let staged = table.stage_file(&rows(&[(2, 2)]), Some(true)).await.unwrap();
    let said = commit(vec![staged], &[], 0);
    let quiet = Commit { info: serde_json::Value::Null, txns: vec![], ..said };
    written(table.commit(quiet).await.unwrap());
    let library = deltalake::open_table(lake.url_of(&spec().path)).await.unwrap();
    deltalake::checkpoints::create_checkpoint(&library, None).await.unwrap();
    let log = folder.path().join("silver/shop/orders/_delta_log");
    for version in 0..2 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let table = open(&lake).await;
    assert_eq!((table.version(), table.txn("alluvium/silver/7")), (2, Some(1)));
    assert_eq!(table.commit_info(), Some(&serde_json::json!({"to": 1})));
}

//! A table's past, commit by commit: which rows came, went and moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_lake::table::{CompactionOutcome, CompactionPolicy, Moved, Standing, Step};
use alluvium_lake::{FileId, Table, TableSpec};
use arrow::datatypes::{DataType, Field, Schema};
use roaring::RoaringTreemap;

use crate::lake_in;
use crate::table::{commit, open, rows, schema, spec, written};

async fn add(table: &mut Table, values: &[(i64, i64)], number: i64) -> FileId {
    let staged = table.stage_file(&rows(values), Some(true)).await.unwrap();
    written(table.commit(commit(vec![staged], &[], number)).await.unwrap())[0]
}

async fn delete(table: &mut Table, file: FileId, gone: &[u64], number: i64) {
    written(table.commit(commit(vec![], &[(file, gone)], number)).await.unwrap());
}

fn path(table: &Table, file: FileId) -> String {
    table.file(file).unwrap().path.clone()
}

/// The table with another column.
fn grown() -> TableSpec {
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("more", DataType::Int64, true)));
    TableSpec { schema: Arc::new(Schema::new(fields)), ..spec() }
}

/// Where a row has gone.
fn place(moved: &Moved, row: u64) -> u64 {
    moved.base + row - moved.left.rank(row)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_commit_tells_the_rows_that_came_and_went() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let before = table.version();
    let first = add(&mut table, &[(1, 1), (2, 1), (3, 1)], 0).await;
    let path = path(&table, first);
    delete(&mut table, first, &[1], 1).await;
    delete(&mut table, first, &[0, 2], 2).await;
    let mut past = table.back_to(before).await.unwrap().unwrap();
    assert_eq!(past.files().count(), 0);
    let Some(Step::Changed { added, deleted, .. }) = past.step().await.unwrap() else { panic!() };
    assert_eq!((added.len(), deleted.len()), (1, 0));
    assert_eq!(past.file(added[0]).unwrap().path, path);
    let mut kept = past.file(added[0]).unwrap().clone();
    for gone in [&[1u64][..], &[0, 2]] {
        let step = past.step().await.unwrap();
        let Some(Step::Changed { added, deleted, emptied }) = step else { panic!() };
        let rows: RoaringTreemap = gone.iter().copied().collect();
        assert_eq!((added.len(), deleted), (0, BTreeMap::from([(path.clone(), rows)])));
        // What is gone can still be read, until it is collected.
        kept = emptied.into_iter().next().unwrap_or(kept);
        let read = past.read_rows_of(&kept, gone, Some(&["id"])).await.unwrap();
        assert_eq!(read.num_rows(), gone.len());
    }
    assert!(past.file_by_path(&path).is_none());
    assert_eq!(past.version(), table.version());
    assert!(past.step().await.unwrap().is_none());
    assert!(past.mark().is(&table.mark()));
    assert!(table.back_to(table.version() + 1).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_goes_on_with_the_columns_that_came_and_not_with_another_table() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let mut reader = Table::open(&lake, table.path()).await.unwrap().unwrap();
    assert_eq!(reader.look().await.unwrap(), Standing::Same);
    add(&mut table, &[(1, 1)], 0).await;
    let grown = Table::open_or_create(&lake, grown()).await.unwrap();
    assert_eq!(reader.look().await.unwrap(), Standing::Behind);
    assert!(matches!(reader.step().await.unwrap(), Some(Step::Changed { .. })));
    assert_eq!(reader.look().await.unwrap(), Standing::Behind);
    assert!(matches!(reader.step().await.unwrap(), Some(Step::Columns)));
    assert_eq!(reader.look().await.unwrap(), Standing::Same);
    assert!(reader.mark().is(&grown.mark()));
    assert_eq!(reader.schema(), table.back_to(0).await.unwrap().unwrap().schema());

    // Another table: of fewer versions, of as many, and of one more.
    std::fs::remove_dir_all(root.path().join(table.path().as_ref())).unwrap();
    let mut other = open(&lake).await;
    for number in 0..=reader.version() {
        assert_eq!(reader.look().await.unwrap(), Standing::Other, "at {}", other.version());
        add(&mut other, &[(number, 1)], number).await;
    }
    assert_eq!(reader.look().await.unwrap(), Standing::Other, "at {}", other.version());
    let before = other.back_to(reader.version()).await.unwrap().unwrap();
    assert_eq!(before.version(), reader.version());
    assert!(!before.mark().is(&reader.mark()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cleaned_past_a_handle_is_told_from_one_that_did_not_go_on() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let mut handles = Vec::new();
    for number in 1..=6 {
        let handle = Table::open(&lake, table.path()).await.unwrap().unwrap();
        assert_eq!(handle.look().await.unwrap(), Standing::Same);
        handles.push(handle);
        add(&mut table, &[(number, number)], number).await;
        if number >= 4 {
            table.write_checkpoint(0).await.unwrap();
        }
    }
    // What is before the last checkpoint but one goes: the entries up to the fourth.
    assert!(table.clean_log(9_000_000_000_000, 100).await.unwrap().removed > 0);
    for mut handle in handles {
        let (version, standing) = (handle.version(), handle.look().await.unwrap());
        match version < 5 {
            // Of most of them the next entry is gone too, of the fourth it is still there.
            true => assert_eq!(standing, Standing::Other, "at {version}"),
            false => {
                assert_eq!(standing, Standing::Behind, "at {version}");
                while handle.step().await.unwrap().is_some() {}
                assert!(handle.mark().is(&table.mark()));
            }
        }
    }
    assert_eq!(table.look().await.unwrap(), Standing::Same);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_tells_where_each_row_went_that_lives() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let policy = CompactionPolicy { target_bytes: 1 << 20, fan_in: 4, deleted_percent: 90 };
    for meanwhile in [vec![], vec![(1, vec![0, 3, 9])], vec![(0, vec![7, 8]), (2, vec![5])]] {
        let mut table = open(&lake).await;
        let mut files = Vec::new();
        for file in 0..4 {
            let values: Vec<_> = (0..10).map(|n| (file * 10 + n, file)).collect();
            files.push(add(&mut table, &values, file).await);
        }
        for (nth, gone) in [(0, &[0, 9][..]), (1, &[4]), (3, &[0, 1, 2])] {
            delete(&mut table, files[nth], gone, 9).await;
        }
        let compaction = table.choose_compaction(&policy, None).unwrap().unwrap();
        let compacted = compaction.prepare().await.unwrap();
        for (nth, gone) in &meanwhile {
            delete(&mut table, files[*nth], gone, 10).await;
        }
        // One of them is gone altogether by then.
        if !meanwhile.is_empty() {
            let all: Vec<u64> = (3..10).collect();
            delete(&mut table, files[3], &all, 11).await;
        }
        let mut past = table.back_to(table.version()).await.unwrap().unwrap();
        let outcome = table.commit_compaction(compacted).await.unwrap();
        let CompactionOutcome::Done { to, moved, .. } = outcome else { panic!("{outcome:?}") };
        let deleted: BTreeMap<String, RoaringTreemap> =
            past.files().map(|file| (file.path.clone(), file.deleted.clone())).collect();
        let Some(Step::Moved { to: told, moved: followed }) = past.step().await.unwrap() else {
            panic!("{meanwhile:?}")
        };
        assert_eq!(told, to);
        assert_eq!(followed.len(), if meanwhile.is_empty() { 4 } else { 3 });
        for one in &followed {
            let truth = moved.iter().find(|other| other.from == one.from).unwrap();
            for row in (0..10).filter(|row| !deleted[&one.from].contains(*row)) {
                assert_eq!(place(one, row), place(truth, row), "row {row} of {}", one.from);
            }
        }
        let files: Vec<FileId> = table.files().map(|file| file.id).collect();
        for file in files {
            let all: Vec<u64> = (0..table.file(file).unwrap().rows).collect();
            let deleted = table.file(file).unwrap().deleted.clone();
            let live: Vec<u64> = all.into_iter().filter(|row| !deleted.contains(*row)).collect();
            delete(&mut table, file, &live, 12).await;
        }
    }
}

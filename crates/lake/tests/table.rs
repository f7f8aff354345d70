//! Tables: commits, conflicts, deletions, reopening, and what a crash or a torn copy leaves.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use alluvium_lake::{Commit, CommitOutcome, FileId, Lake, LakeError, StagedFile, Table, TableSpec};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use crate::lake_in;

pub(crate) fn schema() -> SchemaRef {
    let id = Field::new("id", DataType::Int64, false)
        .with_metadata([("alluvium.type".to_owned(), "short".to_owned())].into());
    Arc::new(Schema::new(vec![
        id,
        Field::new("v", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("_is_current", DataType::Boolean, false),
    ]))
}

pub(crate) fn spec() -> TableSpec {
    TableSpec {
        path: Path::from("silver/shop/orders"),
        description: "orders".to_owned(),
        schema: schema(),
        partition_by: Some("_is_current"),
        deletion_vectors: true,
        stats: vec!["id".to_owned(), "name".to_owned(), "at".to_owned()],
    }
}

pub(crate) async fn open(lake: &Lake) -> Table {
    Table::open_or_create(lake, spec()).await.unwrap()
}

/// Rows whose other columns follow from `id` and `v`.
pub(crate) fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
        ("v", Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Int64Array>())),
        ("name", Arc::new(rows.iter().map(|r| name(r.0)).collect::<StringArray>())),
        (
            "at",
            Arc::new(
                rows.iter()
                    .map(|r| Some(at(r.1)))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, name != "id")),
    )
    .unwrap()
}

pub(crate) fn name(id: i64) -> Option<String> {
    (id % 5 != 0).then(|| format!("name {id}"))
}

pub(crate) fn at(v: i64) -> i64 {
    v * 1_234_567_891 - 5_000_000_000_000
}

pub(crate) fn commit(add: Vec<StagedFile>, delete: &[(FileId, &[u64])], progress: i64) -> Commit {
    Commit {
        add,
        delete: delete.iter().map(|(id, rows)| (*id, rows.iter().copied().collect())).collect(),
        txns: vec![("alluvium/silver/7".to_owned(), progress)],
        info: json!({"to": progress}),
        operation: "MERGE",
    }
}

pub(crate) fn written(outcome: CommitOutcome) -> Vec<FileId> {
    match outcome {
        CommitOutcome::Written { added, .. } => added,
        CommitOutcome::Conflict => panic!("a conflict"),
    }
}

/// Adds one file of rows.
async fn append(table: &mut Table, values: &[(i64, i64)], current: bool, progress: i64) -> FileId {
    let staged = table.stage_file(&rows(values), Some(current)).await.unwrap();
    written(table.commit(commit(vec![staged], &[], progress)).await.unwrap())[0]
}

/// (id, v, current) of all rows, sorted, by our own scan. Checks the derived columns too.
pub(crate) async fn scanned(table: &Table) -> Vec<(i64, i64, bool)> {
    let mut all = Vec::new();
    let mut scan = table.scan(None).unwrap();
    while let Some(batch) = scan.next().await {
        let batch = batch.unwrap();
        assert_eq!(batch.rows.len(), batch.batch.num_rows());
        all.extend(values(&batch.batch));
    }
    all.sort_unstable();
    all
}

pub(crate) fn values(batch: &RecordBatch) -> Vec<(i64, i64, bool)> {
    let column = |name: &str| Arc::clone(batch.column_by_name(name).unwrap());
    let (ids, vs) = (column("id"), column("v"));
    let names = arrow::compute::cast(&column("name"), &DataType::Utf8).unwrap();
    let ats = arrow::compute::cast(&column("at"), &DataType::Int64).unwrap();
    let current = column("_is_current");
    let current: &BooleanArray = current.as_boolean();
    (0..batch.num_rows())
        .map(|row| {
            let id = ids.as_primitive::<Int64Type>().value(row);
            let v = vs.as_primitive::<Int64Type>().value(row);
            let text = names.as_string::<i32>();
            let text = text.is_valid(row).then(|| text.value(row).to_owned());
            assert_eq!(text, name(id));
            assert_eq!(ats.as_primitive::<Int64Type>().value(row), at(v));
            (id, v, current.value(row))
        })
        .collect()
}

#[tokio::test]
async fn a_reopened_table_knows_its_rows_its_progress_and_what_was_said_last() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    assert_eq!((table.version(), table.txn("alluvium/silver/7")), (0, None));
    assert_eq!(table.commit_info(), None);
    let first = append(&mut table, &[(1, 1), (2, 2), (3, 3)], true, 10).await;
    let staged = table.stage_file(&rows(&[(2, 2)]), Some(false)).await.unwrap();
    written(table.commit(commit(vec![staged], &[(first, &[1])], 20)).await.unwrap());
    let quiet = Commit { info: Value::Null, txns: vec![], ..commit(vec![], &[(first, &[0])], 0) };
    written(table.commit(quiet).await.unwrap());

    let again = open(&lake).await;
    for table in [&table, &again] {
        assert_eq!((table.version(), table.txn("alluvium/silver/7")), (3, Some(20)));
        assert_eq!(table.commit_info(), Some(&json!({"to": 20})));
        assert_eq!(scanned(table).await, [(2, 2, false), (3, 3, true)]);
        assert_eq!(table.rows(), 2);
    }
    for file in table.files() {
        let same = again.file_by_path(&file.path).unwrap();
        assert_eq!((same.rows, same.size, same.current), (file.rows, file.size, file.current));
        assert_eq!((&same.deleted, &same.deletion_vector), (&file.deleted, &file.deletion_vector));
        assert_eq!(same.stats, file.stats);
    }
    let paths: Vec<_> = again.files().map(|file| file.path.clone()).collect();
    assert!(paths.is_sorted(), "ids follow the order of paths");
}

#[tokio::test]
async fn of_two_writers_one_meets_a_conflict_and_goes_on_with_the_table_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut one = open(&lake).await;
    let first = append(&mut one, &[(1, 1), (2, 2)], true, 1).await;
    let mut other = open(&lake).await;
    let theirs = other.files().next().unwrap().id;
    written(one.commit(commit(vec![], &[(first, &[0])], 2)).await.unwrap());

    let staged = other.stage_file(&rows(&[(9, 9)]), Some(true)).await.unwrap();
    let late = commit(vec![staged.clone()], &[(theirs, &[0])], 3);
    assert_eq!(other.commit(late.clone()).await.unwrap(), CommitOutcome::Conflict);
    assert_eq!(scanned(&other).await, [(1, 1, true), (2, 2, true)], "nothing was changed");
    let mut other = open(&lake).await;
    assert_eq!((other.version(), other.txn("alluvium/silver/7")), (2, Some(2)));
    assert_eq!(other.files().next().unwrap().id, theirs);
    assert_eq!(scanned(&other).await, [(2, 2, true)]);
    assert!(
        matches!(other.commit(late).await, Err(LakeError::Bug(_))),
        "a row that was deleted meanwhile is not deleted again"
    );
    written(other.commit(commit(vec![staged], &[], 3)).await.unwrap());
    let one = open(&lake).await;
    assert_eq!(scanned(&one).await, [(2, 2, true), (9, 9, true)]);
}

#[tokio::test]
async fn a_file_whose_rows_are_all_deleted_is_no_longer_part_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let gone = append(&mut table, &[(1, 1), (2, 2)], true, 1).await;
    let kept = append(&mut table, &[(3, 3)], false, 2).await;
    written(table.commit(commit(vec![], &[(gone, &[1])], 3)).await.unwrap());
    written(table.commit(commit(vec![], &[(gone, &[0])], 4)).await.unwrap());
    assert_eq!(table.files().map(|file| file.id).collect::<Vec<_>>(), [kept]);
    assert_eq!(table.file(gone).map(|file| file.id), None);
    let again = open(&lake).await;
    assert_eq!(again.files().count(), 1);
    assert_eq!(scanned(&again).await, [(3, 3, false)]);
}

#[tokio::test]
async fn deletions_that_do_not_fit_the_table_are_a_defect_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let file = append(&mut table, &[(1, 1), (2, 2)], true, 1).await;
    for (file, row) in [(file, 2), (FileId(99), 0)] {
        let outcome = table.commit(commit(vec![], &[(file, &[row])], 2)).await;
        assert!(matches!(outcome, Err(LakeError::Bug(_))));
    }
    assert_eq!((table.version(), open(&lake).await.version()), (1, 1));
}

#[tokio::test]
async fn a_commit_that_broke_off_has_to_be_looked_into_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    append(&mut table, &[(1, 1)], true, 1).await;
    let staged = table.stage_file(&rows(&[(2, 2)]), Some(true)).await.unwrap();
    let next = commit(vec![staged], &[], 2);
    let staging = folder.path().join(".staging");
    fs::remove_dir(&staging).unwrap();
    fs::write(&staging, "not a folder").unwrap();
    assert!(table.commit(next.clone()).await.is_err());
    fs::remove_file(&staging).unwrap();
    fs::create_dir(&staging).unwrap();
    let refused = table.commit(next.clone()).await;
    assert!(matches!(&refused, Err(e) if e.remedy().is_retry()), "{refused:?}");
    let mut table = open(&lake).await;
    assert_eq!((table.version(), table.txn("alluvium/silver/7")), (1, Some(1)));
    written(table.commit(next).await.unwrap());
    assert_eq!(scanned(&open(&lake).await).await, [(1, 1, true), (2, 2, true)]);
}

#[tokio::test]
async fn what_a_crash_before_the_log_entry_leaves_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    append(&mut table, &[(1, 1)], true, 1).await;
    table.stage_file(&rows(&[(2, 2)]), Some(true)).await.unwrap();
    drop(table);
    let root = folder.path().join("silver/shop/orders");
    fs::write(root.join("_is_current=true/part-half.zstd.parquet"), "half").unwrap();
    fs::write(root.join("deletion_vector_half.bin"), "").unwrap();
    fs::write(root.join("_delta_log/00000000000000000002.json.tmp"), "{").unwrap();

    let mut table = open(&lake).await;
    assert_eq!(scanned(&table).await, [(1, 1, true)]);
    append(&mut table, &[(3, 3)], true, 2).await;
    assert_eq!(scanned(&open(&lake).await).await, [(1, 1, true), (3, 3, true)]);
}

#[tokio::test]
async fn a_file_that_somebody_removes_before_its_commit_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    append(&mut table, &[(1, 1)], true, 1).await;
    let staged = table.stage_file(&rows(&[(2, 2)]), Some(true)).await.unwrap();
    fs::remove_file(folder.path().join("silver/shop/orders").join(&staged.path)).unwrap();
    let refused = table.commit(commit(vec![staged], &[], 2)).await;
    assert!(matches!(&refused, Err(e) if e.remedy().is_retry()), "{refused:?}");
    let staged = table.stage_file(&rows(&[(2, 2)]), Some(true)).await.unwrap();
    written(table.commit(commit(vec![staged], &[], 2)).await.unwrap());
    assert_eq!(scanned(&open(&lake).await).await, [(1, 1, true), (2, 2, true)]);
}

#[tokio::test]
async fn a_torn_newest_entry_is_set_aside_by_the_writer_and_named_to_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    append(&mut table, &[(1, 1)], true, 1).await;
    append(&mut table, &[(2, 2)], true, 2).await;
    let root = folder.path().join("silver/shop/orders");
    let newest = root.join("_delta_log/00000000000000000002.json");
    let whole = fs::read(&newest).unwrap();
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in [0, 10, first_line, whole.len() - 2] {
        fs::write(&newest, &whole[..cut]).unwrap();
        let refused = Table::open(&lake, &spec().path).await;
        let Err(LakeError::Corrupt(what)) = refused else { panic!("cut to {cut} was not noticed") };
        assert!(what.contains("00000000000000000002.json"), "{what}");
        let table = open(&lake).await;
        assert_eq!((table.version(), table.txn("alluvium/silver/7")), (1, Some(1)), "cut to {cut}");
        assert!(!newest.exists());
        assert_eq!(scanned(&table).await, [(1, 1, true)]);
    }
    let mut table = open(&lake).await;
    append(&mut table, &[(2, 2)], true, 2).await;
    append(&mut table, &[(3, 3)], true, 3).await;
    fs::write(&newest, "").unwrap();
    let torn_in_the_middle = Table::open_or_create(&lake, spec()).await;
    assert!(matches!(torn_in_the_middle, Err(LakeError::Corrupt(_))));
    fs::remove_file(&newest).unwrap();
    let missing = Table::open_or_create(&lake, spec()).await;
    assert!(matches!(missing, Err(LakeError::Corrupt(_))));
}

#[tokio::test]
async fn a_damaged_deletion_vector_or_data_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let file = append(&mut table, &[(1, 1), (2, 2)], true, 1).await;
    written(table.commit(commit(vec![], &[(file, &[0])], 2)).await.unwrap());
    let root = folder.path().join("silver/shop/orders");
    let vector = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "bin"))
        .unwrap();
    let mut bytes = fs::read(&vector).unwrap();
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    fs::write(&vector, &bytes).unwrap();
    assert!(matches!(Table::open(&lake, &spec().path).await, Err(LakeError::Corrupt(_))));
    fs::remove_file(&vector).unwrap();
    assert!(matches!(Table::open(&lake, &spec().path).await, Err(LakeError::Corrupt(_))));

    let data = root.join(&table.file(file).unwrap().path);
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 10]).unwrap();
    let read = table.read_rows(file, &[1], None).await;
    assert!(matches!(read, Err(LakeError::Corrupt(_))), "{read:?}");
    let mut scan = table.scan(None).unwrap();
    assert!(matches!(scan.next().await, Some(Err(LakeError::Corrupt(_)))));
    assert!(scan.next().await.is_none());
}

#[tokio::test]
async fn some_rows_of_a_large_file_are_read_with_the_columns_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    let many: Vec<(i64, i64)> = (0..300_000).map(|n| (n, n * 3)).collect();
    let file = append(&mut table, &many, true, 1).await;
    let wanted = [0, 1, 32_767, 32_768, 262_143, 262_144, 299_999];
    let read = table.read_rows(file, &wanted, None).await.unwrap();
    let expected: Vec<_> = wanted.iter().map(|n| (*n as i64, *n as i64 * 3, true)).collect();
    assert_eq!(values(&read), expected);
    let read = table.read_rows(file, &wanted, Some(&["_is_current", "v"])).await.unwrap();
    assert_eq!(read.schema().fields().len(), 2);
    assert_eq!(read.column(1).as_primitive::<Int64Type>().value(6), 299_999 * 3);
    assert_eq!(table.read_rows(file, &[], None).await.unwrap().num_rows(), 0);
    assert!(matches!(table.read_rows(file, &[300_000], None).await, Err(LakeError::Bug(_))));
    assert!(matches!(table.read_rows(file, &[2, 1], None).await, Err(LakeError::Bug(_))));
    assert!(matches!(table.read_rows(file, &[1], Some(&["x"])).await, Err(LakeError::Bug(_))));

    let odd: RoaringTreemap = (0..300_000).filter(|n| n % 2 == 1).collect();
    let deletion = Commit { delete: BTreeMap::from([(file, odd)]), ..commit(vec![], &[], 2) };
    written(table.commit(deletion).await.unwrap());
    let mut scan = table.scan(Some(&["id"])).unwrap();
    let mut expected = (0..300_000u64).step_by(2);
    while let Some(batch) = scan.next().await {
        let batch = batch.unwrap();
        for (row, id) in
            batch.rows.iter().zip(batch.batch.column(0).as_primitive::<Int64Type>().values())
        {
            assert_eq!((Some(*row), *id as u64), (expected.next(), *row));
        }
    }
    assert_eq!(expected.next(), None);
}

#[tokio::test]
async fn rows_that_do_not_fit_the_table_are_never_cast() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let table = open(&lake).await;
    let good = rows(&[(1, 1)]);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let mut columns: Vec<(&str, ArrayRef)> = vec![("id", text)];
    for name in ["v", "name", "at"] {
        columns.push((name, Arc::clone(good.column_by_name(name).unwrap())));
    }
    let bad = RecordBatch::try_from_iter(columns).unwrap();
    assert!(matches!(table.stage_file(&bad, Some(true)).await, Err(LakeError::Bug(_))));
    let missing = good.project(&[0, 1]).unwrap();
    assert!(matches!(table.stage_file(&missing, Some(true)).await, Err(LakeError::Bug(_))));
    assert!(matches!(table.stage_file(&good, None).await, Err(LakeError::Bug(_))));
    assert!(matches!(
        table.stage_file(&good.slice(0, 0), Some(true)).await,
        Err(LakeError::Bug(_))
    ));
}

#[tokio::test]
async fn a_table_takes_over_new_columns_and_refuses_other_ones() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut table = open(&lake).await;
    append(&mut table, &[(1, 1)], true, 1).await;
    let with = |extra: Field| {
        let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
        fields.insert(1, Arc::new(extra));
        TableSpec { schema: Arc::new(Schema::new(fields)), ..spec() }
    };
    let grown = with(Field::new("note", DataType::Utf8, true));
    let mut table = Table::open_or_create(&lake, grown.clone()).await.unwrap();
    assert_eq!(table.version(), 2);
    assert_eq!(table.schema().fields().last().unwrap().name(), "note");
    let mut columns = rows(&[(2, 2)]).columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["new"])));
    let fields: Vec<_> =
        table.schema().fields().iter().filter(|f| f.name() != "_is_current").cloned().collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let staged = table.stage_file(&batch, Some(true)).await.unwrap();
    written(table.commit(commit(vec![staged], &[], 2)).await.unwrap());
    assert_eq!(scanned(&table).await, [(1, 1, true), (2, 2, true)]);
    assert_eq!(Table::open_or_create(&lake, grown).await.unwrap().version(), 3, "nothing to do");

    let dropped = Table::open_or_create(&lake, spec()).await;
    assert!(matches!(dropped, Err(LakeError::Mismatch(what)) if what.contains("note")));
    let other_type = with(Field::new("note", DataType::Int64, true));
    assert!(matches!(
        Table::open_or_create(&lake, other_type).await,
        Err(LakeError::Mismatch(what)) if what.contains("note")
    ));
    let plain = TableSpec { partition_by: None, ..spec() };
    assert!(matches!(Table::open_or_create(&lake, plain).await, Err(LakeError::Mismatch(_))));
}

#[tokio::test]
async fn the_protocol_says_exactly_what_the_table_needs() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    open(&lake).await;
    let plain = TableSpec {
        path: Path::from("bronze/shop/orders"),
        partition_by: None,
        deletion_vectors: false,
        ..spec()
    };
    Table::open_or_create(&lake, plain.clone()).await.unwrap();
    let protocol = |table: &str| {
        let log = folder.path().join(table).join("_delta_log/00000000000000000000.json");
        let log = fs::read_to_string(log).unwrap();
        let line = log.lines().find(|line| line.contains("protocol")).unwrap();
        serde_json::from_str::<Value>(line).unwrap()["protocol"].clone()
    };
    assert_eq!(
        protocol("silver/shop/orders"),
        json!({"minReaderVersion": 3, "minWriterVersion": 7,
               "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]})
    );
    assert_eq!(
        protocol("bronze/shop/orders"),
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    );
    let changed = TableSpec { deletion_vectors: true, ..plain };
    assert!(matches!(Table::open_or_create(&lake, changed).await, Err(LakeError::Mismatch(_))));
    assert!(Table::open(&lake, &Path::from("silver/shop/nothing")).await.unwrap().is_none());
}

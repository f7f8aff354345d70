//! A silver table that somebody else wrote into: what was done is found, and named.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use alluvium_lake::{Commit, CommitOutcome, FileId, StagedFile, Table, path};
use alluvium_layers::verify::{Difference, DifferenceKind, Rebuilt};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use roaring::RoaringTreemap;

use crate::platform::{Platform, files_below, people};
use crate::rebuild::{filled, land, verified};

/// Three closed versions of Ann's, and one that is open.
async fn sound() -> Platform {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    land(&platform, &topic, &[5], &[1, 2, 3, 4, 5]).await;
    platform
}

/// Commits as another writer would: no progress, no note.
async fn tamper(table: &mut Table, add: Vec<StagedFile>, delete: Vec<(FileId, u64)>) {
    let mut rows: BTreeMap<FileId, RoaringTreemap> = BTreeMap::new();
    for (file, row) in delete {
        rows.entry(file).or_default().insert(row);
    }
    let info = serde_json::Value::Null;
    let commit = Commit { add, delete: rows, txns: Vec::new(), info, operation: "TAMPER" };
    let outcome = table.commit(commit).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Written { .. }));
}

/// The open version: where it stands, and its columns but that of the partition.
async fn open_version(table: &Table) -> (FileId, u64, RecordBatch) {
    let current = table.files().filter(|file| file.current == Some(true));
    let current: Vec<FileId> = current.map(|file| file.id).collect();
    let rows = table.scan_files(&current, None).unwrap().next().await.unwrap().unwrap();
    let mut batch = rows.batch.slice(0, 1);
    batch.remove_column(batch.schema().index_of("_is_current").unwrap());
    (rows.file, rows.rows[0], batch)
}

fn with_name(batch: &RecordBatch, name: &str) -> RecordBatch {
    let at = batch.schema().index_of("name").unwrap();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns[at] = Arc::new(StringArray::from(vec![name]));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn rows_check(found: &Rebuilt) -> &alluvium_layers::verify::Check {
    found.checks.iter().find(|check| check.check == "rows of a rebuild").unwrap()
}

fn only(found: &Rebuilt) -> &Difference {
    assert_eq!(found.differences.len(), 1, "{found:#?}");
    assert_eq!(found.checks.iter().filter(|check| !check.holds).count(), 1, "{found:#?}");
    assert!(!rows_check(found).holds);
    &found.differences[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_altered_is_named_with_both_values() {
    let platform = sound().await;
    let mut table = platform.silver_table().await;
    let (file, row, batch) = open_version(&table).await;
    let staged = table.stage_file(&with_name(&batch, "Mallory"), Some(true)).await.unwrap();
    tamper(&mut table, vec![staged], vec![(file, row)]).await;
    let found = verified(&platform).await;
    let difference = only(&found);
    assert_eq!(difference.kind, DifferenceKind::Column);
    assert_eq!((difference.key.as_str(), difference.valid_from.as_str()), ("id=1", "60"));
    assert_eq!(difference.column.as_deref(), Some("name"));
    assert_eq!(difference.table.as_deref(), Some("Mallory"));
    assert_eq!(difference.rebuilt.as_deref(), Some("Zed"));
    assert!(rows_check(&found).detail.ends_with("0 only in the rebuild, 1 differ"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_removed_is_only_in_the_rebuild() {
    let platform = sound().await;
    let mut table = platform.silver_table().await;
    let (file, row, _) = open_version(&table).await;
    tamper(&mut table, Vec::new(), vec![(file, row)]).await;
    let found = verified(&platform).await;
    let difference = only(&found);
    assert_eq!(difference.kind, DifferenceKind::OnlyInRebuild);
    assert_eq!(difference.key, "id=1");
    assert_eq!(difference.rebuilt.as_deref(), Some("[60, null) name=Zed mood=old"));
    assert_eq!((&difference.table, &difference.column), (&None, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_doubled_is_once_only_in_the_table() {
    let platform = sound().await;
    let mut table = platform.silver_table().await;
    let (.., batch) = open_version(&table).await;
    let staged = table.stage_file(&batch, Some(true)).await.unwrap();
    tamper(&mut table, vec![staged], Vec::new()).await;
    let found = verified(&platform).await;
    let difference = only(&found);
    assert_eq!(difference.kind, DifferenceKind::OnlyInTable);
    assert_eq!(difference.table.as_deref(), Some("[60, null) name=Zed mood=old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_lost_file_are_only_in_the_rebuild() {
    let platform = sound().await;
    let rows = platform.silver_table().await.rows();
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    for file in files_below(&folder, ".parquet") {
        fs::remove_file(file).unwrap();
    }
    let found = verified(&platform).await;
    assert_eq!(found.differences.len() as u64, rows);
    assert!(found.differences.iter().all(|d| d.kind == DifferenceKind::OnlyInRebuild));
    let detail = &rows_check(&found).detail;
    assert!(detail.contains("cannot be read") && detail.contains("is not there"), "{detail}");
    let plain = alluvium_layers::verify::verify(&platform.lake, &platform.entity, |_, _| {}).await;
    let intervals = plain.unwrap().checks.into_iter().find(|check| check.check == "intervals");
    assert!(!intervals.unwrap().holds, "verify tells of it, and does not break off");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_differences_than_asked_for_are_counted_all_the_same() {
    let platform = Platform::new(people());
    let mut topic = crate::platform::Topic::of(&platform);
    let lines: Vec<String> = (0..100)
        .map(|id| {
            format!(r#"{{"op":"update","seq":1,"after":{{"id":{id},"name":"n","mood":"m"}}}}"#)
        })
        .collect();
    topic.mapped(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    land(&platform, &topic, &[1], &[1]).await;
    let mut table = platform.silver_table().await;
    let (file, ..) = open_version(&table).await;
    tamper(&mut table, Vec::new(), (0..90).map(|row| (file, row)).collect()).await;
    let found = verified(&platform).await;
    assert_eq!(found.differences.len(), 20);
    let detail = &rows_check(&found).detail;
    assert!(detail.starts_with("10 versions at offset 1, 100 rebuilt"), "{detail}");
    assert!(detail.contains("90 only in the rebuild"), "{detail}");
}

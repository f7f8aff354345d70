//! Maintenance of tables: compaction, checkpoints, cleanup and garbage, and that no reader sees any
//! of it in the rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_lake::table::{
    Compacted, CompactionOutcome, CompactionPolicy, Garbage, GarbageRemoved, Moved,
};
use alluvium_lake::{Commit, FileId, Lake, LakeError, Table};
use alluvium_model::clock::ManualClock;
use alluvium_model::{Clock, FencingToken, Ownership};
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use crate::readers::by_datafusion;
use crate::table::{commit, open, rows, scanned, schema, values, written};
use crate::{Dice, lake_in};

/// Later than anything that a test writes.
const LATER: i64 = 9_000_000_000_000;

fn policy() -> CompactionPolicy {
    CompactionPolicy { target_bytes: 1 << 20, fan_in: 4, deleted_percent: 25 }
}

async fn prepared(table: &Table) -> Option<Compacted> {
    let compaction = table.choose_compaction(&policy(), None).unwrap()?;
    Some(compaction.prepare().await.unwrap())
}

async fn add(table: &mut Table, values: &[(i64, i64)], number: i64) -> FileId {
    let staged = table.stage_file(&rows(values), Some(true)).await.unwrap();
    written(table.commit(commit(vec![staged], &[], number)).await.unwrap())[0]
}

/// Rows of several files of ten, among them deleted ones.
async fn filled(table: &mut Table, files: i64) -> Vec<FileId> {
    let mut ids = Vec::new();
    for file in 0..files {
        let values: Vec<_> = (0..10).map(|n| (file * 10 + n, file)).collect();
        ids.push(add(table, &values, file).await);
    }
    let delete = [(ids[0], &[0u64, 9][..]), (ids[1], &[4][..])];
    written(table.commit(commit(vec![], &delete, files)).await.unwrap());
    ids
}

fn folder(root: &tempfile::TempDir) -> PathBuf {
    root.path().join("silver/shop/orders")
}

/// Where a row has gone.
fn place(moved: &Moved, row: u64) -> u64 {
    moved.base + row - moved.left.rank(row)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_like_size_become_one_and_every_reader_sees_the_same_rows() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    filled(&mut table, 5).await;
    let before = scanned(&table).await;
    let compacted = prepared(&table).await.unwrap();
    assert_eq!((compacted.files(), compacted.rows()), (5, 47));
    let done = table.commit_compaction(compacted).await.unwrap();
    assert!(matches!(done, CompactionOutcome::Done { version: 7, .. }), "{done:?}");
    assert_eq!(table.files().count(), 1);
    assert_eq!(scanned(&table).await, before);
    assert!(prepared(&table).await.is_none(), "nothing is left to do");
    let again = open(&lake).await;
    assert_eq!(scanned(&again).await, before);
    assert_eq!(again.commit_info(), Some(&json!({"to": 5})), "what was said last is still known");
    assert_eq!(by_datafusion(&lake).await, before);
    let (ours, theirs) = (table.files().next().unwrap(), again.files().next().unwrap());
    assert_eq!((ours.rows, &ours.stats), (theirs.rows, &theirs.stats));
    let stats: Value = serde_json::from_str(&ours.stats).unwrap();
    assert_eq!((&stats["minValues"]["id"], &stats["maxValues"]["id"]), (&json!(1), &json!(49)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_deleted_between_preparing_and_committing_are_deleted_in_the_new_file() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let ids = filled(&mut table, 5).await;
    let paths: Vec<String> = ids.iter().map(|id| table.file(*id).unwrap().path.clone()).collect();
    let compacted = prepared(&table).await.unwrap();
    let all: Vec<u64> = (0..10).collect();
    let delete = [(ids[0], &[1u64, 8][..]), (ids[3], &[0, 5][..]), (ids[4], &all[..])];
    written(table.commit(commit(vec![], &delete, 9)).await.unwrap());
    add(&mut table, &[(900, 9)], 10).await;
    let before = scanned(&table).await;
    let CompactionOutcome::Done { moved, to, .. } =
        table.commit_compaction(compacted).await.unwrap()
    else {
        panic!("it was dropped");
    };
    assert_eq!(scanned(&table).await, before);
    assert_eq!(scanned(&open(&lake).await).await, before);
    assert_eq!(by_datafusion(&lake).await, before);
    let to = table.file_by_path(&to.unwrap()).unwrap();
    assert_eq!((to.rows, to.deleted.len()), (47, 14));
    for (number, path) in paths.iter().enumerate() {
        let moved = moved.iter().find(|moved| moved.from == *path).unwrap();
        for row in (0..10).filter(|row| !moved.left.contains(*row)) {
            let found = table.read_rows(to.id, &[place(moved, row)], None).await.unwrap();
            assert_eq!(values(&found)[0].0, number as i64 * 10 + row as i64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_another_writer_crossed_is_given_up_and_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    filled(&mut table, 5).await;
    let compacted = prepared(&table).await.unwrap();
    let mut other = open(&lake).await;
    add(&mut other, &[(700, 7)], 7).await;
    let crossed = table.commit_compaction(compacted).await.unwrap();
    assert_eq!(crossed, CompactionOutcome::Dropped);
    let mut table = open(&lake).await;
    let before = scanned(&table).await;
    assert_eq!(before.len(), 48);
    let theirs = prepared(&other).await.unwrap();
    let compacted = prepared(&table).await.unwrap();
    table.commit_compaction(compacted).await.unwrap();
    let mut other = open(&lake).await;
    assert_eq!(other.commit_compaction(theirs).await.unwrap(), CompactionOutcome::Dropped);
    assert_eq!(scanned(&other).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_most_of_which_is_deleted_is_written_anew_and_one_of_which_all_is_vanishes() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let many: Vec<(i64, i64)> = (0..50_000).map(|n| (n, n)).collect();
    let file = add(&mut table, &many, 1).await;
    let few: RoaringTreemap = (0..50_000).step_by(10).collect();
    let delete = Commit { delete: [(file, few)].into(), ..commit(vec![], &[], 2) };
    written(table.commit(delete).await.unwrap());
    assert!(prepared(&table).await.is_none(), "a tenth is not much");
    let more: RoaringTreemap = (0..50_000).filter(|n| n % 10 != 0 && n % 3 != 0).collect();
    let delete = Commit { delete: [(file, more)].into(), ..commit(vec![], &[], 3) };
    written(table.commit(delete).await.unwrap());
    let before = scanned(&table).await;
    let compacted = prepared(&table).await.unwrap();
    assert_eq!(compacted.rows(), before.len() as u64);
    let everything: RoaringTreemap =
        (0..50_000).filter(|n| !table.file(file).unwrap().deleted.contains(*n)).collect();
    let new = add(&mut table, &[(1, 1)], 4).await;
    let delete = Commit { delete: [(file, everything)].into(), ..commit(vec![], &[], 5) };
    let gone = table.commit(delete).await.unwrap();
    assert!(written(gone).is_empty());
    let outcome = table.commit_compaction(compacted).await.unwrap();
    assert_eq!(outcome, CompactionOutcome::Dropped, "nothing is left to put in their place");
    assert_eq!(table.files().map(|file| file.id).collect::<Vec<_>>(), [new]);
}

/// Rounds of random appends and deletes, with compaction prepared at one time and committed at
/// another.
#[tokio::test(flavor = "multi_thread")]
async fn many_rounds_with_compaction_between_give_the_same_rows_and_stay_few_files() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let mut dice = Dice(4_711);
    // Where each row stands, by id.
    let mut model: HashMap<i64, (String, u64)> = HashMap::new();
    let (mut next, mut under_way, mut most) = (0i64, None, 0);
    for number in 1..=150 {
        let mut delete: BTreeMap<FileId, RoaringTreemap> = BTreeMap::new();
        let mut ids: Vec<i64> = model.keys().copied().collect();
        ids.sort_unstable();
        ids.retain(|_| dice.below(10) == 0);
        for id in ids {
            let (path, row) = model.remove(&id).unwrap();
            delete.entry(table.file_by_path(&path).unwrap().id).or_default().insert(row);
        }
        let new: Vec<(i64, i64)> = (next..next + 40).map(|id| (id, number)).collect();
        next += 40;
        let staged = table.stage_file(&rows(&new), Some(true)).await.unwrap();
        model.extend((0..).zip(&new).map(|(row, new)| (new.0, (staged.path.clone(), row))));
        let change = Commit { delete, ..commit(vec![staged], &[], number) };
        written(table.commit(change).await.unwrap());
        if under_way.is_none() {
            under_way = prepared(&table).await;
        } else if dice.below(3) == 0 {
            let outcome = table.commit_compaction(under_way.take().unwrap()).await.unwrap();
            let CompactionOutcome::Done { to, moved, .. } = outcome else { panic!("dropped") };
            for (path, row) in model.values_mut() {
                if let Some(moved) = moved.iter().find(|moved| moved.from == *path) {
                    (*path, *row) = (to.clone().unwrap(), place(moved, *row));
                }
            }
        }
        most = most.max(table.files().count());
    }
    let found: Vec<i64> = scanned(&table).await.iter().map(|row| row.0).collect();
    let mut expected: Vec<i64> = model.keys().copied().collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(by_datafusion(&lake).await.len(), expected.len());
    for (id, (path, row)) in model.iter().take(50) {
        let file = table.file_by_path(path).unwrap().id;
        assert_eq!(values(&table.read_rows(file, &[*row], None).await.unwrap())[0].0, *id);
    }
    assert!(most <= 40, "there were {most} files at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_opens_from_our_checkpoint_and_every_reader_does_too() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    filled(&mut table, 3).await;
    let before = scanned(&table).await;
    let checkpoint = table.write_checkpoint(0).await.unwrap();
    assert_eq!(checkpoint.version, 4);
    let log = folder(&root).join("_delta_log");
    for version in 0..=4 {
        fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let again = open(&lake).await;
    assert_eq!((again.version(), again.txn("alluvium/silver/7")), (4, Some(3)));
    assert_eq!(again.commit_info(), Some(&json!({"to": 3})));
    assert_eq!(again.schema(), &schema(), "the metadata of columns are kept");
    assert_eq!(scanned(&again).await, before);
    assert_eq!(by_datafusion(&lake).await, before);
    let id = add(&mut table, &[(500, 5)], 6).await;
    written(table.commit(commit(vec![], &[(id, &[0])], 7)).await.unwrap());
    assert_eq!(scanned(&open(&lake).await).await, before);
    assert_eq!(by_datafusion(&lake).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    filled(&mut table, 3).await;
    table.write_checkpoint(0).await.unwrap();
    add(&mut table, &[(500, 5)], 9).await;
    table.write_checkpoint(0).await.unwrap();
    let before = scanned(&table).await;
    for version in [5, 4] {
        let path = folder(&root).join(format!("_delta_log/{version:020}.checkpoint.parquet"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let again = open(&lake).await;
        assert_eq!((again.version(), scanned(&again).await), (5, before.clone()));
        assert_eq!(again.commit_info(), Some(&json!({"to": 9})));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_leaves_what_the_last_checkpoint_but_one_needs() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    for number in 1..=9 {
        add(&mut table, &[(number, number)], number).await;
        if number % 3 == 0 {
            table.write_checkpoint(0).await.unwrap();
        }
    }
    // The commits of compaction say nothing of themselves.
    let quiet = Commit { info: Value::Null, txns: vec![], ..commit(vec![], &[], 0) };
    for _ in 0..3 {
        let staged = table.stage_file(&rows(&[(77, 7)]), Some(true)).await.unwrap();
        written(table.commit(Commit { add: vec![staged], ..quiet.clone() }).await.unwrap());
    }
    table.write_checkpoint(0).await.unwrap();
    let before = scanned(&table).await;
    assert_eq!(table.clean_log(0, 100).await.unwrap().removed, 0, "all of it is young");
    let first = table.clean_log(LATER, 4).await.unwrap();
    assert_eq!((first.removed, first.more), (4, true));
    assert_eq!(scanned(&open(&lake).await).await, before, "it may break off in the middle");
    let second = table.clean_log(LATER, 100).await.unwrap();
    assert_eq!((second.removed, second.more), (7, false));
    assert_eq!(table.clean_log(LATER, 100).await.unwrap().removed, 0);
    let again = open(&lake).await;
    assert_eq!((again.version(), scanned(&again).await), (12, before.clone()));
    assert_eq!(again.commit_info(), Some(&json!({"to": 9})), "its commit is cleaned away");
    assert_eq!(by_datafusion(&lake).await, before);
    let newest = folder(&root).join("_delta_log/00000000000000000012.checkpoint.parquet");
    fs::remove_file(newest).unwrap();
    let again = open(&lake).await;
    assert_eq!((again.version(), scanned(&again).await), (12, before.clone()));
    assert_eq!(again.commit_info(), Some(&json!({"to": 9})));
}

async fn collect(table: &mut Table, before_ms: i64, limit: usize) -> GarbageRemoved {
    let root = table.path().clone().join("_alluvium").join("hidden");
    let kept = root.join("kept");
    let keep = |path: &Path| *path == kept;
    let mut after: Option<Path> = None;
    let mut all = GarbageRemoved::default();
    loop {
        let beside = "_alluvium/hidden";
        let garbage = Garbage { before_ms, after: after.as_ref(), limit, beside, keep: &keep };
        let step = table.remove_garbage(&garbage).await.unwrap();
        all.removed += step.removed;
        all.bytes += step.bytes;
        after = step.next;
        if after.is_none() {
            return all;
        }
    }
}

fn objects(root: &tempfile::TempDir) -> BTreeSet<String> {
    let top = folder(root);
    let mut found = BTreeSet::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => {
                    let relative = entry.strip_prefix(&top).unwrap();
                    found.insert(relative.to_string_lossy().into_owned());
                }
            }
        }
    }
    found.retain(|path| !path.starts_with("_delta_log"));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_removes_orphans_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let ids = filled(&mut table, 5).await;
    written(table.commit(commit(vec![], &[(ids[1], &[5])], 6)).await.unwrap());
    let compacted = prepared(&table).await.unwrap();
    table.commit_compaction(compacted).await.unwrap();
    let moved = table.files().next().unwrap().id;
    written(table.commit(commit(vec![], &[(moved, &[0])], 7)).await.unwrap());
    table.stage_file(&rows(&[(1, 1)]), Some(true)).await.unwrap();
    let side = folder(&root).join("_alluvium/hidden");
    fs::create_dir_all(&side).unwrap();
    fs::write(side.join("kept"), "1").unwrap();
    fs::write(side.join("left"), "1").unwrap();
    for foreign in ["notes.txt", "_is_current=true/other.parquet", "_alluvium/else"] {
        fs::write(folder(&root).join(foreign), "1").unwrap();
    }
    let before = scanned(&table).await;
    let all = objects(&root);
    // Five inputs, two vectors of theirs, an orphan and a side file.
    assert_eq!(collect(&mut table, 0, 100).await.removed, 0, "all of it is young");
    assert_eq!(objects(&root), all);
    let removed = collect(&mut table, LATER, 3).await;
    assert_eq!(removed.removed, 9);
    assert!(removed.bytes > 0);
    let left = objects(&root);
    assert_eq!(left.len(), all.len() - 9);
    for kept in ["notes.txt", "_is_current=true/other.parquet", "_alluvium/else"] {
        assert!(left.contains(kept), "{kept}");
    }
    assert!(left.contains("_alluvium/hidden/kept") && !left.contains("_alluvium/hidden/left"));
    assert_eq!(scanned(&open(&lake).await).await, before);
    assert_eq!(by_datafusion(&lake).await, before);
    assert_eq!(collect(&mut table, LATER, 100).await.removed, 0);
}

/// What left the table a moment ago stays for those who still read it, however old it is; a
/// checkpoint remembers it.
#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_table_lately_stays_for_those_who_read_it() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    filled(&mut table, 5).await;
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    for path in objects(&root) {
        let file = fs::File::options().write(true).open(folder(&root).join(path)).unwrap();
        file.set_times(old).unwrap();
    }
    let reader = open(&lake).await;
    let compacted = prepared(&table).await.unwrap();
    table.commit_compaction(compacted).await.unwrap();
    table.write_checkpoint(1_000).await.unwrap();
    for mut table in [table, open(&lake).await] {
        assert_eq!(collect(&mut table, 1_000, 100).await.removed, 0);
        assert_eq!(scanned(&reader).await, scanned(&table).await);
    }
}

/// Whether others have written the table since cannot be told then.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_version_whose_entry_is_gone_nothing_is_collected() {
    let root = tempfile::tempdir().unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    filled(&mut table, 2).await;
    table.stage_file(&rows(&[(1, 1)]), Some(true)).await.unwrap();
    table.write_checkpoint(0).await.unwrap();
    let entry = format!("_delta_log/{:020}.json", table.version());
    fs::remove_file(folder(&root).join(entry)).unwrap();
    let mut table = open(&lake).await;
    assert_eq!(collect(&mut table, LATER, 100).await.removed, 0);
    add(&mut table, &[(900, 9)], 9).await;
    assert_eq!(collect(&mut table, LATER, 100).await.removed, 1);
}

/// A thousand small commits: what opening costs, and what stands in memory, does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_commits_leave_few_files_and_a_short_log() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let lake = lake_in(root.path());
    let mut table = open(&lake).await;
    let mut last: Option<(String, u64)> = None;
    let mut most = 0;
    for number in 1..=1_000i64 {
        let staged =
            table.stage_file(&rows(&[(number, 0), (-number, 1)]), Some(true)).await.unwrap();
        let path = staged.path.clone();
        let delete: BTreeMap<FileId, RoaringTreemap> = last
            .take()
            .and_then(|(path, row)| Some((table.file_by_path(&path)?.id, [row])))
            .into_iter()
            .map(|(id, rows): (FileId, [u64; 1])| (id, rows.into_iter().collect()))
            .collect();
        let change = Commit { delete, ..commit(vec![staged], &[], number) };
        written(table.commit(change).await.unwrap());
        if number % 2 == 0 {
            last = Some((path, 1));
        }
        if let Some(compacted) = prepared(&table).await {
            let outcome = table.commit_compaction(compacted).await.unwrap();
            if let CompactionOutcome::Done { to, moved, .. } = outcome {
                last = last.and_then(|(path, row)| {
                    match moved.iter().find(|moved| moved.from == path) {
                        Some(moved) => Some((to.clone()?, place(moved, row))),
                        None => Some((path, row)),
                    }
                });
            }
        }
        if number % 50 == 0 {
            table.write_checkpoint(LATER).await.unwrap();
            table.clean_log(LATER, 1_000).await.unwrap();
            collect(&mut table, LATER, 1_000).await;
        }
        most = most.max(table.files().count());
    }
    assert!(most <= 25, "there were {most} files at a time");
    let log = fs::read_dir(folder(&root).join("_delta_log")).unwrap().count();
    assert!(log < 250, "{log} objects stand in the log");
    let left = objects(&root).len();
    assert!(left < 150, "{left} objects stand beside the log");
    let again = open(&lake).await;
    assert_eq!(scanned(&again).await, scanned(&table).await);
    assert_eq!(again.txn("alluvium/silver/7"), Some(1_000));
    assert_eq!(by_datafusion(&lake).await, scanned(&table).await);
}

/// Whoever reads the table begins with it, so that only its writer may put one there.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_begun_is_not_written_once_the_lease_is_over() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let lake = Lake::local(root.path(), clock.clone()).unwrap();
    let lease = Duration::from_secs(60);
    let owner = Ownership::new(FencingToken(7), clock.clone(), clock.instant() + lease);
    let mut table = open(&lake.held_by(owner)).await;
    table.claim().await.unwrap();
    let draft = table.draft_checkpoint(0).unwrap();
    clock.advance(lease);
    let error = draft.write().await.unwrap_err();
    assert!(matches!(error, LakeError::Fenced(_)), "{error}");
    let log = lake.list(&table.path().clone().join("_delta_log")).await.unwrap();
    let named = |part: &str| log.iter().any(|object| object.location.as_ref().contains(part));
    assert!(!named("checkpoint"));
}

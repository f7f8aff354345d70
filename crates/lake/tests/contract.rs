//! What a lake promises, whatever its store is: run on a folder and on a bucket.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use alluvium_lake::raw::{self, Landed, RawTotals};
use alluvium_lake::store::Created;
use alluvium_lake::table::{CompactionOutcome, CompactionPolicy, Garbage};
use alluvium_lake::{Commit, CommitOutcome, FileId, Lake, Table, Versions};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use roaring::RoaringTreemap;
use serde_json::json;

use crate::raw::{entity, land, message, span};
use crate::readers::by_datafusion;
use crate::table::{commit, open, rows, scanned, spec, values, written};
use crate::{lake_in, s3};

type Promise = for<'l> fn(&'l Lake) -> Pin<Box<dyn Future<Output = ()> + 'l>>;

/// All promises, each to be tried on a lake of its own.
const PROMISES: [(&str, Promise); 8] = [
    ("objects", |lake| Box::pin(an_object_is_created_once_and_then_left_alone(lake))),
    ("race", |lake| Box::pin(of_many_who_create_an_object_one_wins(lake))),
    ("listing", |lake| Box::pin(what_is_put_is_listed_in_order_and_can_be_removed(lake))),
    ("parts", |lake| Box::pin(an_upload_in_parts_appears_whole_or_not_at_all(lake))),
    ("raw", |lake| Box::pin(raw_objects_follow_each_other_and_are_read_back(lake))),
    ("writers", |lake| Box::pin(of_two_writers_one_meets_a_conflict(lake))),
    ("upkeep", |lake| Box::pin(upkeep_changes_no_row_and_removes_what_is_not_needed(lake))),
    ("rows", |lake| Box::pin(some_rows_of_a_file_are_read(lake))),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_in_a_folder_keeps_what_a_lake_promises() {
    let folder = tempfile::tempdir().unwrap();
    for (name, promise) in PROMISES {
        promise(&lake_in(&folder.path().join(name))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_in_a_bucket_keeps_what_a_lake_promises() {
    let Some(server) = alluvium_testkit::S3Server::start() else { return };
    // The line serves one at a time, as this store's own check and write are not one step.
    let proxy = server.proxy();
    for (name, promise) in PROMISES {
        let lake = s3::lake(&proxy.endpoint(), &format!("at/{name}"));
        promise(&lake.fit_to_write().await.unwrap()).await;
    }
    // A bucket may be a lake as a whole.
    promise_of("objects")(&s3::lake(&server.endpoint(), "")).await;
}

fn promise_of(name: &str) -> Promise {
    PROMISES.iter().find(|(known, _)| *known == name).unwrap().1
}

async fn an_object_is_created_once_and_then_left_alone(lake: &Lake) {
    let path = Path::from("a/b/c");
    assert_eq!(lake.create(&path, "first".into()).await.unwrap(), Created::Written);
    assert_eq!(lake.create(&path, "other".into()).await.unwrap(), Created::AlreadyThere);
    assert_eq!(lake.create(&path, "longer".into()).await.unwrap(), Created::AlreadyThere);
    assert_eq!(lake.get(&path).await.unwrap().unwrap(), "first");
    lake.put(&path, "third".into()).await.unwrap();
    assert_eq!(lake.get(&path).await.unwrap().unwrap(), "third");
    assert_eq!(lake.get(&Path::from("a/b/d")).await.unwrap(), None);
    assert!(lake.is_any_below(&Path::from("a")).await.unwrap());
    assert!(!lake.is_any_below(&Path::from("a/b/cd")).await.unwrap());
    assert_eq!(lake.folders(&Path::from("a")).await.unwrap(), [Path::from("a/b")]);
    assert_eq!(lake.folders(&Path::from("nowhere")).await.unwrap(), []);
}

async fn of_many_who_create_an_object_one_wins(lake: &Lake) {
    let path = Path::from("contested");
    let tries = (0..8u8).map(|n| {
        let (lake, path) = (lake.clone(), path.clone());
        async move { lake.create(&path, PutPayload::from(vec![n; 10_000])).await.unwrap() }
    });
    let outcomes = futures::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|o| **o == Created::Written).count(), 1);
    let bytes = lake.get(&path).await.unwrap().unwrap();
    assert!(bytes.len() == 10_000 && bytes.iter().all(|b| *b == bytes[0]));
    assert_eq!(outcomes[usize::from(bytes[0])], Created::Written, "who won knows it");
}

async fn what_is_put_is_listed_in_order_and_can_be_removed(lake: &Lake) {
    let names = ["t/x=true/1", "t/3", "t/x=false/2", "t/10", "t-1", "t/x=false/10"];
    let paths = names.map(Path::from);
    for path in &paths {
        lake.put_unsynced(path, "data".into()).await.unwrap();
    }
    lake.sync_all(&paths).await.unwrap();
    let listed = || async {
        let all = lake.list(&Path::from("t")).await.unwrap();
        all.into_iter().map(|meta| meta.location.to_string()).collect::<Vec<_>>()
    };
    let expected = ["t/10", "t/3", "t/x=false/10", "t/x=false/2", "t/x=true/1"];
    assert_eq!(listed().await, expected);
    lake.delete(&Path::from("t/3")).await.unwrap();
    lake.delete(&Path::from("t/3")).await.unwrap();
    let doomed = ["t/10", "t/none", "t/x=false/2"].map(Path::from);
    lake.delete_all(doomed.to_vec()).await.unwrap();
    assert_eq!(listed().await, ["t/x=false/10", "t/x=true/1"]);
    lake.store().rename(&Path::from("t/x=true/1"), &Path::from("u/1")).await.unwrap();
    assert_eq!(lake.get(&Path::from("u/1")).await.unwrap().unwrap(), "data");
    assert_eq!(listed().await, ["t/x=false/10"]);
}

async fn an_upload_in_parts_appears_whole_or_not_at_all(lake: &Lake) {
    let path = Path::from("parts");
    let (first, second) = (vec![1u8; 5 << 20], vec![2u8; 77]);
    let mut upload = lake.store().put_multipart(&path).await.unwrap();
    let parts = (upload.put_part(first.clone().into()), upload.put_part(second.clone().into()));
    futures::future::try_join(parts.1, parts.0).await.unwrap();
    assert_eq!(lake.get(&path).await.unwrap(), None);
    upload.complete().await.unwrap();
    assert!(lake.get(&path).await.unwrap().unwrap() == [first, second].concat());
    // One that is large enough to be sent in parts by itself.
    let large = Path::from("large");
    let bytes: Vec<u8> = (0..17u32 << 20).map(|n| (n >> 12) as u8).collect();
    lake.put_unsynced(&large, bytes.clone().into()).await.unwrap();
    lake.sync_all(std::slice::from_ref(&large)).await.unwrap();
    assert!(lake.get(&large).await.unwrap().unwrap() == bytes);
    // So large that it would be sent in parts, and yet created once.
    let landed = Path::from("landed");
    assert_eq!(lake.create(&landed, bytes.into()).await.unwrap(), Created::Written);
    assert_eq!(lake.create(&landed, "x".into()).await.unwrap(), Created::AlreadyThere);
}

async fn raw_objects_follow_each_other_and_are_read_back(lake: &Lake) {
    assert_eq!(raw::last(lake, &entity()).await.unwrap(), None);
    let (mut totals, mut headers) = (RawTotals::default(), Vec::new());
    for offset in 1..=4 {
        let messages = [message(offset, "{\"id\":1}\n{\"id\":2}", offset % 2 == 0)];
        let landed = land(lake, span(offset - 1, offset), &messages, totals).await.unwrap();
        let Landed::Written(header) = landed else { panic!("{landed:?}") };
        header.check_follows(headers.last()).unwrap();
        totals = header.totals;
        headers.push(header);
    }
    assert_eq!(raw::last(lake, &entity()).await.unwrap().as_ref(), headers.last());
    let listed = raw::list(lake, &entity()).await.unwrap();
    for (object, header) in listed.iter().zip(&headers) {
        let (read, messages) = raw::read(lake, object).await.unwrap();
        assert_eq!((&read, messages.len()), (header, 1));
    }
    // Who cut his span elsewhere is told where the other's ends.
    let messages = [message(4, "{}", true), message(5, "{}", true)];
    let other = land(lake, span(3, 5), &messages, headers[2].totals).await.unwrap();
    assert_eq!(other, Landed::AlreadyThere(headers[3].clone()));
}

async fn of_two_writers_one_meets_a_conflict(lake: &Lake) {
    let (mut one, mut other) = (open(lake).await, open(lake).await);
    let staged = one.stage_file(&rows(&[(1, 1), (2, 2)]), Some(true)).await.unwrap();
    let file = written(one.commit(commit(vec![staged], &[], 1)).await.unwrap())[0];
    written(one.commit(commit(vec![], &[(file, &[1])], 2)).await.unwrap());
    let staged = other.stage_file(&rows(&[(3, 3)]), Some(true)).await.unwrap();
    let late = commit(vec![staged], &[], 3);
    assert_eq!(other.commit(late.clone()).await.unwrap(), CommitOutcome::Conflict);
    let mut other = open(lake).await;
    assert_eq!(other.txn("alluvium/silver/7"), Some(2));
    written(other.commit(late).await.unwrap());
    let expected = [(1, 1, true), (3, 3, true)];
    assert_eq!(scanned(&open(lake).await).await, expected);
    assert_eq!(by_datafusion(lake).await, expected);
    let versions = Versions::of(lake, &spec().path).await.unwrap().unwrap();
    assert_eq!((versions.oldest(), versions.newest()), (0, 3));
    let first = versions.committed_at(0).await.unwrap().unwrap();
    assert!(versions.newest_at(first).await.unwrap().is_some());
}

async fn upkeep_changes_no_row_and_removes_what_is_not_needed(lake: &Lake) {
    let mut table = open(lake).await;
    for file in 0..5 {
        let values: Vec<_> = (0..10).map(|n| (file * 10 + n, file)).collect();
        let staged = table.stage_file(&rows(&values), Some(true)).await.unwrap();
        let added = written(table.commit(commit(vec![staged], &[], file)).await.unwrap());
        let delete = BTreeMap::from([(added[0], RoaringTreemap::from_iter([0, 9]))]);
        let change = Commit { delete, ..commit(vec![], &[], file) };
        written(table.commit(change).await.unwrap());
        table.write_checkpoint(0).await.unwrap();
    }
    let before = scanned(&table).await;
    let policy = CompactionPolicy { target_bytes: 1 << 20, fan_in: 4, deleted_percent: 50 };
    let compaction = table.choose_compaction(&policy, None).unwrap().unwrap();
    let compacted = compaction.prepare().await.unwrap();
    let done = table.commit_compaction(compacted).await.unwrap();
    assert!(matches!(done, CompactionOutcome::Done { version: 11, .. }), "{done:?}");
    table.write_checkpoint(0).await.unwrap();

    let later = lake.clock().now().as_millisecond() + 60_000;
    let cleaned = table.clean_log(later, 100).await.unwrap();
    assert!(cleaned.removed > 10 && !cleaned.more, "{cleaned:?}");
    let orphan = table.stage_file(&rows(&[(999, 9)]), Some(true)).await.unwrap();
    let mut collect = async |before_ms| {
        let keep = |_: &Path| false;
        let garbage = Garbage { before_ms, after: None, limit: 100, beside: "", keep: &keep };
        table.remove_garbage(&garbage).await.unwrap().removed
    };
    assert_eq!(collect(later - 3_600_000).await, 0, "what is young stays");
    assert_eq!(collect(later).await, 5 + 5 + 1, "five files, five vectors and an orphan");
    let place = Path::from(format!("{}/{}", spec().path, orphan.path));
    assert_eq!(lake.get(&place).await.unwrap(), None);
    assert_eq!(scanned(&open(lake).await).await, before);
    assert_eq!(by_datafusion(lake).await, before);
    assert_eq!(open(lake).await.commit_info(), Some(&json!({"to": 4})));
}

async fn some_rows_of_a_file_are_read(lake: &Lake) {
    let mut table: Table = open(lake).await;
    let all: Vec<_> = (0..50_000).map(|n| (n, n * 3)).collect();
    let staged = table.stage_file(&rows(&all), Some(true)).await.unwrap();
    let file: FileId = written(table.commit(commit(vec![staged], &[], 1)).await.unwrap())[0];
    let wanted = [0, 1, 7_777, 31_000, 49_999];
    let read = table.read_rows(file, &wanted, None).await.unwrap();
    let expected: Vec<_> = wanted.map(|n| (n as i64, n as i64 * 3, true)).to_vec();
    assert_eq!(values(&read), expected);
    let some = table.read_rows(file, &[40_000], Some(&["v"])).await.unwrap();
    assert_eq!((some.num_columns(), some.num_rows()), (1, 1));
    assert_eq!(scanned(&table).await.len(), all.len());
}

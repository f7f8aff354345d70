//! A batch stopped at each point at which it waits for the lake: killed there, or crossed there by
//! somebody else's commit.

use std::collections::BTreeSet;
use std::fs;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use alluvium_lake::table::CompactionOutcome;
use alluvium_lake::upkeep::UpkeepPolicy;
use alluvium_lake::{Commit, CommitOutcome, path};
use alluvium_model::{Applied, Delivery, Stage, StageError, Upkeep};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::crash::filled;
use crate::evolution::{grown, notes};
use crate::platform::{Platform, Rows, Topic, apply, eager, files_below, people, rows};

/// No batch waits more often.
const MOST: usize = 500;

/// Threads for the disk: as many as what somebody else does meanwhile needs at once.
const DISK: usize = 4;

/// A runtime in which a batch can be led from one wait to the next.
pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(DISK).enable_all().build().unwrap()
}

/// Holds all threads of the disk, once they have done what they were asked for, until what it
/// returns is dropped.
async fn holding_the_disk() -> Vec<mpsc::Sender<()>> {
    let mut held = Vec::new();
    for _ in 0..DISK {
        let (release, released) = mpsc::channel::<()>();
        let (begins, begun) = oneshot::channel();
        tokio::task::spawn_blocking(move || begins.send(()).is_ok() && released.recv().is_ok());
        begun.await.unwrap();
        held.push(release);
    }
    held
}

/// Lets a batch ask so often for what it has to wait for, and the disk do it each time. `None`: the
/// batch is not done, and does not know yet that what it asked for last was done.
async fn led<F: Future>(future: &mut Pin<Box<F>>, waits: usize) -> Option<F::Output> {
    for _ in 0..waits {
        // Nothing that is asked for now is done before the batch waits.
        let held = holding_the_disk().await;
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        drop(held);
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
    }
    drop(holding_the_disk().await);
    None
}

/// An entity, its topic, and the message at which something happens.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) entity: fn() -> Value,
    pub(crate) topic: fn(&Platform) -> Topic,
    pub(crate) at: u64,
    /// What comes to stand one after the other, before the index is written.
    pub(crate) comes: &'static [&'static str],
}

/// A batch that closes, hides and deletes, and one that brings a column besides.
pub(crate) const SCENES: [Scene; 2] = [
    Scene {
        entity: people,
        topic: filled,
        at: 4,
        comes: &["nothing", "data", "a side file", "deletion vectors", "the commit"],
    },
    Scene {
        entity: || notes("evolve"),
        topic: grown,
        at: 2,
        // The columns are a commit of their own.
        comes: &["nothing", "the commit"],
    },
];

impl Scene {
    /// All before the message is applied.
    async fn set(self) -> (Platform, Topic) {
        let platform = Platform::quick((self.entity)());
        let topic = (self.topic)(&platform);
        let mut stage = platform.silver();
        for offset in 0..self.at {
            apply(&mut stage, &topic.delivery(offset, offset + 1)).await;
        }
        (platform, topic)
    }

    pub(crate) async fn undisturbed(self) -> Rows {
        let platform = Platform::quick((self.entity)());
        let topic = (self.topic)(&platform);
        apply(&mut platform.silver(), &topic.all()).await;
        rows(&platform).await
    }

    pub(crate) fn delivery(self, topic: &Topic) -> Delivery {
        topic.delivery(self.at, self.at + 1)
    }

    /// Delivers from the message on, as a bus does that knows of no acknowledgement.
    async fn go_on(self, platform: &Platform, topic: &Topic) {
        let mut stage = platform.silver();
        for offset in self.at..topic.end() {
            stage.apply(&topic.delivery(offset, offset + 1)).await.unwrap();
        }
    }
}

/// The table version that the index reflects.
fn reflected(platform: &Platform) -> Option<i64> {
    platform.index().reflects().unwrap().map(|reflects| reflects.mark.version)
}

fn folder(platform: &Platform) -> PathBuf {
    platform.lake_folder().join(path::silver(&platform.id()).as_ref())
}

fn files(platform: &Platform) -> BTreeSet<PathBuf> {
    files_below(&folder(platform), "").into_iter().collect()
}

/// What of a batch had come to stand when it was killed.
fn came(platform: &Platform, before: &BTreeSet<PathBuf>) -> &'static str {
    let new: Vec<String> = files(platform)
        .difference(before)
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let is_there = |suffix: &str| new.iter().any(|name| name.ends_with(suffix));
    match () {
        () if is_there(".json") => "the commit",
        () if is_there(".bin") => "deletion vectors",
        () if is_there(".ndjson.zst") => "a side file",
        () if is_there(".parquet") => "data",
        () => "nothing",
    }
}

/// Collects all that is part of nothing; says whether nothing else is left.
pub(crate) async fn collects_all(platform: &Platform) -> bool {
    let at_once = UpkeepPolicy { keep_garbage: Duration::ZERO, ..UpkeepPolicy::default() };
    let mut stage = platform.silver().with_upkeep(at_once);
    stage.maintain(Upkeep::All).await.unwrap();
    let data = files_below(&folder(platform), ".zstd.parquet").len();
    data == platform.silver_table().await.files().count()
}

#[test]
fn a_batch_that_is_killed_anywhere_is_applied_once() {
    for scene in SCENES {
        let expected = runtime().block_on(scene.undisturbed());
        let mut seen = BTreeSet::new();
        let mut is_done = false;
        for waits in 1..MOST {
            let (platform, topic) = runtime().block_on(scene.set());
            let before = files(&platform);
            let version = reflected(&platform);
            assert!(version.is_some());
            is_done = runtime().block_on(async {
                let mut stage = platform.silver();
                let delivery = scene.delivery(&topic);
                let mut future = Box::pin(stage.apply(&delivery));
                led(&mut future, waits).await.is_some()
            });
            let came = came(&platform, &before);
            let indexed = reflected(&platform) > version;
            seen.insert((came, indexed, is_done));
            runtime().block_on(async {
                scene.go_on(&platform, &topic).await;
                assert_eq!(rows(&platform).await, expected, "after {waits} waits: {came}");
                assert!(collects_all(&platform).await, "after {waits} waits: {came}");
                assert_eq!(rows(&platform).await, expected, "after {waits} waits: {came}");
            });
            if is_done {
                break;
            }
        }
        assert!(is_done);
        for came in scene.comes {
            assert!(seen.contains(&(came, false, false)), "never killed after {came}: {seen:?}");
        }
        assert!(seen.contains(&("the commit", true, true)), "{seen:?}");
    }
}

/// Stops the batch at each point, does something there, and lets it go on. `foreign` says whether
/// it came first.
pub(crate) async fn crossed<D>(scene: Scene, foreign: impl Fn(&Platform, &Topic) -> D)
where
    D: Future<Output = bool>,
{
    let expected = scene.undisturbed().await;
    let (mut noticed, mut is_done) = (0, false);
    for waits in 1..MOST {
        let (platform, topic) = scene.set().await;
        let mut stage = platform.silver();
        stage.progress().await.unwrap();
        let delivery = scene.delivery(&topic);
        let mut future = Box::pin(stage.apply(&delivery));
        let early = led(&mut future, waits).await;
        is_done = early.is_some();
        let came_first = foreign(&platform, &topic).await;
        let outcome = match early {
            Some(outcome) => outcome,
            None => future.as_mut().await,
        };
        drop(future);
        noticed += usize::from(is_noticed(&outcome));
        assert!(is_noticed(&outcome) || is_done || !came_first, "after {waits} waits");
        drop(stage);
        scene.go_on(&platform, &topic).await;
        assert_eq!(rows(&platform).await, expected, "after {waits} waits");
        if is_done {
            break;
        }
    }
    assert!(is_done && noticed > 1, "noticed {noticed} times");
}

/// Whether a batch said that it has to be planned anew.
pub(crate) fn is_noticed(outcome: &Result<Vec<Applied>, StageError>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(error) => {
            assert!(error.remedy().is_retry(), "{error}");
            true
        }
    }
}

#[test]
fn a_compaction_by_somebody_else_within_a_batch_is_noticed() {
    // There is something to put together by then.
    for at in [5, 6] {
        let scene = Scene { at, ..SCENES[1] };
        let crossed = crossed(scene, |platform, topic| {
            let (lake, id) = (platform.lake.clone(), platform.id());
            let end = serde_json::json!(scene.delivery(topic).span.to);
            async move {
                let table = alluvium_lake::Table::open(&lake, &path::silver(&id)).await;
                let mut table = table.unwrap().unwrap();
                // What was asked for last was done, and may have been the commit.
                let is_late = table.commit_info().is_some_and(|info| info["span"]["to"] == end);
                let compaction = table.choose_compaction(&eager().compaction, None).unwrap();
                let compacted = compaction.unwrap().prepare().await.unwrap();
                let outcome = table.commit_compaction(compacted).await.unwrap();
                !is_late && matches!(outcome, CompactionOutcome::Done { .. })
            }
        });
        runtime().block_on(crossed);
    }
}

#[test]
fn another_writer_that_applies_the_same_batch_within_it_is_noticed() {
    for scene in SCENES {
        let crossed = crossed(scene, |platform, topic| {
            let (mut other, delivery) = (platform.silver_elsewhere(), scene.delivery(topic));
            async move { other.apply(&delivery).await.is_ok_and(|applied| !applied.is_empty()) }
        });
        runtime().block_on(crossed);
    }
}

/// Two people, one of whom is to be forgotten.
pub(crate) fn two(platform: &Platform) -> Topic {
    let line = |seq: i64, id: i64, name: &str| {
        json!({"op": "update", "seq": seq, "after": {"id": id, "name": name}}).to_string()
    };
    let mut topic = Topic::of(platform);
    topic.mapped(&[&line(10, 1, "Ann"), &line(10, 2, "Kim"), &line(15, 2, "Kit")]);
    topic.mapped(&[&line(20, 1, "Bob")]);
    topic.mapped(&[&line(30, 1, "Cid"), &line(30, 2, "Lee"), &line(12, 1, "Zoe")]);
    topic
}

/// Deletes all rows of one person. Whether nobody came before.
async fn forget(platform: &Platform, id: i64) -> bool {
    let mut table = platform.silver_table().await;
    let mut delete = std::collections::BTreeMap::new();
    let mut scan = table.scan(None).unwrap();
    while let Some(found) = scan.next().await {
        let found = found.unwrap();
        let ids = found.batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
        let rows: roaring::RoaringTreemap =
            (0..ids.len()).filter(|at| ids.value(*at) == id).map(|at| found.rows[at]).collect();
        if !rows.is_empty() {
            delete.entry(found.file).or_insert_with(roaring::RoaringTreemap::new).extend(rows);
        }
    }
    let commit = Commit {
        add: Vec::new(),
        delete,
        txns: Vec::new(),
        info: Value::Null,
        operation: "DELETE",
    };
    matches!(table.commit(commit).await.unwrap(), CommitOutcome::Written { .. })
}

#[test]
fn rows_that_somebody_else_deletes_within_a_batch_are_gone_and_nothing_else() {
    runtime()
        .block_on(forgotten_within_a_batch(async |platform: &Platform| forget(platform, 2).await));
}

/// Has the second of [`two`] forgotten at each point of the batch.
pub(crate) async fn forgotten_within_a_batch(forget: impl AsyncFn(&Platform) -> bool) {
    let mut before = false;
    for waits in 0..MOST {
        let platform = Platform::quick(people());
        let topic = two(&platform);
        apply(&mut platform.silver(), &topic.delivery(0, 2)).await;
        let mut stage = platform.silver();
        stage.progress().await.unwrap();
        let delivery = topic.newest();
        let mut future = Box::pin(stage.apply(&delivery));
        let early = led(&mut future, waits).await;
        if early.is_some() {
            break;
        }
        assert!(forget(&platform).await);
        if is_noticed(&future.as_mut().await) {
            before = true;
            drop(future);
            assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
            apply(&mut stage, &delivery).await;
        }
        let mut expected = vec![
            "1 Ann [10,12) u".to_owned(),
            "1 Zoe [12,20) u".to_owned(),
            "1 Bob [20,30) u".to_owned(),
            "1 Cid [30,-) u".to_owned(),
        ];
        let found = platform.history(&["id", "name"]).await;
        if found.iter().any(|row| row.starts_with('2')) {
            expected.push("2 Lee [30,-) u".to_owned());
        }
        assert_eq!(found, expected, "after {waits} waits");
    }
    assert!(before);
}

/// A file that the table needs and that somebody removed is an error for the operator, and whatever
/// needs none of its rows goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_removed_is_named_and_not_passed_over() {
    let platform = Platform::quick(people());
    let topic = two(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 2)).await;
    for file in files_below(&folder(&platform).join("_is_current=false"), ".zstd.parquet") {
        fs::remove_file(file).unwrap();
    }
    let mut stage = platform.silver();
    let error = stage.apply(&topic.newest()).await.unwrap_err();
    assert!(error.to_string().contains(".zstd.parquet"), "{error}");
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
    platform.index().clear().unwrap();
    let error = platform.silver().progress().await.unwrap_err();
    assert!(error.to_string().contains(".zstd.parquet"), "{error}");
}

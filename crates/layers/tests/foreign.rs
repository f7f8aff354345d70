//! OPTIMIZE, DELETE and VACUUM by another library, delta-rs: within a batch, at each point at which
//! it waits for the lake, and between batches.

use std::fs::{self, File, FileTimes};
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use alluvium_lake::{Lake, Table, path};
use alluvium_layers::verify::verify;
use alluvium_model::clock::ManualClock;
use alluvium_model::{Clock, Layer, Stage, StageError, SystemClock, Upkeep};
use deltalake::DeltaTable;
use deltalake::checkpoints::create_checkpoint_from_table_url_and_cleanup;
use deltalake::operations::optimize::OptimizeType;
use deltalake::operations::vacuum::VacuumMode;
use object_store::path::Path;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::platform::{
    Platform, Rows, apply, as_rows, files_below, people, rows, scan, without_batch,
};
use crate::points::{
    SCENES, Scene, collects_all, crossed, forgotten_within_a_batch, is_noticed, runtime, two,
};
use crate::rebuild::{rebuilt, verified};

/// Does something where there are threads enough for it: a batch that is led has few.
async fn elsewhere<T, F>(work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (done, outcome) = oneshot::channel();
    thread::spawn(move || done.send(Runtime::new().unwrap().block_on(work())).is_ok());
    outcome.await.unwrap()
}

/// A table in the hands of another library.
#[derive(Clone)]
struct Foreign {
    lake: Lake,
    place: Path,
}

impl Foreign {
    /// The silver table.
    fn of(platform: &Platform) -> Self {
        Self { lake: platform.lake.clone(), place: path::silver(&platform.id()) }
    }

    fn of_layer(platform: &Platform, layer: Layer) -> Self {
        match layer {
            Layer::Silver => Self::of(platform),
            _ => Self { place: path::bronze(&platform.id()), ..Self::of(platform) },
        }
    }

    async fn open(&self) -> DeltaTable {
        deltalake::open_table(self.lake.url_of(&self.place)).await.unwrap()
    }

    /// The rows as we read them.
    async fn rows(&self) -> Rows {
        let table = Table::open(&self.lake, &self.place).await.unwrap().unwrap();
        without_batch(as_rows(&scan(&table).await))
    }

    /// Where the newest batch of ours ends.
    async fn end(&self) -> Option<Value> {
        let table = Table::open(&self.lake, &self.place).await.unwrap().unwrap();
        table.commit_info().map(|info| info["span"]["to"].clone())
    }

    /// OPTIMIZE, in the order of a column if one is named. Whether it wrote anything.
    async fn optimize(&self, by: Option<&'static str>) -> bool {
        let foreign = self.clone();
        elsewhere(move || async move {
            let kind = match by {
                Some(column) => OptimizeType::ZOrder(vec![column.to_owned()]),
                None => OptimizeType::Compact,
            };
            let optimize = foreign.open().await.optimize().with_type(kind);
            optimize.await.unwrap().1.num_files_removed > 0
        })
        .await
    }

    /// A VACUUM that spares nothing, however young. Whether it removed anything.
    async fn vacuum(&self) -> bool {
        let foreign = self.clone();
        elsewhere(move || async move {
            let vacuum = foreign.open().await.vacuum().with_mode(VacuumMode::Full);
            let vacuum = vacuum.with_retention_period(Default::default());
            let vacuum = vacuum.with_enforce_retention_duration(false);
            !vacuum.await.unwrap().1.files_deleted.is_empty()
        })
        .await
    }

    /// A checkpoint, and what goes with one: the log before it, where it is older than 30 days and
    /// the table does not forbid it.
    async fn checkpoint(&self) {
        let foreign = self.clone();
        elsewhere(move || async move {
            let version = foreign.open().await.version().unwrap();
            let url = foreign.lake.url_of(&foreign.place);
            create_checkpoint_from_table_url_and_cleanup(url, version, None, None).await.unwrap();
        })
        .await;
    }

    /// A DELETE of all rows of one person; how many there were, where it is known.
    async fn forget(&self, id: i64) -> Option<usize> {
        let foreign = self.clone();
        elsewhere(move || async move {
            let delete = foreign.open().await.delete().with_predicate(format!("id = {id}"));
            delete.await.unwrap().1.num_deleted_rows
        })
        .await
    }
}

#[test]
fn an_optimize_by_another_library_within_a_batch_is_noticed() {
    // There is something to put together by then.
    for (at, by) in [(5, None), (6, Some("id"))] {
        let scene = Scene { at, ..SCENES[1] };
        runtime().block_on(crossed(scene, |platform, topic| {
            let (foreign, end) = (Foreign::of(platform), json!(scene.delivery(topic).span.to));
            async move {
                let is_late = foreign.end().await == Some(end);
                foreign.optimize(by).await && !is_late
            }
        }));
    }
}

/// What the batch has written and not committed is gone then, and is written anew.
#[test]
fn a_vacuum_by_another_library_within_a_batch_is_noticed() {
    for scene in SCENES {
        runtime().block_on(crossed(scene, |platform, topic| {
            let (foreign, end) = (Foreign::of(platform), json!(scene.delivery(topic).span.to));
            async move {
                let is_late = foreign.end().await == Some(end);
                foreign.vacuum().await && !is_late
            }
        }));
    }
}

#[test]
fn rows_that_another_library_deletes_within_a_batch_are_gone_and_nothing_else() {
    runtime().block_on(forgotten_within_a_batch(async |platform: &Platform| {
        Foreign::of(platform).forget(2).await != Some(0)
    }));
}

/// The other way round: it has read what the batch replaces.
#[tokio::test(flavor = "multi_thread")]
async fn an_optimize_by_another_library_within_which_a_batch_is_applied_is_refused() {
    for by in [OptimizeType::Compact, OptimizeType::ZOrder(vec!["id".to_owned()])] {
        let platform = Platform::quick(people());
        let topic = two(&platform);
        let mut stage = platform.silver();
        apply(&mut stage, &topic.delivery(0, 1)).await;
        apply(&mut stage, &topic.delivery(1, 2)).await;
        let before = Foreign::of(&platform).open().await;
        apply(&mut stage, &topic.newest()).await;
        let expected = rows(&platform).await;
        let refused = before.optimize().with_type(by).await.unwrap_err();
        assert!(refused.to_string().contains("concurrent"), "{refused}");
        assert_eq!(rows(&platform).await, expected);
    }
}

/// Rows come to stand elsewhere and in another order, and the files that a stage knows are gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_optimize_and_a_vacuum_by_another_library_between_batches_do_no_harm() {
    for scene in SCENES {
        let platform = Platform::quick((scene.entity)());
        let (topic, foreign) = ((scene.topic)(&platform), Foreign::of(&platform));
        let mut stage = platform.silver();
        let (mut noticed, mut removed) = (0, 0);
        for offset in 0..topic.end() {
            let delivery = topic.delivery(offset, offset + 1);
            if is_noticed(&stage.apply(&delivery).await) {
                noticed += 1;
                stage.progress().await.unwrap();
                apply(&mut stage, &delivery).await;
            }
            foreign.optimize((offset % 2 == 1).then_some("id")).await;
            removed += usize::from(foreign.vacuum().await);
        }
        assert!(noticed > 0 && removed > 0, "noticed {noticed} times, removed {removed} times");
        drop(stage);
        let expected = scene.undisturbed().await;
        assert_eq!(rows(&platform).await, expected);
        assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
        assert!(collects_all(&platform).await);
        assert_eq!(rows(&platform).await, expected);
    }
}

/// What a late event splits stood in a file that is gone: nothing is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_finds_its_row_where_another_library_has_put_it() {
    let platform = Platform::quick(people());
    let (topic, foreign) = (two(&platform), Foreign::of(&platform));
    let mut stage = platform.silver();
    apply(&mut stage, &topic.delivery(0, 2)).await;
    assert!(foreign.optimize(Some("id")).await && foreign.vacuum().await);
    assert!(is_noticed(&stage.apply(&topic.newest()).await));
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
    apply(&mut stage, &topic.newest()).await;
    let undisturbed = Platform::quick(people());
    apply(&mut undisturbed.silver(), &two(&undisturbed).all()).await;
    assert_eq!(rows(&platform).await, rows(&undisturbed).await);
}

/// A DELETE writes files anew, under names that are not ours and with entries that are not: the
/// index is made anew, and what it says of those files stays known.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_another_library_deletes_between_batches_are_gone_and_nothing_else() {
    let platform = Platform::quick(people());
    let topic = two(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 2)).await;
    assert_eq!(Foreign::of(&platform).forget(2).await, Some(2));
    let expected = [
        "1 Ann [10,12) u",
        "1 Zoe [12,20) u",
        "1 Bob [20,30) u",
        "1 Cid [30,-) u",
        "2 Lee [30,-) u",
    ];
    let mut stage = platform.silver_kept_eagerly();
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
    apply(&mut stage, &topic.newest()).await;
    assert_eq!(platform.history(&["id", "name"]).await, expected);
    stage.maintain(Upkeep::All).await.unwrap();
    assert_eq!(platform.history(&["id", "name"]).await, expected);
    assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
}

/// What another library's OPTIMIZE wrote has grown old by the time that a stage which heard nothing of
/// it looks for garbage.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_heard_nothing_of_an_optimize_collects_none_of_what_it_wrote() {
    let layers = [Layer::Bronze, Layer::Silver];
    for (layer, upkeep) in
        layers.into_iter().flat_map(|layer| [(layer, Upkeep::Step), (layer, Upkeep::All)])
    {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let platform = Platform::by_clock(people(), clock.clone());
        let topic = two(&platform);
        let mut stage = stage_of(&platform, layer);
        let foreign = Foreign::of_layer(&platform, layer);
        apply(&mut *stage, &topic.delivery(0, 1)).await;
        apply(&mut *stage, &topic.delivery(1, 2)).await;
        let before = foreign.rows().await;
        assert!(foreign.optimize((layer == Layer::Silver).then_some("id")).await);
        clock.advance(Duration::from_secs(2 * 86_400));
        let error = stage.maintain(upkeep).await.unwrap_err();
        assert!(error.remedy().is_retry(), "{error}");
        assert_eq!(foreign.rows().await, before);
        let done = stage.maintain(upkeep).await.unwrap();
        assert!(done.objects_removed >= 2, "what was put together goes: {done:?}");
        assert_eq!(foreign.rows().await, before);
        assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
        apply(&mut *stage, &topic.newest()).await;
        if layer == Layer::Silver {
            let undisturbed = Platform::quick(people());
            apply(&mut undisturbed.silver(), &two(&undisturbed).all()).await;
            assert_eq!(rows(&platform).await, rows(&undisturbed).await);
            assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
        } else {
            assert!(foreign.rows().await.len() > before.len());
        }
    }
}

fn stage_of(platform: &Platform, layer: Layer) -> Box<dyn Stage> {
    match layer {
        Layer::Silver => Box::new(platform.silver()),
        _ => Box::new(platform.bronze()),
    }
}

/// A table of two batches, with an OPTIMIZE after them and a checkpoint of that; all of its log was old
/// by then. `may_clean` is what a table says that was made before ours forbade it.
async fn of_old(layer: Layer, may_clean: bool) -> (Platform, Foreign) {
    let platform = Platform::quick(people());
    let topic = two(&platform);
    apply(&mut platform.raw(1), &topic.all()).await;
    let mut stage = stage_of(&platform, layer);
    apply(&mut *stage, &topic.delivery(0, 1)).await;
    apply(&mut *stage, &topic.delivery(1, 2)).await;
    let foreign = Foreign::of_layer(&platform, layer);
    let log = platform.lake_folder().join(foreign.place.as_ref()).join("_delta_log");
    if may_clean {
        let first = log.join(format!("{:020}.json", 0));
        let text = fs::read_to_string(&first).unwrap();
        let name = r#""delta.enableExpiredLogCleanup":"#;
        let said = text.replace(&format!(r#"{name}"false""#), &format!(r#"{name}"true""#));
        assert_ne!(said, text);
        fs::write(&first, said).unwrap();
    }
    assert!(foreign.optimize((layer == Layer::Silver).then_some("id")).await);
    for entry in files_below(&log, ".json") {
        let file = File::options().write(true).open(entry).unwrap();
        file.set_times(FileTimes::new().set_modified(UNIX_EPOCH)).unwrap();
    }
    foreign.checkpoint().await;
    assert_eq!(files_below(&log, ".json").len(), if may_clean { 1 } else { 4 });
    (platform, foreign)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_library_leaves_the_log_of_a_table_alone_that_we_look_after() {
    for layer in [Layer::Bronze, Layer::Silver] {
        let (platform, foreign) = of_old(layer, false).await;
        let (topic, before) = (two(&platform), foreign.rows().await);
        let mut stage = stage_of(&platform, layer);
        assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
        assert_eq!(foreign.rows().await, before);
        apply(&mut *stage, &topic.newest()).await;
        assert!(foreign.rows().await.len() > before.len());
    }
}

/// Nothing is applied a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_newest_note_is_gone_stops_and_names_what_mends_it() {
    for layer in [Layer::Bronze, Layer::Silver] {
        let (platform, foreign) = of_old(layer, true).await;
        let topic = two(&platform);
        let before = foreign.rows().await;
        let mend = match layer {
            Layer::Silver => "`alluvium rebuild silver hall.people`",
            _ => "move all that stands below bronze/hall/people away",
        };
        let mut stage = stage_of(&platform, layer);
        for error in [
            stage.progress().await.unwrap_err(),
            stage.apply(&topic.all()).await.unwrap_err(),
            stage.maintain(Upkeep::All).await.unwrap_err(),
        ] {
            assert!(matches!(error, StageError::Corrupt(_)), "{error}");
            assert!(error.to_string().contains(mend), "{error}");
        }
        assert_eq!(foreign.rows().await, before);
        let found = verify(&platform.lake, &platform.entity, |_, _| {}).await.unwrap();
        let wrong: Vec<_> = found.checks.iter().filter(|check| !check.holds).collect();
        assert_eq!(wrong.len(), 1, "{found:?}");
        assert!(wrong[0].layer == layer && wrong[0].detail.contains(mend), "{found:?}");
        drop(stage);
        if layer == Layer::Silver {
            let found = verified(&platform).await;
            assert!(found.checks.iter().any(|check| !check.holds && check.detail.contains(mend)));
            rebuilt(&platform).await;
        } else {
            let folder = platform.lake_folder().join(foreign.place.as_ref());
            fs::rename(&folder, folder.with_extension("aside")).unwrap();
            apply(&mut platform.bronze(), &topic.all()).await;
        }
        let mut stage = stage_of(&platform, layer);
        assert_eq!(stage.progress().await.unwrap().unwrap().offset, 3);
        let undisturbed = Platform::quick(people());
        apply(&mut *stage_of(&undisturbed, layer), &two(&undisturbed).all()).await;
        let undisturbed = Foreign::of_layer(&undisturbed, layer).rows().await;
        assert_eq!(foreign.rows().await, undisturbed);
    }
}

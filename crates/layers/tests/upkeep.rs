//! Upkeep of bronze and silver: no row is altered by it, whatever breaks off, and it keeps files,
//! moves and names few.

use std::fs;
use std::time::Duration;

use alluvium_lake::table::CompactionPolicy;
use alluvium_lake::upkeep::UpkeepPolicy;
use alluvium_lake::{Table, path};
use alluvium_layers::SilverStage;
use alluvium_model::{Clock, Maintained, Op, Stage, SystemClock, Upkeep};
use serde_json::{Value, json};

use crate::platform::{Platform, Rows, Topic, apply, as_rows, change, copy_folder, eager, scan};
use crate::rebuild::rebuilt;

fn parts() -> Value {
    json!({
        "system": "store", "name": "parts", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string"},
            {"name": "price", "type": "decimal", "precision": 12, "scale": 2},
            {"name": "stock", "type": "long", "history": "latest"},
        ],
    })
}

/// Numbers that look random and are the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn part(id: u64, seq: i64, dice: &mut Dice) -> alluvium_model::Change {
    let price = format!("{}.{:02}", dice.below(1_000), dice.below(100));
    let name = format!("part {id} of kind {}", dice.below(20));
    let row = json!({"id": id, "name": name, "price": price, "stock": dice.below(1_000)});
    change(Op::Update, &row, vec![json!(seq)])
}

/// One message of changes of random parts; some come late, some are deletes.
fn shuffled(topic: &mut Topic, keys: u64, changes: u64, dice: &mut Dice, at: i64) {
    let changes = (0..changes).map(|_| {
        let seq = at * 10 - if dice.below(4) == 0 { dice.below(60) as i64 } else { 0 };
        let id = dice.below(keys);
        match dice.below(12) {
            0 => change(Op::Delete, &json!({"id": id}), vec![json!(seq)]),
            _ => part(id, seq, dice),
        }
    });
    topic.changes(changes.collect());
}

async fn rows(platform: &Platform) -> Rows {
    platform.silver_rows().await
}

async fn step(stage: &mut SilverStage) -> Maintained {
    stage.maintain(Upkeep::Step).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_and_without_upkeep_the_same_changes_give_the_same_rows() {
    let (kept, plain) = (Platform::quick(parts()), Platform::quick(parts()));
    let (mut topic, mut dice) = (Topic::of(&kept), Dice(7));
    let (mut with, mut without) = (kept.silver_kept_eagerly(), plain.silver());
    let mut done = Maintained::default();
    for at in 1..=60 {
        shuffled(&mut topic, 300, 80, &mut dice, at);
        apply(&mut with, &topic.newest()).await;
        apply(&mut without, &topic.newest()).await;
        done += match at % 20 {
            0 => with.maintain(Upkeep::All).await.unwrap(),
            _ => step(&mut with).await,
        };
        match at {
            13 => with = kept.silver_kept_eagerly(),
            37 => kept.index().clear().unwrap(),
            _ => {}
        }
        if at == 37 {
            with = kept.silver_kept_eagerly();
        }
    }
    assert!(done.compactions > 50 && done.entries_swept > 0 && done.checkpoints > 0, "{done:?}");
    let expected = rows(&plain).await;
    assert!(expected.len() > 1_000);
    assert_eq!(rows(&kept).await, expected);
    assert_eq!(kept.silver_rows_by_datafusion().await, expected);
    let (few, many) = (kept.silver_table().await, plain.silver_table().await);
    assert!(few.files().count() <= 10, "{} files", few.files().count());
    assert!(many.files().count() > 50);
    // What the index says of moved rows is what a rebuilt one says.
    kept.index().clear().unwrap();
    let mut rebuilt = kept.silver();
    shuffled(&mut topic, 300, 200, &mut dice, 61);
    apply(&mut rebuilt, &topic.newest()).await;
    apply(&mut without, &topic.newest()).await;
    assert_eq!(rows(&kept).await, rows(&plain).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_tables_commit_and_the_index_is_mended() {
    let (mut broken, plain) = (Platform::quick(parts()), Platform::quick(parts()));
    let (mut topic, mut dice) = (Topic::of(&broken), Dice(11));
    let kept = broken.index_folder().with_file_name("kept");
    for at in 1..=12 {
        shuffled(&mut topic, 50, 30, &mut dice, at);
        apply(&mut broken.silver(), &topic.newest()).await;
        apply(&mut plain.silver(), &topic.newest()).await;
        // The index as it was before the compaction, the table as it is after it.
        broken.close_index();
        fs::remove_dir_all(&kept).ok();
        copy_folder(&broken.index_folder(), &kept);
        broken.open_index();
        let done = step(&mut broken.silver_kept_eagerly()).await;
        assert_eq!(done.compactions, u64::from(at > 1), "at {at}");
        broken.close_index();
        fs::remove_dir_all(broken.index_folder()).unwrap();
        copy_folder(&kept, &broken.index_folder());
        broken.open_index();
        assert_eq!(rows(&broken).await, rows(&plain).await, "at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_was_prepared_and_never_committed_leaves_an_orphan() {
    let platform = Platform::quick(parts());
    let (mut topic, mut dice) = (Topic::of(&platform), Dice(5));
    for at in 1..=3 {
        shuffled(&mut topic, 20, 20, &mut dice, at);
        apply(&mut platform.silver(), &topic.newest()).await;
    }
    let before = rows(&platform).await;
    let table = platform.silver_table().await;
    let compaction = table.choose_compaction(&eager().compaction, None).unwrap().unwrap();
    compaction.prepare().await.unwrap();
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let files = |suffix| crate::platform::files_below(&folder, suffix).len();
    let there = files(".zstd.parquet");
    assert_eq!(there, table.files().count() + 1);
    let at_once = UpkeepPolicy { keep_garbage: Duration::ZERO, ..UpkeepPolicy::default() };
    let mut stage = platform.silver().with_upkeep(at_once);
    shuffled(&mut topic, 20, 20, &mut dice, 4);
    apply(&mut stage, &topic.newest()).await;
    let done = stage.maintain(Upkeep::All).await.unwrap();
    assert!(done.objects_removed >= 1, "{done:?}");
    let table = platform.silver_table().await;
    assert_eq!(files(".zstd.parquet"), table.files().count());
    assert!(before.len() <= rows(&platform).await.len());
    // Side files of the chain are kept: a rebuild of the index reads them all.
    assert!(files(".ndjson.zst") > 0);
    platform.index().clear().unwrap();
    shuffled(&mut topic, 20, 20, &mut dice, 5);
    apply(&mut platform.silver(), &topic.newest()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_many_commits_files_moves_and_names_stay_few() {
    let platform = Platform::quick(parts());
    let (mut topic, mut dice) = (Topic::of(&platform), Dice(3));
    let policy = UpkeepPolicy {
        compaction: CompactionPolicy { fan_in: 4, ..Default::default() },
        most_files: 20,
        keep_log: Duration::ZERO,
        keep_garbage: Duration::ZERO,
        look_every: Duration::ZERO,
        ..UpkeepPolicy::default()
    };
    let mut stage = platform.silver().with_upkeep(policy);
    let (mut most_files, mut most_moves, mut done) = (0, 0, Maintained::default());
    for at in 1..=1_000 {
        let changes = (0..5).map(|_| part(dice.below(30), at, &mut dice)).collect();
        topic.changes(changes);
        apply(&mut stage, &topic.newest()).await;
        done += step(&mut stage).await;
        if at % 50 == 0 {
            most_files = most_files.max(platform.silver_table().await.files().count());
            most_moves = most_moves.max(platform.index().moves().unwrap().len());
        }
    }
    assert!(most_files <= 40, "{most_files} files");
    assert!(most_moves <= 600, "{most_moves} moves");
    let names = platform.index().names().unwrap();
    let files = names.values().filter(|name| name.ends_with(".parquet")).count();
    assert!(files <= 100, "{files} names of files");
    assert!(done.entries_swept > 0 && done.objects_removed > 2_000, "{done:?}");
    let log = platform.lake_folder().join(path::silver(&platform.id()).as_ref()).join("_delta_log");
    let log = fs::read_dir(log).unwrap().count();
    assert!(log < 500, "{log} objects in the log");
    let before = rows(&platform).await;
    assert_eq!(platform.silver_rows_by_datafusion().await, before);
    let mut stage = platform.silver();
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 1_000);
    let late = (0..30).map(|id| part(id, 500, &mut dice)).collect();
    topic.changes(late);
    apply(&mut stage, &topic.newest()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bronze_is_put_together_and_keeps_its_documents_and_its_progress() {
    let platform = Platform::quick(parts());
    let (mut topic, mut dice) = (Topic::of(&platform), Dice(9));
    let mut stage = platform.bronze().with_upkeep(eager());
    let mut done = Maintained::default();
    for at in 1..=20 {
        shuffled(&mut topic, 50, 30, &mut dice, at);
        apply(&mut stage, &topic.newest()).await;
        done += stage.maintain(Upkeep::Step).await.unwrap();
    }
    done += stage.maintain(Upkeep::All).await.unwrap();
    let table = Table::open(&platform.lake, &path::bronze(&platform.id())).await.unwrap().unwrap();
    assert_eq!(table.rows(), 600);
    assert!(table.files().count() <= 2 && done.checkpoints > 0, "{done:?}");
    let documents = as_rows(&scan(&table).await);
    let mut positions: Vec<_> = documents.iter().map(|row| row["_position"].clone()).collect();
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 600);
    let progress = platform.bronze().progress().await.unwrap().unwrap();
    assert_eq!((progress.offset, progress.totals.records), (20, 600));
}

/// On S3 each side file is a request, and batches wait for upkeep.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_of_side_files_is_looked_through_a_little_at_a_time() {
    let platform = Platform::quick(parts());
    let mut topic = Topic::of(&platform);
    let mut stage = platform.silver();
    for at in 1..=250 {
        let row = json!({"id": 1, "name": "same", "price": "1.00", "stock": 1});
        topic.changes(vec![change(Op::Update, &row, vec![json!(at)])]);
        apply(&mut stage, &topic.newest()).await;
    }
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let there = crate::platform::files_below(&folder, ".ndjson.zst").len();
    assert!(there > 200, "{there} side files");
    let orphan = folder.join("_alluvium/hidden/0000000000000000.ndjson.zst");
    fs::write(&orphan, b"of a commit that never was").unwrap();
    let policy = UpkeepPolicy { keep_garbage: Duration::ZERO, ..UpkeepPolicy::default() };
    let mut stage = platform.silver().with_upkeep(policy);
    let mut steps = 0;
    while orphan.exists() {
        stage.maintain(Upkeep::Step).await.unwrap();
        steps += 1;
        assert!(steps < 1_000, "it is never collected");
    }
    assert!(steps > 2, "all in {steps} steps");
    assert_eq!(crate::platform::files_below(&folder, ".ndjson.zst").len(), there);
    platform.index().clear().unwrap();
    assert_eq!(platform.silver().progress().await.unwrap().unwrap().offset, 250);
}

/// A rebuild by another process gives the table a chain of its own.
#[tokio::test(flavor = "multi_thread")]
async fn side_files_of_a_table_that_was_replaced_are_collected_without_a_restart() {
    let platform = Platform::quick(parts());
    let mut topic = Topic::of(&platform);
    let policy = UpkeepPolicy { keep_garbage: Duration::ZERO, ..UpkeepPolicy::default() };
    let mut stage = platform.silver_elsewhere().with_upkeep(policy);
    for at in 1..=5 {
        let row = json!({"id": 1, "name": "same", "price": "1.00", "stock": 1});
        topic.changes(vec![change(Op::Update, &row, vec![json!(at)])]);
        apply(&mut stage, &topic.newest()).await;
    }
    apply(&mut platform.raw(1), &topic.all()).await;
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let side_files = || crate::platform::files_below(&folder, ".ndjson.zst");
    stage.maintain(Upkeep::All).await.unwrap();
    let before = side_files();
    assert_eq!(before.len(), 4);
    rebuilt(&platform).await;
    assert!(side_files().len() > before.len());
    stage.progress().await.unwrap();
    stage.maintain(Upkeep::All).await.unwrap();
    let after = side_files();
    assert!(!after.is_empty() && !after.iter().any(|file| before.contains(file)), "{after:?}");
    // All that the table remembers is still there.
    platform.index().clear().unwrap();
    assert_eq!(platform.silver().progress().await.unwrap().unwrap().offset, 5);
}

/// How many bytes stand in the silver table's folder.
fn size_of(platform: &Platform) -> u64 {
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let files = crate::platform::files_below(&folder, "");
    files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

/// Publishes changes; what was published before is not needed again.
fn published(topic: &mut Topic, changes: Vec<alluvium_model::Change>) -> alluvium_model::Delivery {
    let before = topic.end();
    topic.messages.iter_mut().for_each(|message| message.payload = Default::default());
    topic.changes(changes);
    topic.delivery(before, topic.end())
}

/// The processor time that this process has taken.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// So many batches come before what is measured, until deletes and compaction are in balance.
const WARM: i64 = 25;

/// Time and bytes of a batch of 10,000 random updates, upkeep included.
async fn cost(keys: u64, batches: i64) -> (f64, u64) {
    let platform = Platform::new(parts());
    let (mut topic, mut dice) = (Topic::of(&platform), Dice(1));
    let mut stage = platform.silver();
    for from in (0..keys).step_by(50_000) {
        let changes = (from..(from + 50_000).min(keys)).map(|id| part(id, 1, &mut dice));
        let delivery = published(&mut topic, changes.collect());
        apply(&mut stage, &delivery).await;
        stage.maintain(Upkeep::Step).await.unwrap();
    }
    stage.maintain(Upkeep::All).await.unwrap();
    let (mut took, mut cpu, mut done) = (Duration::ZERO, 0.0, Maintained::default());
    let mut before = 0;
    for at in 2..batches + WARM + 2 {
        if at == WARM + 2 {
            (took, cpu, done) = (Duration::ZERO, 0.0, Maintained::default());
            before = size_of(&platform);
        }
        let changes = (0..10_000).map(|_| part(dice.below(keys), at, &mut dice)).collect();
        let delivery = published(&mut topic, changes);
        let (started, busy) = (SystemClock.instant(), cpu_seconds());
        apply(&mut stage, &delivery).await;
        done += stage.maintain(Upkeep::Step).await.unwrap();
        took += SystemClock.since(started);
        cpu += cpu_seconds() - busy;
        if at % 10 == 0 {
            let files = platform.silver_table().await.files().count();
            eprintln!("{keys} keys, batch {at}: {:.3} s so far, {files} files", took.as_secs_f64());
        }
    }
    let started = SystemClock.instant();
    while stage.maintain(Upkeep::Step).await.unwrap().compactions > 0 {}
    took += SystemClock.since(started);
    let moves = platform.index().moves().unwrap().len();
    let seconds = took.as_secs_f64() / batches as f64;
    // Nothing is old enough to be collected yet, so that all that was written is there.
    let bytes = (size_of(&platform) - before) / batches as u64;
    let cpu = cpu / batches as f64;
    eprintln!(
        "{keys} keys: {seconds:.3} s, {cpu:.3} s of processors and {bytes} bytes a batch, {moves} moves, {done:?}"
    );
    (seconds, bytes)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; the time is worth something on a quiet machine only"]
async fn the_cost_of_ten_thousand_changes_does_not_grow_with_the_table() {
    let (_, small) = cost(100_000, 60).await;
    let (_, large) = cost(1_000_000, 60).await;
    assert!(large as f64 <= small as f64 * 1.5, "{small} bytes became {large}");
}

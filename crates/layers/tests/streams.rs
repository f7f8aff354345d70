//! Random streams through the stage, the table and back, held against the model: late, doubled,
//! tied, redelivered, batched anyhow, and with the index lost on the way.

use alluvium_model::sequence::SequenceBuilder;
use alluvium_model::{Op, Stage, Upkeep};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::model::{self, Event, Seq, Version};
use crate::platform::{EPOCH, Platform, Topic, change};

/// The beginning of time in these streams: before 1970, so that times are negative and positive.
const BEGIN_NS: i64 = -3_000;

fn ticks() -> Value {
    json!({
        "system": "clock", "name": "ticks", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "timestamp"}, {"carried": "long"}],
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "tracked", "type": "long"},
            {"name": "latest", "type": "integer", "history": "latest"},
        ],
    })
}

/// What a random record is, before it has a place.
#[derive(Debug, Clone)]
struct Draft {
    key: i64,
    seq: Seq,
    op: &'static str,
    tracked: Option<i64>,
    latest: Option<i64>,
}

/// What is done before a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    FreshStage,
    AskProgress,
    IndexLost,
    /// Another worker takes over, whose index is behind by what this one did.
    OtherWorker,
    /// Files are put together, and the index follows rows that moved.
    Compaction,
    /// All upkeep, so that the index names no place that rows have left.
    Upkeep,
}

/// One delivery: so many further messages, with so many of those before again.
#[derive(Debug, Clone)]
struct Step {
    before: Before,
    messages: u64,
    again: u64,
}

#[derive(Debug, Clone)]
struct Stream {
    /// Messages of records.
    messages: Vec<Vec<Draft>>,
    steps: Vec<Step>,
}

fn draft() -> impl Strategy<Value = Draft> {
    // Half a microsecond is the step, so that versions of zero width come about.
    let seq = (0..10i64, 0..3i64).prop_map(|(t, n)| (BEGIN_NS + t * 500, n));
    let op = prop_oneof![3 => Just("u"), 2 => Just("c"), 1 => Just("r"), 2 => Just("d")];
    let value = |n: i64| prop_oneof![1 => Just(None), 4 => (0..n).prop_map(Some)];
    (0..3i64, seq, op, value(2), value(2)).prop_map(|(key, seq, op, tracked, latest)| Draft {
        key,
        seq,
        op,
        tracked,
        latest,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let before = prop_oneof![
        3 => Just(Before::Nothing),
        1 => Just(Before::FreshStage),
        1 => Just(Before::AskProgress),
        2 => Just(Before::IndexLost),
        2 => Just(Before::OtherWorker),
        3 => Just(Before::Compaction),
        1 => Just(Before::Upkeep),
    ];
    (before, 1..6u64, prop_oneof![2 => Just(0), 1 => 0..4u64])
        .prop_map(|(before, messages, again)| Step { before, messages, again })
}

fn stream() -> impl Strategy<Value = Stream> {
    let message = prop::collection::vec(draft(), 1..5);
    (prop::collection::vec(message, 1..14), prop::collection::vec(step(), 14))
        .prop_map(|(messages, steps)| Stream { messages, steps })
}

/// Publishes the drafts; returns them as events in their places.
fn publish(topic: &mut Topic, messages: &[Vec<Draft>]) -> Vec<Event> {
    let mut events = Vec::new();
    for drafts in messages {
        let offset = topic.end() + 1;
        let changes = drafts.iter().map(|draft| {
            let time = Timestamp::from_nanosecond(i128::from(draft.seq.0)).unwrap().to_string();
            let row = match draft.op {
                "d" => json!({"id": draft.key}),
                _ => json!({"id": draft.key, "tracked": draft.tracked, "latest": draft.latest}),
            };
            let op = Op::parse(draft.op).unwrap();
            change(op, &row, vec![json!(time), json!(draft.seq.1)])
        });
        topic.changes(changes.collect());
        events.extend((0u32..).zip(drafts).map(|(index, draft)| Event {
            key: draft.key,
            seq: draft.seq,
            position: (offset, index),
            op: draft.op,
            tracked: draft.tracked,
            latest: draft.latest,
        }));
    }
    events
}

async fn run(platform: &mut Platform, stream: &Stream) {
    let mut topic = Topic::of(platform);
    let events = publish(&mut topic, &stream.messages);
    let mut stage = platform.silver_kept_eagerly();
    let mut at = 0;
    for step in stream.steps.iter().cycle() {
        match step.before {
            Before::Nothing => {}
            Before::FreshStage => stage = platform.silver_kept_eagerly(),
            Before::Compaction => drop(stage.maintain(Upkeep::Step).await.unwrap()),
            Before::Upkeep => drop(stage.maintain(Upkeep::All).await.unwrap()),
            Before::AskProgress => {
                let progress = stage.progress().await.unwrap();
                assert_eq!(progress.map_or(0, |progress| progress.offset), at);
            }
            Before::IndexLost => {
                stage = platform.silver_kept_eagerly();
                platform.index().clear().unwrap();
            }
            Before::OtherWorker => {
                drop(stage);
                platform.change_index();
                stage = platform.silver_kept_eagerly();
            }
        }
        let (after, to) = (at.saturating_sub(step.again), (at + step.messages).min(topic.end()));
        let applied = stage.apply(&topic.delivery(after, to)).await.unwrap();
        assert_eq!(applied.len(), 1);
        assert!(applied[0].counts.is_conserved());
        assert_eq!((applied[0].span.after, applied[0].span.to), (at, to));
        assert_eq!(applied[0].counts.records, topic.delivery(at, to).records());
        at = to;
        let so_far: Vec<Event> = events.iter().filter(|e| e.position.0 <= at).cloned().collect();
        let expected = model::versions(&so_far);
        assert_eq!(versions(platform).await, expected, "at offset {at}");
        if at == topic.end() {
            break;
        }
    }
    let progress = stage.progress().await.unwrap().unwrap();
    assert_eq!(progress.totals.records, events.len() as u64);
    assert!(progress.totals.is_conserved());
}

/// The rows of silver, and that what they say twice agrees.
async fn versions(platform: &Platform) -> Vec<Version> {
    let mut versions = Vec::new();
    for batch in platform.silver_batches().await {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let long = |name: &str| cast(column(name), &DataType::Int64).unwrap();
        let text = |name: &str, at| column(name).as_string::<i32>().value(at).to_owned();
        let (key, from, to) = (long("id"), long("_valid_from"), long("_valid_to"));
        let (tracked, latest) = (long("tracked"), long("latest"));
        for at in 0..batch.num_rows() {
            let value = |column: &ArrayRef| {
                column.is_valid(at).then(|| column.as_primitive::<Int64Type>().value(at))
            };
            let position = text("_position", at).parse::<alluvium_model::Position>().unwrap();
            assert_eq!(position.epoch, EPOCH);
            let ingested = cast(column("_ingested_at"), &DataType::Int64).unwrap();
            assert_eq!(value(&ingested), Some(1_763_000_000_000_000 + position.offset as i64));
            assert_eq!(column("_is_current").as_boolean().value(at), to.is_null(at));
            versions.push(Version {
                key: value(&key).unwrap(),
                from: value(&from).unwrap(),
                to: value(&to),
                op: text("_op", at),
                seq: sequence(&text("_seq", at)),
                last_seq: sequence(&text("_last_seq", at)),
                position: (position.offset, position.index),
                tracked: value(&tracked),
                latest: value(&latest),
            });
        }
    }
    versions.sort_by_key(|version| (version.key, version.seq));
    versions
}

/// The sequence of these streams that is written so.
fn sequence(hex: &str) -> Seq {
    for t in 0..10 {
        for n in 0..3 {
            let ns = BEGIN_NS + t * 500;
            let mut builder = SequenceBuilder::default();
            builder.timestamp(Timestamp::from_nanosecond(i128::from(ns)).unwrap());
            builder.long(n);
            if builder.finish().unwrap().hex() == hex {
                return (ns, n);
            }
        }
    }
    panic!("{hex} is no sequence of the stream")
}

#[test]
fn every_stream_in_every_batching_gives_the_rows_that_the_rules_give() {
    let runtime = Runtime::new().unwrap();
    let config = ProptestConfig {
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::with_cases(250)
    };
    proptest!(config, |(stream in stream())| {
        let mut platform = Platform::quick(ticks());
        runtime.block_on(run(&mut platform, &stream));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_changes_of_one_key_take_seconds_not_minutes() {
    let platform = Platform::quick(ticks());
    let mut topic = Topic::of(&platform);
    // Every third equals the one before it, and every tenth comes late.
    let drafts = |from: i64| -> Vec<Draft> {
        (from..from + 10_000)
            .map(|n| Draft {
                key: 1,
                seq: (if n % 10 == 0 { (n - 5) * 2_000 + 1_000 } else { n * 2_000 }, 0),
                op: "u",
                tracked: Some(n - i64::from(n % 3 == 2)),
                latest: Some(n % 7),
            })
            .collect()
    };
    let messages: Vec<Vec<Draft>> = (0..10).map(|part| drafts(part * 10_000)).collect();
    let events = publish(&mut topic, &messages);
    let started = alluvium_model::Clock::instant(&alluvium_model::SystemClock);
    let mut stage = platform.silver();
    let half = topic.end() / 2;
    for (after, to) in [(0, half), (half, topic.end())] {
        stage.apply(&topic.delivery(after, to)).await.unwrap();
    }
    let took = alluvium_model::Clock::since(&alluvium_model::SystemClock, started);
    assert_eq!(platform.silver_table().await.rows(), model::versions(&events).len() as u64);
    assert!(took.as_secs() < 40, "took {took:?}");
}

/// Enough keys that their states go into the index in bulk, and that more than one batch of rows is
/// read back.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_are_known_again_one_by_one_and_after_a_restart() {
    const KEYS: i64 = 40_000;
    let mut platform = Platform::quick(ticks());
    let mut topic = Topic::of(&platform);
    let all = |seq: i64, op: &'static str, tracked: i64, step: usize| -> Vec<Draft> {
        let draft =
            |key| Draft { key, seq: (seq * 1_000, 0), op, tracked: Some(tracked), latest: None };
        (0..KEYS).step_by(step).map(draft).collect()
    };
    let mut expected = Vec::new();
    for (drafts, open, closed) in [
        (all(1_000, "c", 1, 1), KEYS, 0),
        (all(3_000, "u", 2, 2), KEYS, KEYS / 2),
        (all(3_000, "u", 2, 2), KEYS, KEYS / 2),
        (all(2_000, "u", 3, 1), KEYS, KEYS / 2 * 3),
        (all(4_000, "d", 0, 1_000), KEYS - KEYS / 1_000, KEYS / 2 * 3 + KEYS / 1_000),
        (all(5_000, "c", 2, 1_000), KEYS, KEYS / 2 * 3 + KEYS / 1_000),
    ] {
        let before = topic.end();
        publish(&mut topic, &[drafts]);
        expected.push((before, topic.end(), open, closed));
    }
    for (after, to, open, closed) in expected {
        platform.silver().apply(&topic.delivery(after, to)).await.unwrap();
        platform.open_index();
        let table = platform.silver_table().await;
        let rows = |current| -> u64 {
            let files = table.files().filter(|file| file.current == Some(current));
            files.map(|file| file.rows - file.deleted.len()).sum()
        };
        assert_eq!((rows(true) as i64, rows(false) as i64), (open, closed), "after offset {to}");
    }
    let found = alluvium_layers::verify::verify(&platform.lake, &platform.entity, |_, _| {}).await;
    let found = found.unwrap();
    let intervals = found.checks.iter().find(|check| check.check == "intervals").unwrap();
    assert!(intervals.holds, "{}", intervals.detail);
}

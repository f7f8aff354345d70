//! Snapshots that would close too much: held until an operator decides.

use alluvium_model::change::Decision;
use alluvium_model::{Change, Control, Op, Position, Quarantined, Record, Stage};
use serde_json::{Value, json};

use crate::platform::{EPOCH, Platform, Topic, change};

/// Rows by number; a snapshot that would close more than half of them, and at least two, is held.
fn rows() -> Value {
    json!({
        "system": "hall", "name": "rows", "load": "full", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "snapshot": {"max_close_share": 0.5, "min_close_rows": 2},
        "columns": [{"name": "id", "type": "long"}, {"name": "v", "type": "string"}],
    })
}

/// A snapshot with its sequence for a name, and its end.
fn snapshot(seq: i64, ids: &[i64], v: &str) -> Vec<Record> {
    let row = |id: &i64| {
        let row = change(Op::Read, &json!({"id": id, "v": v}), vec![json!(seq)]);
        Record::Change(Change { snapshot: Some(seq.to_string()), ..row })
    };
    let end = Control::SnapshotEnd {
        snapshot: seq.to_string(),
        sequence: vec![json!(seq)],
        rows: ids.len() as u64,
    };
    ids.iter().map(row).chain([Record::Control(end)]).collect()
}

/// Publishes and applies records; gives what was put into quarantine.
async fn tell(platform: &Platform, topic: &mut Topic, records: Vec<Record>) -> Vec<Quarantined> {
    let after = topic.end();
    topic.records(records);
    let batches = platform.silver().apply(&topic.delivery(after, topic.end())).await.unwrap();
    assert!(batches.iter().all(|batch| batch.counts.is_conserved()));
    batches.into_iter().flat_map(|batch| batch.quarantined).collect()
}

async fn decide(platform: &Platform, topic: &mut Topic, decision: Decision, position: Position) {
    let decision = Record::Control(Control::Decision { decision, position });
    assert_eq!(tell(platform, topic, vec![decision]).await, []);
}

/// A table of four rows, and the snapshot of one row that is held.
async fn held(platform: &Platform, topic: &mut Topic) -> Position {
    tell(platform, topic, snapshot(10, &[1, 2, 3, 4], "a")).await;
    let quarantined = tell(platform, topic, snapshot(20, &[1], "b")).await;
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    let held = &quarantined[0];
    assert_eq!(held.position, Position { epoch: EPOCH, offset: topic.end(), index: 0 });
    assert!(String::from_utf8_lossy(&held.bytes).contains("snapshot_end"));
    held.position
}

const UNCLOSED: [&str; 5] =
    ["1 a [10,20) r", "1 b [20,-) r", "2 a [10,-) r", "3 a [10,-) r", "4 a [10,-) r"];
const CLOSED: [&str; 5] =
    ["1 a [10,20) r", "1 b [20,-) r", "2 a [10,20) r", "3 a [10,20) r", "4 a [10,20) r"];

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_would_close_too_much_waits_for_its_approval() {
    for index_is_lost in [false, true] {
        let platform = Platform::new(rows());
        let mut topic = Topic::of(&platform);
        let position = held(&platform, &mut topic).await;
        assert_eq!(platform.history(&["id", "v"]).await, UNCLOSED);
        if index_is_lost {
            platform.index().clear().unwrap();
        }
        decide(&platform, &mut topic, Decision::Approve, position).await;
        assert_eq!(platform.history(&["id", "v"]).await, CLOSED, "index lost: {index_is_lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_held_is_found_again_until_it_is_decided_on() {
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    let position = held(&platform, &mut topic).await;
    let end = topic.end();
    let found = alluvium_layers::held(platform.index(), &topic.all()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].position, found[0].code.as_str()), (position, "snapshot_held"));
    assert!(String::from_utf8_lossy(&found[0].bytes).contains("snapshot_end"));
    let before = alluvium_layers::held(platform.index(), &topic.delivery(0, end - 1)).unwrap();
    assert_eq!(before, [], "it does not stand there");
    decide(&platform, &mut topic, Decision::Approve, position).await;
    assert_eq!(alluvium_layers::held(platform.index(), &topic.all()).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_discarded_never_closes_anything() {
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    let position = held(&platform, &mut topic).await;
    decide(&platform, &mut topic, Decision::Discard, position).await;
    platform.index().clear().unwrap();
    let late = change(Op::Update, &json!({"id": 9, "v": "z"}), vec![json!(15)]);
    tell(&platform, &mut topic, vec![Record::Change(late)]).await;
    let mut expected = UNCLOSED.to_vec();
    expected.push("9 z [15,-) u");
    assert_eq!(platform.history(&["id", "v"]).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_repeats_what_was_held_and_approved() {
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    let position = held(&platform, &mut topic).await;
    decide(&platform, &mut topic, Decision::Approve, position).await;
    tell(&platform, &mut topic, snapshot(30, &[1, 2], "b")).await;
    let again = Platform::new(rows());
    let mut stage = again.silver();
    stage.apply(&topic.all()).await.unwrap();
    assert_eq!(
        again.history(&["id", "v"]).await,
        platform.history(&["id", "v"]).await,
        "as one batch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_rows_or_a_few_of_them_are_closed_without_being_asked_about() {
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    tell(&platform, &mut topic, snapshot(10, &[1, 2, 3, 4], "a")).await;
    for (seq, ids) in [(20, vec![1, 2]), (30, vec![1]), (40, vec![])] {
        assert_eq!(tell(&platform, &mut topic, snapshot(seq, &ids, "a")).await, []);
    }
    assert_eq!(
        platform.history(&["id", "v"]).await,
        ["1 a [10,40) r", "2 a [10,30) r", "3 a [10,20) r", "4 a [10,20) r"]
    );
}

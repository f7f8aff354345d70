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

/// The ends of some snapshots in one message.
fn ends(seqs: &[i64]) -> Vec<Record> {
    let ends = seqs.iter().map(|seq| snapshot(*seq, &[], "").remove(0));
    ends.collect()
}

/// The rows of a snapshot, without its end.
fn begun(seq: i64, ids: &[i64], v: &str) -> Vec<Record> {
    let mut records = snapshot(seq, ids, v);
    records.pop();
    records
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
async fn an_end_that_stands_twice_is_held_once_and_stays_discarded() {
    for index_is_lost in [false, true] {
        let platform = Platform::new(rows());
        let mut topic = Topic::of(&platform);
        let position = held(&platform, &mut topic).await;
        for is_decided in [false, true] {
            if is_decided {
                decide(&platform, &mut topic, Decision::Discard, position).await;
            }
            if index_is_lost {
                platform.index().clear().unwrap();
            }
            let after = topic.end();
            topic.again(position.offset - 1, position.offset);
            let batches = platform.silver().apply(&topic.delivery(after, after + 1)).await.unwrap();
            assert!(batches.iter().all(|batch| batch.quarantined.is_empty()), "{batches:?}");
            assert_eq!(platform.history(&["id", "v"]).await, UNCLOSED);
        }
        assert_eq!(alluvium_layers::held(platform.index(), &topic.all()).unwrap(), []);
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn two_snapshots_that_end_in_one_message_are_each_held_and_approved_by_themselves() {
    for index_is_lost in [false, true] {
        let platform = Platform::new(rows());
        let mut topic = Topic::of(&platform);
        tell(&platform, &mut topic, snapshot(10, &[1, 2, 3, 4], "a")).await;
        tell(&platform, &mut topic, begun(20, &[1], "b")).await;
        let held = tell(&platform, &mut topic, ends(&[20, 30])).await;
        let places: Vec<_> = held.iter().map(|q| (q.code.as_str(), q.position)).collect();
        let place = |index| Position { epoch: EPOCH, offset: topic.end(), index };
        assert_eq!(places, [("snapshot_held", place(0)), ("snapshot_held", place(1))]);
        assert_eq!(platform.history(&["id", "v"]).await, UNCLOSED);
        let [first, second] = [place(0), place(1)];
        if index_is_lost {
            platform.index().clear().unwrap();
        }
        decide(&platform, &mut topic, Decision::Approve, first).await;
        assert_eq!(platform.history(&["id", "v"]).await, CLOSED);
        decide(&platform, &mut topic, Decision::Approve, second).await;
        let mut all = CLOSED.to_vec();
        all[1] = "1 b [20,30) r";
        assert_eq!(platform.history(&["id", "v"]).await, all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_tested_after_what_those_before_it_in_the_message_have_closed() {
    // Of four rows the first closes two and the second one: each is allowed, both at once were not.
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    tell(&platform, &mut topic, snapshot(10, &[1, 2, 3, 4], "a")).await;
    tell(&platform, &mut topic, begun(20, &[1, 2], "a")).await;
    tell(&platform, &mut topic, begun(30, &[1], "a")).await;
    assert_eq!(tell(&platform, &mut topic, ends(&[20, 30])).await, []);
    let all = ["1 a [10,-) r", "2 a [10,30) r", "3 a [10,20) r", "4 a [10,20) r"];
    assert_eq!(platform.history(&["id", "v"]).await, all);

    // The first is held and closes nothing, so that the second is tested on all four.
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    tell(&platform, &mut topic, snapshot(10, &[1, 2, 3, 4], "a")).await;
    tell(&platform, &mut topic, begun(20, &[1, 2], "a")).await;
    let held = tell(&platform, &mut topic, ends(&[30, 20])).await;
    assert_eq!(held.iter().map(|q| q.position.index).collect::<Vec<_>>(), [0]);
    let all = ["1 a [10,-) r", "2 a [10,-) r", "3 a [10,20) r", "4 a [10,20) r"];
    assert_eq!(platform.history(&["id", "v"]).await, all);

    // The second would close both that the first has left: of those, it is too much.
    let platform = Platform::new(rows());
    let mut topic = Topic::of(&platform);
    tell(&platform, &mut topic, snapshot(10, &[1, 2, 3, 4], "a")).await;
    tell(&platform, &mut topic, begun(20, &[1, 2], "a")).await;
    let held = tell(&platform, &mut topic, ends(&[20, 30])).await;
    assert_eq!(held.iter().map(|q| q.position.index).collect::<Vec<_>>(), [1]);
    assert!(held[0].reason.contains("2 of 2 open rows"), "{}", held[0].reason);
}

//! Records that are older than the entity's horizon: refused by what came before them alone, and
//! what is remembered only for their sake is forgotten.

use alluvium_layers::SilverStage;
use alluvium_model::change::Decision;
use alluvium_model::{
    Change, Control, Op, Position, Quarantined, Record, Stage, StageError, Upkeep,
};
use serde_json::{Value, json};

use crate::platform::{EPOCH, Platform, Topic, apply, change, rows};
use crate::rebuild::{assert_equal, land, rebuilt, verified};
use crate::upkeep::Dice;

/// Rows by number, in the order of a time that comes beside them.
pub(crate) fn notes(silver: Value) -> Value {
    json!({
        "system": "hall", "name": "notes", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "timestamp"}],
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "v", "type": "string"},
            {"name": "note", "type": "string"},
            {"name": "seen", "type": "string", "history": "latest"},
        ],
        "ignore_null_updates": ["note"],
        "snapshot": {"min_close_rows": 2},
        "layers": {"silver": silver},
    })
}

/// A day of January 2025.
pub(crate) fn day(day: u32) -> String {
    format!("2025-01-{day:02}T00:00:00Z")
}

pub(crate) fn says(id: i64, at: &str, v: &str) -> Change {
    change(Op::Update, &json!({"id": id, "v": v, "note": v}), vec![json!(at)])
}

/// The history with days for times.
pub(crate) async fn days(platform: &Platform) -> Vec<String> {
    let history = platform.history(&["id", "v"]).await.into_iter();
    history.map(|line| line.replace("2025-01-", "").replace("T00:00:00Z", "")).collect()
}

/// Publishes and applies records; gives what was refused.
pub(crate) async fn tell(
    platform: &Platform,
    topic: &mut Topic,
    records: Vec<Record>,
) -> Vec<Quarantined> {
    let after = topic.end();
    topic.records(records);
    apply(&mut platform.silver(), &topic.delivery(after, topic.end())).await.quarantined
}

fn codes(quarantined: &[Quarantined]) -> Vec<(&str, u64, u32)> {
    let told = quarantined.iter();
    told.map(|q| (q.code.as_str(), q.position.offset, q.position.index)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_late_is_told_by_what_came_before_it_however_it_is_batched() {
    let mut topic = Topic::of(&Platform::quick(notes(json!({}))));
    topic.changes(vec![says(1, &day(9), "a"), says(1, &day(20), "b"), says(2, &day(9), "late")]);
    topic.changes(vec![says(3, &day(10), "just in time"), says(1, &day(5), "late")]);
    topic.changes(vec![says(4, &day(26), "c"), says(4, &day(15), "late"), says(4, &day(16), "d")]);
    let refused = [("late", 1, 2), ("late", 2, 1), ("late", 3, 1)];
    let expected = [
        "1 a [09,20) u",
        "1 b [20,-) u",
        "3 just in time [10,-) u",
        "4 c [26,-) u",
        "4 d [16,26) u",
    ];
    for cuts in [&[3][..], &[1, 2, 3], &[1, 3], &[2, 3]] {
        let platform = Platform::quick(notes(json!({"late_horizon": "10d"})));
        let (mut after, mut found) = (0, Vec::new());
        for to in cuts {
            let applied = apply(&mut platform.silver(), &topic.delivery(after, *to)).await;
            assert_eq!(applied.counts.quarantined, applied.quarantined.len() as u64);
            found.extend(applied.quarantined);
            platform.index().clear().unwrap();
            after = *to;
        }
        assert_eq!(codes(&found), refused, "{cuts:?}");
        assert!(String::from_utf8_lossy(&found[0].bytes).contains("\"late\""));
        assert!(found[0].reason.contains("late_horizon"), "{}", found[0].reason);
        let mut history = days(&platform).await;
        history.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(history, expected, "{cuts:?}");
        apply(&mut platform.raw(1), &topic.all()).await;
        assert_equal(&verified(&platform).await);
        rebuilt(&platform).await;
        assert_equal(&verified(&platform).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_an_entity_has_come_outlives_a_rebuild() {
    let platform = Platform::quick(notes(json!({"late_horizon": "10d"})));
    let mut topic = Topic::of(&platform);
    topic.changes(vec![says(1, &day(20), "a")]);
    land(&platform, &topic, &[1], &[1]).await;
    rebuilt(&platform).await;
    let refused = tell(&platform, &mut topic, vec![Record::Change(says(2, &day(9), "b"))]).await;
    assert_eq!(codes(&refused), [("late", 2, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_lies_ahead_makes_nothing_late() {
    let platform = Platform::quick(notes(json!({"late_horizon": "10d"})));
    let mut topic = Topic::of(&platform);
    // The bus takes these on 2025-11-13.
    let changes = [says(1, "9999-12-31T00:00:00Z", "a"), says(2, "2025-11-05T00:00:00Z", "b")];
    assert_eq!(tell(&platform, &mut topic, changes.map(Record::Change).to_vec()).await, []);
    let late = says(3, "2025-11-01T00:00:00Z", "c");
    let refused = tell(&platform, &mut topic, vec![Record::Change(late)]).await;
    assert_eq!(codes(&refused), [("late", 2, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncates_snapshots_and_approvals_may_be_too_late_like_rows() {
    let platform = Platform::quick(notes(json!({"late_horizon": "10d"})));
    let mut topic = Topic::of(&platform);
    let read = |id: i64, at: &str| {
        let row = change(Op::Read, &json!({"id": id, "v": "r", "note": "r"}), vec![json!(at)]);
        Record::Change(Change { snapshot: Some(at.to_owned()), ..row })
    };
    let end = |at: &str| {
        let sequence = vec![json!(at)];
        Record::Control(Control::SnapshotEnd { snapshot: at.to_owned(), sequence, rows: 0 })
    };
    let truncate = |at: &str| Record::Change(change(Op::Truncate, &json!({}), vec![json!(at)]));
    let first = vec![read(1, &day(2)), read(2, &day(2)), read(3, &day(2)), end(&day(2))];
    assert_eq!(tell(&platform, &mut topic, first).await, []);
    // Held, and in time still.
    let held = tell(&platform, &mut topic, vec![end(&day(3))]).await;
    assert_eq!(held[0].code, "snapshot_held");
    let other = vec![Record::Change(says(9, &day(20), "new"))];
    assert_eq!(tell(&platform, &mut topic, other).await, []);
    let before = rows(&platform).await;

    let late = vec![truncate(&day(9)), read(1, &day(8)), end(&day(8))];
    let refused = tell(&platform, &mut topic, late).await;
    assert_eq!(refused.iter().map(|q| q.code.as_str()).collect::<Vec<_>>(), ["late"; 3]);
    let decide =
        |decision, position| vec![Record::Control(Control::Decision { decision, position })];
    let position = held[0].position;
    let refused = tell(&platform, &mut topic, decide(Decision::Approve, position)).await;
    assert_eq!(codes(&refused), [("late", topic.end(), 0)]);
    assert_eq!(tell(&platform, &mut topic, decide(Decision::Discard, position)).await, []);
    assert_eq!(rows(&platform).await, before);
    apply(&mut platform.raw(1), &topic.all()).await;
    assert_equal(&verified(&platform).await);

    assert_eq!(tell(&platform, &mut topic, vec![truncate(&day(11))]).await, []);
    assert_eq!(days(&platform).await[0], "1 r [02,11) r");
    let place = Position { epoch: EPOCH, offset: 1, index: 0 };
    assert_eq!(tell(&platform, &mut topic, decide(Decision::Approve, place)).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_no_time_has_no_horizon() {
    for setting in ["late_horizon", "history_retention"] {
        let mut entity = notes(json!({setting: "10d"}));
        entity["sequence_by"] = json!([{"carried": "long"}]);
        let platform = Platform::quick(entity);
        let index = platform.index().clone();
        let stage = SilverStage::new(platform.lake.clone(), index, &platform.entity, "UTC");
        let refused = stage.err();
        assert!(matches!(refused, Some(StageError::Mismatch(_))), "{refused:?}");
    }
}

/// Something about one of a few rows, in the hours of January 2025 up to `hour`.
pub(crate) fn record(dice: &mut Dice, hour: u64) -> Record {
    let back = if dice.below(3) == 0 { dice.below(300) } else { dice.below(9) };
    let hour = hour.saturating_sub(back);
    let at = format!("2025-01-{:02}T{:02}:00:00Z", 1 + hour / 24, hour % 24);
    let sequence = vec![json!(at)];
    if dice.below(40) == 0 {
        return Record::Control(Control::SnapshotEnd { snapshot: at, sequence, rows: 0 });
    }
    let note = (dice.below(3) > 0).then(|| dice.below(2).to_string());
    let (id, v, seen) = (dice.below(6), dice.below(2).to_string(), dice.below(3).to_string());
    let row = json!({"id": id, "v": v, "note": note, "seen": seen});
    let op = match dice.below(30) {
        0 => Op::Truncate,
        1..5 => Op::Delete,
        5..9 => Op::Read,
        _ => Op::Update,
    };
    Record::Change(change(op, &row, sequence))
}

fn hidden(platform: &Platform) -> usize {
    let (keys, _) = platform.index().keys_from(0, usize::MAX).unwrap();
    keys.iter().map(|key| key.hidden.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_makes_no_difference_to_what_may_still_come() {
    let mut forgotten = 0;
    for seed in 1..13u64 {
        let mut entity = notes(json!({"late_horizon": "3d"}));
        entity["deletes"] = json!(["close", "tombstone"][(seed % 2) as usize]);
        entity["ignore_null_updates"] = json!([]);
        let (forgetful, plain) = (Platform::quick(entity.clone()), Platform::quick(entity));
        let mut topic = Topic::of(&forgetful);
        let mut dice = Dice(seed * 7_919);
        let mut stage = forgetful.silver();
        for step in 0..60 {
            let records = (0..=dice.below(5)).map(|_| record(&mut dice, step * 10)).collect();
            let after = topic.end();
            topic.records(records);
            let delivery = topic.delivery(after, topic.end());
            let refused = apply(&mut stage, &delivery).await.quarantined;
            let also = apply(&mut plain.silver(), &delivery).await.quarantined;
            assert_eq!(codes(&refused), codes(&also), "seed {seed}, step {step}");
            if step % 3 == 0 {
                stage.maintain(Upkeep::All).await.unwrap();
            }
            if step == 30 {
                plain.index().clear().unwrap();
            }
        }
        assert_eq!(rows(&forgetful).await, rows(&plain).await, "seed {seed}");
        forgotten += hidden(&plain) - hidden(&forgetful);
        apply(&mut forgetful.raw(1), &topic.all()).await;
        assert_equal(&verified(&forgetful).await);
    }
    assert!(forgotten > 20, "{forgotten} hidden events were forgotten");
}

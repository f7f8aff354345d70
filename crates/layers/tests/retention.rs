//! History that an entity does not keep: exactly what ended too long ago is removed, and what would
//! belong to it is refused, whatever is rebuilt afterwards.

use std::sync::Arc;
use std::time::Duration;

use alluvium_layers::SilverStage;
use alluvium_model::change::Decision;
use alluvium_model::clock::ManualClock;
use alluvium_model::{Change, Clock, Control, Maintained, Op, Position, Record, Stage, Upkeep};
use serde_json::json;

use crate::late::{day, days, notes, record, says, tell};
use crate::platform::{EPOCH, Platform, Rows, Topic, apply, change, rows};
use crate::rebuild::{assert_equal, land, rebuilt, verified};
use crate::upkeep::Dice;

const DAY: u64 = 86_400;

/// A platform at the beginning of a day, and its clock.
fn platform(kept: &str, now: &str) -> (Platform, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(now.parse().unwrap()));
    let entity = notes(json!({"history_retention": kept}));
    (Platform::by_clock(entity, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn gone(id: i64, at: &str) -> Change {
    change(Op::Delete, &json!({"id": id}), vec![json!(at)])
}

async fn kept(stage: &mut SilverStage) -> Maintained {
    stage.maintain(Upkeep::All).await.unwrap()
}

/// Versions on both sides of the 20th, and upkeep at a time that keeps what ended from then on.
async fn aged() -> (Platform, Arc<ManualClock>, Topic) {
    let (platform, clock) = platform("30d", "2025-02-19T00:00:00Z");
    let mut topic = Topic::of(&platform);
    topic.changes(vec![
        says(1, &day(1), "gone"),
        says(1, &day(10), "spans"),
        says(1, &day(25), "open"),
        says(2, &day(2), "open since long ago"),
    ]);
    topic.changes(vec![
        says(3, &day(3), "gone"),
        says(3, &day(4), "gone too"),
        gone(3, &day(19)),
        says(4, &day(5), "ends at the border"),
        gone(4, &day(20)),
        says(5, &day(5), "gone"),
        gone(5, &day(6)),
        says(5, &day(30), "back"),
    ]);
    land(&platform, &topic, &[2], &[1, 2]).await;
    assert_eq!(kept(&mut platform.silver()).await.versions_removed, 4);
    (platform, clock, topic)
}

const KEPT: [&str; 5] = [
    "1 open [25,-) u",
    "1 spans [10,25) u",
    "2 open since long ago [02,-) u",
    "4 ends at the border [05,20) u",
    "5 back [30,-) u",
];

async fn sorted(platform: &Platform) -> Vec<String> {
    let mut days = days(platform).await;
    days.sort_unstable();
    days
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_before_the_border_is_removed_and_nothing_else() {
    let (platform, clock, mut topic) = aged().await;
    assert_eq!(sorted(&platform).await, KEPT);
    assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
    assert_eq!(kept(&mut platform.silver()).await.versions_removed, 0);
    // A day later what ended at the border goes too, and a batch in between alters nothing of it.
    let accepted = vec![Record::Change(says(2, &day(31), "late"))];
    assert_eq!(tell(&platform, &mut topic, accepted).await, []);
    clock.advance(Duration::from_secs(DAY));
    assert_eq!(kept(&mut platform.silver()).await.versions_removed, 1);
    let expected = [
        "1 open [25,-) u",
        "1 spans [10,25) u",
        "2 late [31,-) u",
        "2 open since long ago [02,31) u",
        "5 back [30,-) u",
    ];
    assert_eq!(sorted(&platform).await, expected);
    let (keys, more) = platform.index().keys_from(0, 1_000).unwrap();
    assert_eq!((keys.len(), more), (3, None), "of what is gone nothing is left in the index");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_border_is_refused_whatever_is_rebuilt() {
    for between in ["nothing", "index", "table", "setting"] {
        let (mut platform, _clock, mut topic) = aged().await;
        match between {
            "index" => platform.index().clear().unwrap(),
            "table" => drop(rebuilt(&platform).await),
            "setting" => platform.entity.layers.silver.history_retention = None,
            _ => {}
        }
        assert_eq!(sorted(&platform).await, KEPT, "{between}");
        let records = [
            says(1, &day(19), "late"),
            says(5, &day(19), "late"),
            gone(2, &day(19)),
            says(6, &day(19), "late"),
            says(1, &day(20), "splits"),
            says(3, &day(20), "again"),
            says(5, &day(20), "before"),
        ];
        let refused = tell(&platform, &mut topic, records.map(Record::Change).to_vec()).await;
        let places: Vec<_> = refused.iter().map(|q| (q.code.as_str(), q.position.index)).collect();
        assert_eq!(places, [("late", 0), ("late", 1), ("late", 2), ("late", 3)], "{between}");
        assert!(refused[0].reason.contains("history_retention"), "{}", refused[0].reason);
        let expected = [
            "1 open [25,-) u",
            "1 spans [10,20) u",
            "1 splits [20,25) u",
            "2 open since long ago [02,-) u",
            "3 again [20,-) u",
            "4 ends at the border [05,20) u",
            "5 back [30,-) u",
            "5 before [20,30) u",
        ];
        assert_eq!(sorted(&platform).await, expected, "{between}");
        assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
        apply(&mut platform.raw(1), &topic.delivery(2, topic.end())).await;
        let found = verified(&platform).await;
        assert_equal(&found);
        let of_rows = found.checks.iter().find(|check| check.check == "rows of a rebuild").unwrap();
        assert!(of_rows.detail.contains("4 that retention has removed"), "{}", of_rows.detail);
        let before = rows(&platform).await;
        rebuilt(&platform).await;
        assert_eq!(rows(&platform).await, before, "{between}");
        assert_equal(&verified(&platform).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_from_less_than_the_table_had_draws_each_border_in_its_place() {
    let (platform, _clock, mut topic) = aged().await;
    std::fs::remove_dir_all(platform.lake_folder().join("raw")).unwrap();
    apply(&mut platform.raw(1), &topic.delivery(0, 1)).await;
    assert_eq!(rebuilt(&platform).await.progress.offset, 1);
    // What stood on the bus before the border is taken again, and refused after it.
    topic.changes(vec![says(1, &day(5), "late")]);
    let mut stage = platform.silver();
    let quarantined = apply(&mut stage, &topic.delivery(1, 3)).await.quarantined;
    assert_eq!(quarantined.iter().map(|q| q.position.offset).collect::<Vec<_>>(), [3]);
    kept(&mut stage).await;
    assert_eq!(sorted(&platform).await, KEPT);
}

/// What a rebuild refuses behind the place that the table had got to, it refuses for good, also where
/// it meets new columns afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_border_that_refused_something_in_a_rebuild_only_is_kept() {
    let clock = Arc::new(ManualClock::at("2025-02-19T00:00:00Z".parse().unwrap()));
    let mut entity = notes(json!({"history_retention": "30d"}));
    entity["schema_evolution"] = json!("evolve");
    let platform = Platform::by_clock(entity, Arc::clone(&clock) as Arc<dyn Clock>);
    let mut topic = Topic::of(&platform);
    topic.changes(vec![
        says(1, &day(1), "gone"),
        says(1, &day(10), "spans"),
        says(1, &day(25), "open"),
    ]);
    land(&platform, &topic, &[1], &[1]).await;
    assert_eq!(kept(&mut platform.silver()).await.versions_removed, 1);
    topic.changes(vec![says(6, &day(19), "late")]);
    // A batch of its own, so that the columns come in another one than what is late.
    let position = Position { epoch: EPOCH, offset: 1, index: 0 };
    let decision = Control::Decision { decision: Decision::Discard, position };
    topic.records(vec![Record::Control(decision)]);
    let row = json!({"id": 2, "v": "x", "note": "x", "town": "Oslo"});
    topic.changes(vec![change(Op::Update, &row, vec![json!(day(26))])]);
    apply(&mut platform.raw(1), &topic.delivery(1, 4)).await;
    assert_eq!(rebuilt(&platform).await.progress.offset, 4);
    assert_eq!(sorted(&platform).await, ["1 open [25,-) u", "1 spans [10,25) u", "2 x [26,-) u"]);
    // The next border takes the place of those that refused nothing.
    clock.advance(Duration::from_secs(10 * DAY));
    assert_eq!(kept(&mut platform.silver()).await.versions_removed, 1);
    assert_equal(&verified(&platform).await);
    rebuilt(&platform).await;
    assert_eq!(sorted(&platform).await, ["1 open [25,-) u", "2 x [26,-) u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_refused_as_long_as_nothing_was_removed() {
    let (platform, _clock) = platform("30d", "2025-02-19T00:00:00Z");
    let mut topic = Topic::of(&platform);
    assert_eq!(tell(&platform, &mut topic, vec![Record::Change(says(1, &day(25), "a"))]).await, []);
    assert_eq!(kept(&mut platform.silver()).await.versions_removed, 0);
    assert_eq!(tell(&platform, &mut topic, vec![Record::Change(says(1, &day(3), "b"))]).await, []);
    assert_eq!(sorted(&platform).await, ["1 a [25,-) u", "1 b [03,25) u"]);
}

/// What rows say, but for where they come from; those that ended before `border` left out.
fn told(mut rows: Rows, border: &str) -> Rows {
    rows.retain(|row| row["_valid_to"].as_ref().is_none_or(|end| end.as_str() >= border));
    for row in &mut rows {
        for of_place in ["_batch_id", "_position", "_ingested_at"] {
            row.remove(of_place);
        }
    }
    rows.sort_unstable();
    rows
}

/// A random stream, with retention at work, against the same without it, given what was taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_what_a_table_that_keeps_all_says_of_it() {
    let (mut removed, mut refused) = (0, 0);
    for seed in 1..13u64 {
        let clock = Arc::new(ManualClock::at("2025-01-01T00:00:00Z".parse().unwrap()));
        let mut entity = notes(json!({"history_retention": "3d"}));
        entity["deletes"] = json!(["close", "tombstone"][(seed % 2) as usize]);
        entity["ignore_null_updates"] = json!([]);
        let mut all = entity.clone();
        all["layers"] = json!({});
        let aged = Platform::by_clock(entity, Arc::clone(&clock) as Arc<dyn Clock>);
        let plain = Platform::quick(all);
        let (mut topic, mut taken) = (Topic::of(&aged), Topic::of(&plain));
        let (mut dice, mut border) = (Dice(seed * 104_729), String::new());
        let (mut stage, mut raw) = (aged.silver(), aged.raw(1));
        for step in 0..60 {
            let records: Vec<Record> =
                (0..=dice.below(5)).map(|_| record(&mut dice, step * 10)).collect();
            let (after, before) = (topic.end(), taken.end());
            records.iter().for_each(|record| topic.records(vec![record.clone()]));
            let delivery = topic.delivery(after, topic.end());
            apply(&mut raw, &delivery).await;
            let quarantined = apply(&mut stage, &delivery).await.quarantined;
            let late: Vec<u64> = quarantined
                .iter()
                .filter(|q| q.code == "late")
                .map(|q| q.position.offset)
                .collect();
            for (offset, record) in (after + 1..).zip(records) {
                if !late.contains(&offset) {
                    taken.records(vec![record]);
                }
            }
            refused += late.len();
            if taken.end() > before {
                apply(&mut plain.silver(), &taken.delivery(before, taken.end())).await;
            }
            if step % 3 == 0 {
                removed += kept(&mut stage).await.versions_removed;
                border = (clock.now() - Duration::from_secs(3 * DAY)).to_string();
            }
            match step {
                20 => aged.index().clear().unwrap(),
                40 => drop(rebuilt(&aged).await),
                _ => {}
            }
            if step % 20 == 0 {
                stage = aged.silver();
                let (found, expected) = (aged.silver_rows().await, plain.silver_rows().await);
                assert_eq!(told(found, &border), told(expected, &border), "{seed} at {step}");
            }
            clock.advance(Duration::from_secs(10 * 3_600));
        }
        removed += kept(&mut stage).await.versions_removed;
        let border = (clock.now() - Duration::from_secs(3 * DAY)).to_string();
        let (found, expected) = (aged.silver_rows().await, plain.silver_rows().await);
        assert_eq!(told(found, ""), told(expected, &border), "seed {seed}");
        assert_equal(&verified(&aged).await);
        assert_eq!(aged.silver_rows_by_datafusion().await, aged.silver_rows().await);
    }
    assert!(removed > 50 && refused > 5, "{removed} removed, {refused} refused");
}

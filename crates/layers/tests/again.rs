//! Pages that stand on the topic twice, of an entity that declares no order: silver is as if they
//! stood there once, whatever came between, and however its index is found.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::change::Decision;
use alluvium_model::clock::ManualClock;
use alluvium_model::{
    Change, Clock, Column, ColumnType, Control, EncodedMessage, Epoch, Message, Op, Position,
    Record, Stage, Upkeep,
};
use alluvium_wire::headers;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::platform::{Platform, Rows, Topic, apply, change, raw_json, rows};
use crate::rebuild::{assert_equal, land, rebuilt, verified};
use crate::upkeep::Dice;

/// Rows by number, in the order in which they arrive.
fn arrivals(deletes: &str) -> Value {
    json!({
        "system": "hall", "name": "arrivals", "load": "delta", "keys": ["id"],
        "deletes": deletes,
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "v", "type": "string"},
            {"name": "mood", "type": "string", "history": "latest"},
        ],
    })
}

fn says(id: i64, v: &str) -> Change {
    change(Op::Update, &json!({"id": id, "v": v, "mood": v}), vec![])
}

fn gone(id: i64) -> Change {
    change(Op::Delete, &json!({"id": id}), vec![])
}

fn moved(from: i64, to: i64, v: &str) -> Change {
    Change { old_key: Some(raw_json(&json!({"id": from}))), ..says(to, v) }
}

fn partial(id: i64, v: &str) -> Change {
    let row = json!({"id": id, "v": v});
    Change { unset: vec!["mood".to_owned()], ..change(Op::Update, &row, vec![]) }
}

fn truncate() -> Change {
    Change { after: None, ..change(Op::Truncate, &json!({}), vec![]) }
}

/// A message that alters nothing: a decision on what was never held.
fn nothing(topic: &mut Topic) {
    let position = Position { epoch: Epoch(1), offset: 1, index: 0 };
    let decision = Control::Decision { decision: Decision::Discard, position };
    topic.records(vec![Record::Control(decision)]);
}

/// What stands on a topic.
enum Page {
    Of(Vec<Change>),
    /// The messages in (after, to] once more.
    Again(u64, u64),
}

/// The topic of these pages; those that stand there once more alter nothing unless `twice`.
fn filled(platform: &Platform, pages: &[Page], twice: bool) -> Topic {
    let mut topic = Topic::of(platform);
    for page in pages {
        match page {
            Page::Of(changes) => topic.changes(changes.clone()),
            Page::Again(after, to) if twice => topic.again(*after, *to),
            Page::Again(after, to) => (*after..*to).for_each(|_| nothing(&mut topic)),
        }
    }
    topic
}

/// Upserts, deletes, keys that change, rows in part and truncates, with other pages between.
fn pages() -> Vec<Page> {
    use Page::{Again, Of};
    vec![
        Of(vec![says(1, "a"), says(2, "a"), says(3, "a"), says(5, "a")]),
        Of(vec![says(1, "b"), gone(2), moved(3, 4, "b"), partial(5, "b")]),
        Again(0, 1),
        Of(vec![says(1, "c"), says(2, "a"), says(1, "d"), gone(9), says(5, "c")]),
        Again(1, 2),
        Again(0, 2),
        Of(vec![truncate()]),
        Of(vec![says(1, "a"), says(3, "a"), says(9, "a")]),
        Again(7, 8),
        Of(vec![says(1, "d"), gone(4)]),
        Again(3, 4),
        Again(0, 10),
    ]
}

async fn once(deletes: &str, pages: &[Page]) -> Rows {
    let platform = Platform::quick(arrivals(deletes));
    let topic = filled(&platform, pages, false);
    apply(&mut platform.silver(), &topic.all()).await;
    rows(&platform).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_stands_twice_is_as_if_it_stood_once() {
    for deletes in ["close", "tombstone"] {
        let expected = once(deletes, &pages()).await;
        for step in [1, 2, 5, 100] {
            for before in ["nothing", "index lost", "other worker", "fresh stage"] {
                let mut platform = Platform::quick(arrivals(deletes));
                let topic = filled(&platform, &pages(), true);
                let (mut after, mut again) = (0, 0);
                let mut kept = Some(platform.silver());
                while after < topic.end() {
                    if before != "nothing" {
                        drop(kept.take());
                    }
                    match before {
                        "index lost" => platform.index().clear().unwrap(),
                        "other worker" => platform.change_index(),
                        _ => {}
                    }
                    let mut stage = kept.take().unwrap_or_else(|| platform.silver());
                    let to = (after + step).min(topic.end());
                    again += apply(&mut stage, &topic.delivery(after, to)).await.counts.duplicate;
                    after = to;
                    kept = Some(stage);
                }
                drop(kept);
                let what = format!("{deletes}, {before}, {step} at a time");
                assert_eq!(rows(&platform).await, expected, "{what}");
                // Some pages, and then all up to there; a truncate is a control record.
                assert_eq!(again, 4 + 4 + 8 + 5 + (4 + 4 + 4 + 5 + 4 + 8 + 3), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_from_raw_knows_a_page_again() {
    for (raw, silver) in [(1, 3), (100, 1), (4, 100)] {
        let platform = Platform::new(arrivals("close"));
        let topic = filled(&platform, &pages(), true);
        let cuts = |step: u64| -> Vec<u64> {
            let end = topic.end();
            (1..=end).filter(|to| to.is_multiple_of(step) || *to == end).collect()
        };
        land(&platform, &topic, &cuts(raw), &cuts(silver)).await;
        let expected = once("close", &pages()).await;
        assert_eq!(rows(&platform).await, expected);
        assert_equal(&verified(&platform).await);
        rebuilt(&platform).await;
        assert_eq!(rows(&platform).await, expected);
        // What comes after the swap is known by what the rebuild has made.
        let mut more = filled(&platform, &pages(), true);
        more.again(0, 4);
        let applied = apply(&mut platform.silver(), &more.delivery(topic.end(), more.end())).await;
        assert_eq!(applied.counts.duplicate, applied.counts.records);
        assert_eq!(rows(&platform).await, expected);
    }
}

/// The values of number 1, in the order of their versions.
async fn values(platform: &Platform) -> Vec<String> {
    let mut rows = platform.silver_rows().await;
    rows.sort_by_key(|row| row["_seq"].clone());
    rows.iter().filter_map(|row| row["v"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_row_in_two_deliveries_is_two_changes() {
    let platform = Platform::quick(arrivals("close"));
    let mut topic = Topic::of(&platform);
    ["a", "b", "a"].iter().for_each(|v| topic.changes(vec![says(1, v)]));
    apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(values(&platform).await, ["a", "b", "a"]);
}

fn encoded(message: &Message) -> EncodedMessage {
    let Message { headers, payload, records, .. } = message;
    EncodedMessage { headers: headers.clone(), payload: payload.clone(), records: *records }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_delivery_a_record_is_new_wherever_it_stands() {
    for index_is_lost in [false, true] {
        let platform = Platform::quick(arrivals("close"));
        let mut topic = Topic::of(&platform);
        topic.changes(vec![says(1, "a")]);
        let mut bare = encoded(&topic.messages.remove(0));
        bare.headers.0.remove(headers::DELIVERY);
        topic.push(bare);
        topic.changes(vec![says(1, "b")]);
        topic.again(0, 1);
        topic.changes(vec![says(1, "c")]);
        // The one between has an id, among those that have none.
        topic.again(1, 2);
        for offset in 0..topic.end() {
            apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
            if index_is_lost {
                platform.index().clear().unwrap();
            }
        }
        assert_eq!(values(&platform).await, ["a", "b", "a", "c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_cut_otherwise_the_second_time_is_known() {
    let platform = Platform::quick(arrivals("close"));
    let mut topic = Topic::of(&platform);
    topic.changes(vec![says(1, "a"), says(2, "a"), gone(3)]);
    topic.changes(vec![says(1, "b"), says(2, "b")]);
    let whole = encoded(&topic.messages[0]);
    for (ordinal, line) in whole.payload.split(|byte| *byte == b'\n').enumerate() {
        let headers = whole.headers.clone().with(headers::ORDINAL, ordinal.to_string());
        let payload = Bytes::copy_from_slice(line);
        topic.push(EncodedMessage { headers, payload, records: 1 });
    }
    let mut stage = platform.silver();
    apply(&mut stage, &topic.delivery(0, 2)).await;
    let before = rows(&platform).await;
    let applied = apply(&mut stage, &topic.delivery(2, topic.end())).await;
    assert_eq!((applied.counts.duplicate, applied.counts.records), (3, 3));
    assert_eq!(rows(&platform).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_that_stands_twice_closes_nothing_that_came_between() {
    for index_is_lost in [false, true] {
        let platform = Platform::quick(arrivals("close"));
        let mut topic = Topic::of(&platform);
        topic.changes(vec![says(1, "a")]);
        topic.changes(vec![truncate()]);
        topic.changes(vec![says(1, "b")]);
        topic.again(1, 2);
        topic.changes(vec![truncate()]);
        topic.changes(vec![says(1, "c")]);
        topic.again(1, 2);
        topic.again(4, 5);
        for offset in 0..topic.end() {
            apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
            if index_is_lost {
                platform.index().clear().unwrap();
            }
        }
        let mut rows = platform.silver_rows().await;
        rows.sort_by_key(|row| row["_seq"].clone());
        let open: Vec<_> = rows.iter().map(|row| row["_valid_to"].is_none()).collect();
        assert_eq!(values(&platform).await, ["a", "b", "c"]);
        assert_eq!(open, [false, false, true]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_message_that_stands_twice_brings_no_dropped_column_back() {
    for index_is_lost in [false, true] {
        let mut entity = arrivals("close");
        entity["schema_evolution"] = json!("evolve");
        let platform = Platform::quick(entity);
        let mut topic = Topic::of(&platform);
        let schema = |added: &[&str], dropped: &[&str]| {
            let column = |name: &&str| Column::new(*name, ColumnType::String);
            Record::Control(Control::Schema {
                added: added.iter().map(column).collect(),
                dropped: dropped.iter().map(|name| (*name).to_owned()).collect(),
                widened: Vec::new(),
            })
        };
        topic.records(vec![schema(&["zip"], &[])]);
        let row = json!({"id": 1, "v": "a", "mood": "a", "zip": "0150"});
        topic.changes(vec![change(Op::Update, &row, vec![])]);
        topic.records(vec![schema(&[], &["zip"])]);
        topic.again(0, 1);
        // Were the column back, a row without it would be a change.
        topic.changes(vec![says(1, "a")]);
        for offset in 0..topic.end() {
            apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
            if index_is_lost {
                platform.index().clear().unwrap();
            }
        }
        let rows = platform.silver_rows().await;
        let zips: Vec<_> = rows.iter().map(|row| row["zip"].as_deref()).collect();
        assert_eq!(zips, [Some("0150")], "index lost: {index_is_lost}");
    }
}

/// When the bus takes the first message of a topic, and a day, in microseconds.
const FIRST: i64 = 1_763_000_000_000_000;
const DAY: i64 = 86_400_000_000;

/// The newest message is one that the bus takes so many days after the first.
fn taken(topic: &mut Topic, days: i64) {
    topic.messages.last_mut().unwrap().published_at_us = FIRST + days * DAY;
}

/// What the horizon makes unknown is what upkeep forgets by it: both go by the newest record, which
/// is not the last one where the bus's clock was set back.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_horizon_makes_unknown_does_not_depend_on_upkeep_where_the_clock_was_set_back() {
    let mut entity = arrivals("close");
    entity["layers"] = json!({"silver": {"late_horizon": "10d"}});
    for (cuts, is_kept) in [(&[4][..], false), (&[3, 4], false), (&[3, 4], true)] {
        let platform = Platform::quick(entity.clone());
        let mut topic = Topic::of(&platform);
        for (change, days) in [(says(1, "a"), 0), (says(1, "b"), 1), (says(2, "x"), 12)] {
            topic.changes(vec![change]);
            taken(&mut topic, days);
        }
        topic.again(0, 1);
        taken(&mut topic, 9);
        let (mut stage, mut after) = (platform.silver(), 0);
        for to in cuts {
            apply(&mut stage, &topic.delivery(after, *to)).await;
            if is_kept {
                stage.maintain(Upkeep::All).await.unwrap();
            }
            after = *to;
        }
        assert_eq!(values(&platform).await, ["a", "b", "a", "x"], "{cuts:?}, kept: {is_kept}");
    }
}

/// A border makes records unknown that have been removed already, so that nothing tells of them any
/// more: it counts all the same when the table is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_border_made_unknown_is_so_to_a_rebuild_after_the_next_border() {
    let clock = Arc::new(ManualClock::at("2025-11-13T02:13:20Z".parse().unwrap()));
    let mut entity = arrivals("close");
    entity["layers"] = json!({"silver": {"history_retention": "10d"}});
    let platform = Platform::by_clock(entity, Arc::clone(&clock) as Arc<dyn Clock>);
    let mut topic = Topic::of(&platform);
    let mut stage = platform.silver();
    topic.changes(vec![says(1, "a")]);
    taken(&mut topic, 0);
    topic.changes(vec![says(1, "b")]);
    taken(&mut topic, 1);
    apply(&mut stage, &topic.all()).await;
    // The version of the first record goes, and with it all that tells of that.
    clock.advance(Duration::from_secs(12 * 86_400));
    assert_eq!(stage.maintain(Upkeep::All).await.unwrap().versions_removed, 1);
    topic.again(0, 1);
    taken(&mut topic, 12);
    apply(&mut stage, &topic.newest()).await;
    assert_eq!(values(&platform).await, ["b", "a"]);
    clock.advance(Duration::from_secs(12 * 86_400));
    assert_eq!(stage.maintain(Upkeep::All).await.unwrap().versions_removed, 1);
    drop(stage);
    assert_eq!(values(&platform).await, ["a"]);
    apply(&mut platform.raw(1), &topic.all()).await;
    assert_equal(&verified(&platform).await);
    let before = rows(&platform).await;
    rebuilt(&platform).await;
    assert_eq!(rows(&platform).await, before);
    assert_equal(&verified(&platform).await);
}

/// Random pages and repetitions of what stands before them.
fn random(dice: &mut Dice) -> Vec<Page> {
    let (mut pages, mut end) = (Vec::new(), 0);
    for _ in 0..12 {
        if end > 0 && dice.below(3) == 0 {
            let after = dice.below(end);
            let to = after + 1 + dice.below((end - after).min(3));
            pages.push(Page::Again(after, to));
            end += to - after;
            continue;
        }
        let mut page = Vec::new();
        for _ in 0..=dice.below(4) {
            let (id, v) = (dice.below(3) as i64, ["a", "b"][dice.below(2) as usize]);
            page.push(match dice.below(10) {
                0 => truncate(),
                1 | 2 => gone(id),
                3 => moved(id, (id + 1) % 3, v),
                4 => partial(id, v),
                _ => says(id, v),
            });
        }
        pages.push(Page::Of(page));
        end += 1;
    }
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn random_pages_with_repetitions_in_every_batching_are_as_without() {
    for seed in 1..60 {
        let mut dice = Dice(seed * 7_919);
        let deletes = ["close", "tombstone"][dice.below(2) as usize];
        let pages = random(&mut dice);
        let expected = once(deletes, &pages).await;
        let mut platform = Platform::quick(arrivals(deletes));
        let topic = filled(&platform, &pages, true);
        let mut after = 0;
        while after < topic.end() {
            match dice.below(4) {
                0 => platform.index().clear().unwrap(),
                1 => platform.change_index(),
                _ => {}
            }
            let mut stage = platform.silver_kept_eagerly();
            if dice.below(4) == 0 {
                stage.maintain(Upkeep::All).await.unwrap();
            }
            let to = (after + 1 + dice.below(4)).min(topic.end());
            apply(&mut stage, &topic.delivery(after, to)).await;
            after = to;
        }
        assert_eq!(rows(&platform).await, expected, "seed {seed}");
    }
}

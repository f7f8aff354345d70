//! Silver made anew from raw: the same rows, whatever became of the table, and at whatever moment
//! the rebuild breaks off.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use alluvium_lake::{Table, path};
use alluvium_layers::SilverStage;
use alluvium_layers::rebuild::{Shadow, Swap, Swapped, remove_leftovers};
use alluvium_layers::verify::{RebuildOptions, Rebuilt, verify_rebuild};
use alluvium_model::{Epoch, Stage, StageError};
use serde_json::{Value, json};

use crate::platform::{
    EPOCH, Platform, Rows, Topic, apply, files_below, gone, people, person, rows, without_batch,
};

/// Five messages whose last ones need all that is hidden of those before.
pub(crate) fn filled(platform: &Platform) -> Topic {
    let mut topic = Topic::of(platform);
    topic.mapped(&[
        &person(10, "Ann", "calm"),
        &person(20, "Ann", "calm"),
        &person(30, "Ann", "merry"),
    ]);
    topic.mapped(&[&person(40, "Ann", "calm"), &gone(50), &person(45, "Ann", "calm")]);
    topic.mapped(&[&person(60, "Ann", "calm"), &person(60, "Eve", "sly"), "no JSON"]);
    topic.mapped(&[&person(15, "Bob", "calm"), &person(41, "Bob", "sad")]);
    topic.mapped(&[&person(25, "Bob", "calm"), &gone(42), &person(60, "Zed", "old")]);
    topic
}

/// Lands and applies up to a message, each layer in portions of its own.
pub(crate) async fn land(platform: &Platform, topic: &Topic, raw: &[u64], silver: &[u64]) {
    let (mut stage, mut after) = (platform.raw(1), 0);
    for to in raw {
        apply(&mut stage, &topic.delivery(after, *to)).await;
        after = *to;
    }
    let (mut stage, mut after) = (platform.silver(), 0);
    for to in silver {
        apply(&mut stage, &topic.delivery(after, *to)).await;
        after = *to;
    }
}

fn scratch(platform: &Platform) -> PathBuf {
    platform.index_folder().with_file_name("scratch")
}

pub(crate) async fn verified(platform: &Platform) -> Rebuilt {
    verified_within(platform, Duration::ZERO).await
}

async fn verified_within(platform: &Platform, patience: Duration) -> Rebuilt {
    let scratch = scratch(platform);
    let options = RebuildOptions { timezone: "UTC", scratch: &scratch, limit: 20, patience };
    let found = verify_rebuild(&platform.lake, &platform.entity, options, &mut |_, _, _| {}).await;
    assert_eq!(left_behind(platform), 0);
    found.unwrap()
}

/// How much of a shadow is there.
fn left_behind(platform: &Platform) -> usize {
    let shadow = path::shadows_of_silver(&platform.id());
    let places = [
        platform.lake_folder().join(shadow.as_ref()),
        scratch(platform).join(platform.id().to_string()),
    ];
    places.iter().filter(|place| place.exists()).map(|place| files_below(place, "").len()).sum()
}

#[track_caller]
pub(crate) fn assert_equal(found: &Rebuilt) {
    let wrong: Vec<_> = found.checks.iter().filter(|check| !check.holds).collect();
    assert!(wrong.is_empty() && found.differences.is_empty(), "{found:#?}");
    assert!(found.checks.iter().any(|check| check.check == "rows of a rebuild"));
}

async fn begin(platform: &Platform) -> Shadow {
    let mut shadow =
        Shadow::begin(&platform.lake, &platform.entity, "UTC", &scratch(platform), None)
            .await
            .unwrap();
    while shadow.next().await.unwrap().is_some() {}
    assert!(shadow.is_filled());
    shadow
}

pub(crate) async fn rebuilt(platform: &Platform) -> Swapped {
    let mut shadow = begin(platform).await;
    let swap = Swap::prepare(&mut shadow, &mut |_, _| {}).await.unwrap();
    let swapped = swap.commit(platform.index()).await.unwrap();
    shadow.remove().await.unwrap();
    assert_eq!(left_behind(platform), 0);
    swapped
}

/// The rows after all messages, with nothing in the way.
async fn undisturbed() -> Rows {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.silver(), &topic.all()).await;
    rows(&platform).await
}

/// What comes after a rebuild finds all that it needs of before.
async fn assert_goes_on(platform: &Platform, topic: &Topic, from: u64) {
    let mut stage = platform.silver();
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, from);
    for offset in from..topic.end() {
        apply(&mut stage, &topic.delivery(offset, offset + 1)).await;
    }
    assert_eq!(rows(platform).await, undisturbed().await);
    assert_eq!(without_batch(platform.silver_rows_by_datafusion().await), undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_the_table_however_both_were_batched() {
    for (raw, silver) in
        [(&[5][..], &[1, 2, 3, 4, 5][..]), (&[1, 2, 3, 4, 5], &[5]), (&[2, 5], &[3, 5])]
    {
        let platform = Platform::new(people());
        let topic = filled(&platform);
        land(&platform, &topic, raw, silver).await;
        assert_equal(&verified(&platform).await);
    }
}

/// Many keys with few sequences and values: late, doubled, tied and repeated as chance has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_a_random_stream_is_the_table() {
    for seed in 1..12u64 {
        let platform = Platform::quick(people());
        let mut topic = Topic::of(&platform);
        let mut dice = seed * 7_919;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (dice >> 33) % sides
        };
        for _ in 0..20 {
            let lines: Vec<String> = (0..=roll(6))
                .map(|_| {
                    let row = json!({"id": roll(5), "name": roll(3).to_string(),
                                     "mood": (roll(4) > 0).then(|| roll(2).to_string())});
                    let member = ["after", "before"][usize::from(roll(5) == 0)];
                    let op = if member == "before" { "delete" } else { "update" };
                    json!({"op": op, "seq": roll(15), member: row}).to_string()
                })
                .collect();
            topic.mapped(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let (half, end) = (1 + roll(19), topic.end());
        let all: Vec<u64> = (1..=end).collect();
        land(&platform, &topic, &[half, end], &all).await;
        assert_equal(&verified(&platform).await);
        let before = rows(&platform).await;
        rebuilt(&platform).await;
        assert_eq!(rows(&platform).await, before, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lags_or_that_raw_lags_behind_is_compared_where_both_are() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    land(&platform, &topic, &[3], &[2]).await;
    assert_equal(&verified(&platform).await);
    apply(&mut platform.silver(), &topic.delivery(2, 5)).await;
    let found = verified(&platform).await;
    assert_eq!(found.checks.iter().filter(|check| !check.holds).count(), 1);
    assert!(found.checks[0].detail.contains("raw has landed up to offset 3, the table is at 5"));
    let (found, _) = tokio::join!(verified_within(&platform, Duration::from_secs(30)), async {
        apply(&mut platform.raw(1), &topic.delivery(3, 5)).await
    });
    assert_equal(&found);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_that_has_landed_nothing_yet_is_waited_for() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    land(&platform, &topic, &[], &[5]).await;
    assert!(!verified(&platform).await.checks[0].holds);
    let (found, _) = tokio::join!(verified_within(&platform, Duration::from_secs(30)), async {
        apply(&mut platform.raw(1), &topic.all()).await
    });
    assert_equal(&found);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_of_which_nothing_came_is_nothing_to_prove() {
    let platform = Platform::new(people());
    assert_equal(&verified(&platform).await);
    platform.silver().progress().await.unwrap();
    assert_equal(&verified(&platform).await);
    let mut shadow = begin(&platform).await;
    let refused = Swap::prepare(&mut shadow, &mut |_, _| {}).await.err();
    assert!(matches!(refused, Some(StageError::Mismatch(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_keeps_rows_progress_and_all_that_later_events_need() {
    for at in 1..=5 {
        let platform = Platform::new(people());
        let topic = filled(&platform);
        land(&platform, &topic, &[at], &(1..=at).collect::<Vec<_>>()).await;
        let (before, reader) = (rows(&platform).await, platform.silver_table().await);
        let version = reader.version();
        let swapped = rebuilt(&platform).await;
        assert_eq!((swapped.version, swapped.progress.offset), (version + 1, at));
        assert_eq!(swapped.rows, before.len() as u64);
        assert_eq!(rows(&platform).await, before);
        // Who opened the table before still reads it as it was.
        assert_eq!(reader.rows(), before.len() as u64);
        assert_eq!(crate::platform::scan(&reader).await.is_empty(), before.is_empty());
        assert_goes_on(&platform, &topic, at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_as_far_as_raw_and_forgets_what_the_table_hid() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    land(&platform, &topic, &[5], &[1, 2]).await;
    assert_eq!(rebuilt(&platform).await.progress.offset, 5);
    assert_goes_on(&platform, &topic, 5).await;
    // Raw from before the first hidden event: nothing of what the table hid may come back.
    fs::remove_dir_all(platform.lake_folder().join("raw")).unwrap();
    apply(&mut platform.raw(1), &topic.delivery(0, 1)).await;
    rebuilt(&platform).await;
    assert_goes_on(&platform, &topic, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_breaks_off_leaves_the_table_and_can_be_done_again() {
    for moment in ["replayed", "moved", "index distrusted", "not removed"] {
        let platform = Platform::new(people());
        let topic = filled(&platform);
        land(&platform, &topic, &[3], &[1, 2, 3]).await;
        let before = platform.silver_rows().await;
        {
            let mut shadow = begin(&platform).await;
            if moment != "replayed" {
                let swap = Swap::prepare(&mut shadow, &mut |_, _| {}).await.unwrap();
                match moment {
                    "index distrusted" => platform.index().distrust().unwrap(),
                    "not removed" => drop(swap.commit(platform.index()).await.unwrap()),
                    _ => {}
                }
            }
            // As after a kill, nothing is removed.
            drop(shadow);
        }
        assert!(left_behind(&platform) > 0);
        if moment != "not removed" {
            assert_eq!(platform.silver_rows().await, before, "{moment}");
        }
        assert_equal(&verified(&platform).await);
        rebuilt(&platform).await;
        assert_goes_on(&platform, &topic, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_behind_is_removed_and_what_is_at_work_is_not() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    land(&platform, &topic, &[5], &[5]).await;
    let shadow = begin(&platform).await;
    remove_leftovers(&platform.lake, &scratch(&platform)).await.unwrap();
    assert!(left_behind(&platform) > 0);
    let second =
        Shadow::begin(&platform.lake, &platform.entity, "UTC", &scratch(&platform), None).await;
    assert!(matches!(second.err(), Some(StageError::Unavailable(_))));
    elsewhere(&platform, &shadow).await;
    drop(shadow);
    remove_leftovers(&platform.lake, &scratch(&platform)).await.unwrap();
    assert_eq!(left_behind(&platform), 0);
    remove_leftovers(&platform.lake, &platform.index_folder().join("nothing")).await.unwrap();
}

/// Another machine makes a shadow of the same entity in the same lake: neither disturbs the other.
async fn elsewhere(platform: &Platform, here: &Shadow) {
    let scratch = platform.index_folder().with_file_name("elsewhere");
    let mut there =
        Shadow::begin(&platform.lake, &platform.entity, "UTC", &scratch, None).await.unwrap();
    while there.next().await.unwrap().is_some() {}
    let rows = |table: &Table| table.files().map(|file| file.rows).sum::<u64>();
    let made = rows(&there.table().await.unwrap());
    assert!(made > 0);
    assert_eq!(rows(&here.table().await.unwrap()), made);
    there.remove().await.unwrap();
    assert_eq!(rows(&here.table().await.unwrap()), made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_beyond_reading_is_made_anew() {
    for damage in ["no table", "no log", "first entry", "newest entry", "all rows"] {
        let platform = Platform::new(people());
        let topic = filled(&platform);
        land(&platform, &topic, &[3], &[1, 2, 3]).await;
        let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
        let entries = files_below(&folder.join("_delta_log"), ".json");
        match damage {
            "no table" => fs::remove_dir_all(&folder).unwrap(),
            "no log" => fs::remove_dir_all(folder.join("_delta_log")).unwrap(),
            "first entry" => fs::write(&entries[0], b"{").unwrap(),
            "newest entry" => fs::write(entries.last().unwrap(), b"{").unwrap(),
            _ => files_below(&folder, ".parquet")
                .iter()
                .for_each(|file| fs::remove_file(file).unwrap()),
        }
        if !damage.starts_with("no ") {
            let found = verified(&platform).await;
            assert!(found.checks.iter().any(|check| !check.holds), "{damage}: {found:?}");
        }
        rebuilt(&platform).await;
        assert_equal(&verified(&platform).await);
        assert_goes_on(&platform, &topic, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_vectors_that_are_lost_take_nothing_with_them() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    let other = person(1, "Eve", "sly").replace(r#""id":1"#, r#""id":2"#);
    topic.mapped(&[&person(1, "Ann", "calm"), &other]);
    topic.mapped(&[&person(2, "Bob", "calm")]);
    land(&platform, &topic, &[2], &[1, 2]).await;
    let before = rows(&platform).await;
    let version = platform.silver_table().await.version();
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let vectors = files_below(&folder, ".bin");
    assert!(!vectors.is_empty());
    vectors.iter().for_each(|file| fs::remove_file(file).unwrap());
    let error = platform.silver().progress().await.unwrap_err().to_string();
    for part in ["deletion_vector_", "is not there", "`alluvium rebuild silver hall.people`"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(verified(&platform).await.checks[0].detail.contains("the table cannot be read"));
    // What the log says is all that a swap needs of the old table: readers go on in it.
    assert_eq!(rebuilt(&platform).await.version, version + 1);
    assert_eq!(rows(&platform).await, before);
    assert_equal(&verified(&platform).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_other_columns_is_a_finding_and_gets_those_of_the_metadata() {
    let mut platform = Platform::new(people());
    let topic = filled(&platform);
    land(&platform, &topic, &[5], &[1, 2, 5]).await;
    let mut entity = people();
    entity["columns"] = json!([
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "height", "type": "double"},
    ]);
    platform.entity = serde_json::from_value(entity).unwrap();
    let index = platform.index().clone();
    let mut stage =
        SilverStage::new(platform.lake.clone(), index, &platform.entity, "UTC").unwrap();
    let refused = stage.progress().await.unwrap_err();
    assert!(matches!(refused, StageError::Mismatch(_)), "{refused}");
    let found = verified(&platform).await;
    let columns = found.checks.iter().find(|check| check.check == "columns of a rebuild").unwrap();
    assert!(!columns.holds);
    for said in ["`height` is missing in the table", "`mood` is not in the metadata"] {
        assert!(columns.detail.contains(said), "{}", columns.detail);
    }
    rebuilt(&platform).await;
    assert_equal(&verified(&platform).await);
    let row = &platform.silver_rows_by_datafusion().await[0];
    assert!(row.contains_key("height") && !row.contains_key("mood"), "{row:?}");
}

/// Of its two numbers one is a time in either unit.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_were_read_in_a_wrong_unit_are_read_anew_by_a_rebuild() {
    let entity = |unit: &str| {
        json!({
            "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
            "sequence_by": [{"carried": "long"}],
            "columns": [
                {"name": "id", "type": "long"}, {"name": "at", "type": "timestamp", "unit": unit},
            ],
        })
    };
    let line = |id: u64, at: u64| {
        json!({"op": "insert", "seq": id, "after": {"id": id, "at": at}}).to_string()
    };
    let mut platform = Platform::new(entity("ms"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&line(1, 31_536_000_000_000), &line(2, 1_795_248_000_000_001)]);
    land(&platform, &topic, &[1], &[1]).await;
    assert_eq!(platform.history(&["id", "at"]).await, ["1 2969-05-03T00:00:00Z [1,-) c"]);
    platform.entity = serde_json::from_value(entity("us")).unwrap();
    assert_eq!(platform.silver().progress().await.unwrap().unwrap().offset, 1, "it goes on");
    assert!(!verified(&platform).await.differences.is_empty());
    rebuilt(&platform).await;
    assert_equal(&verified(&platform).await);
    assert_eq!(
        platform.history(&["id", "at"]).await,
        ["1 1971-01-01T00:00:00Z [1,-) c", "2 2026-11-21T08:00:00.000001Z [2,-) c"]
    );
}

/// Of its two times one could be of either unit, and lies ahead of all that come.
#[tokio::test(flavor = "multi_thread")]
async fn times_carried_in_a_unit_that_was_said_late_are_in_order_after_a_rebuild() {
    let entity = |part: Value| {
        json!({
            "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
            "sequence_by": [part],
            "columns": [{"name": "id", "type": "long"}, {"name": "v", "type": "string"}],
        })
    };
    let line = |at: u64, v: &str| {
        json!({"op": "insert", "seq": at, "after": {"id": 1, "v": v}}).to_string()
    };
    let mut platform = Platform::new(entity(json!({"carried": "timestamp"})));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&line(31_536_000_000_000, "a"), &line(1_795_248_000_000_001, "b")]);
    apply(&mut platform.raw(1), &topic.all()).await;
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(platform.history(&["id", "v"]).await, ["1 a [2969-05-03T00:00:00Z,-) c"]);
    let [refused] = &applied.quarantined[..] else { panic!("{:?}", applied.quarantined) };
    assert_eq!(refused.code, "bad_sequence");
    for said in [r#""unit": "us""#, "`sequence_by`", "`alluvium rebuild silver shop.orders`"] {
        assert!(refused.reason.contains(said), "{}", refused.reason);
    }
    platform.entity =
        serde_json::from_value(entity(json!({"carried": "timestamp", "unit": "us"}))).unwrap();
    rebuilt(&platform).await;
    assert_equal(&verified(&platform).await);
    assert_eq!(
        platform.history(&["id", "v"]).await,
        [
            "1 a [1971-01-01T00:00:00Z,2026-11-21T08:00:00.000001Z) c",
            "1 b [2026-11-21T08:00:00.000001Z,-) c",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_not_made_from_one_epoch_of_two() {
    let platform = Platform::new(people());
    let mut topic = filled(&platform);
    land(&platform, &topic, &[5], &[5]).await;
    let folder = platform.lake_folder().join(path::raw(&platform.id()).as_ref());
    fs::rename(folder.join(EPOCH.to_string()), platform.index_folder().join("kept")).unwrap();
    topic.epoch = Epoch(EPOCH.0 + 1);
    let mut other = Topic::of(&platform);
    other.epoch = topic.epoch;
    other.mapped(&[&person(1, "Ann", "calm")]);
    apply(&mut platform.raw(1), &other.all()).await;
    fs::rename(platform.index_folder().join("kept"), folder.join(EPOCH.to_string())).unwrap();
    let refused =
        Shadow::begin(&platform.lake, &platform.entity, "UTC", &scratch(&platform), None).await;
    assert!(matches!(refused.err(), Some(StageError::UnexpectedEpoch { found: EPOCH, .. })));
    // The table tells which one it is of.
    assert_equal(&verified(&platform).await);
}

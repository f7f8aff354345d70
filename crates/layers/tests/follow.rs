//! A process that stands by follows a table that another one writes, and goes on with it as if it had
//! written it all itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_lake::index::{KeyEntries, KeyIndex};
use alluvium_lake::path;
use alluvium_layers::SilverStage;
use alluvium_model::clock::ManualClock;
use alluvium_model::{
    Clock, Column, ColumnType, Control, EntitySpec, Record, Stage, StageError, Upkeep,
};
use serde_json::json;

use crate::crash::{filled, is_marked, mark, marked};
use crate::evolution;
use crate::late::{day, notes, says};
use crate::platform::{
    Platform, Topic, apply, change, copy_folder, files_below, people, person, rows,
};

/// Another process: its index, and the stages that it opens on it.
struct Standby {
    index: KeyIndex,
}

impl Standby {
    fn of(platform: &Platform) -> Self {
        Self { index: platform.index_of(0) }
    }

    fn stage(&self, platform: &Platform) -> SilverStage {
        self.stage_of(platform, &platform.entity)
    }

    fn stage_of(&self, platform: &Platform, entity: &EntitySpec) -> SilverStage {
        SilverStage::new(platform.lake.clone(), self.index.clone(), entity, "UTC").unwrap()
    }

    /// That the index has got to the table's version by following it.
    async fn assert_followed(&self, platform: &Platform) {
        let reflects = self.index.reflects().unwrap().unwrap();
        assert!(reflects.mark.is(&platform.silver_table().await.mark()), "{reflects:?}");
        assert!(is_marked(&self.index), "it was made anew");
    }
}

fn note(seq: i64, members: &str) -> String {
    format!(r#"{{"op":"update","seq":{seq},"after":{{{members}}}}}"#)
}

fn added(column: &str) -> Record {
    let added = vec![Column::new(column, ColumnType::String)];
    Record::Control(Control::Schema { added, dropped: Vec::new(), widened: Vec::new() })
}

/// The values of a column that came while somebody stood by are there when that one closes the
/// versions that hold them.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_while_somebody_stands_by_are_not_lost_at_the_takeover() {
    for told in [false, true] {
        let platform = Platform::new(evolution::notes("evolve"));
        let mut topic = Topic::of(&platform);
        let standby = Standby::of(&platform);
        let (mut writer, mut follower) = (platform.silver(), standby.stage(&platform));
        topic.mapped(&[&note(1, r#""id":1,"name":"a""#), &note(1, r#""id":2,"name":"b""#)]);
        apply(&mut writer, &topic.newest()).await;
        follower.follow().await.unwrap();
        mark(&standby.index);
        follower.follow().await.unwrap();
        if told {
            topic.records(vec![added("x")]);
            apply(&mut writer, &topic.newest()).await;
        }
        // Twice the same: the second one is hidden, in a side file of the new columns.
        topic.mapped(&[
            &note(2, r#""id":1,"name":"a","x":"kept""#),
            &note(3, r#""id":1,"name":"a","x":"kept""#),
        ]);
        apply(&mut writer, &topic.newest()).await;
        follower.follow().await.unwrap();
        topic.mapped(&[&note(4, r#""id":2,"name":"b","x":"kept too""#)]);
        apply(&mut writer, &topic.newest()).await;
        follower.follow().await.unwrap();
        standby.assert_followed(&platform).await;
        drop((writer, follower));

        topic.mapped(&[
            &note(5, r#""id":1,"name":"c","x":"new""#),
            &note(5, r#""id":2,"name":"c","x":"new""#),
        ]);
        apply(&mut standby.stage(&platform), &topic.newest()).await;
        // The index is written behind the commit; whoever opens it next has all of it.
        standby.stage(&platform).progress().await.unwrap();
        standby.assert_followed(&platform).await;
        let expected = [
            "1 a - [1,2) u",
            "1 a kept [2,5) u",
            "1 c new [5,-) u",
            "2 b - [1,4) u",
            "2 b kept too [4,5) u",
            "2 c new [5,-) u",
        ];
        assert_eq!(platform.history(&["id", "name", "x"]).await, expected, "told: {told}");
    }
}

/// Whoever stands by with what was declared before does not pack rows without their new columns.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_of_a_column_does_not_follow() {
    let mut platform = Platform::new(people());
    let before = platform.entity.clone();
    let mut topic = Topic::of(&platform);
    let standby = Standby::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    apply(&mut platform.silver(), &topic.newest()).await;
    let mut follower = standby.stage_of(&platform, &before);
    follower.follow().await.unwrap();
    platform.entity.columns.push(Column::new("town", ColumnType::String));
    let line = r#"{"op":"update","seq":20,"after":{"id":1,"name":"Bob","town":"Oslo"}}"#;
    topic.mapped(&[line]);
    apply(&mut platform.silver(), &topic.newest()).await;
    let error = follower.follow().await.unwrap_err();
    assert!(matches!(error, StageError::Mismatch(_)), "{error}");
    assert!(error.to_string().contains("`town`"), "{error}");
    drop(follower);
    topic.mapped(&[&line.replace("20", "30").replace("Oslo", "Rome")]);
    apply(&mut standby.stage(&platform), &topic.newest()).await;
    assert_eq!(
        platform.history(&["id", "name", "town"]).await,
        ["1 Ann - [10,20) u", "1 Bob Oslo [20,30) u", "1 Bob Rome [30,-) u"]
    );
}

/// An index that says that its entries have fewer columns than the table had by then.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_fewer_columns_than_its_table_is_not_believed() {
    let platform = Platform::new(evolution::notes("evolve"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&note(1, r#""id":1,"name":"a","x":"kept""#)]);
    apply(&mut platform.silver(), &topic.newest()).await;
    marked(&platform).await;
    let reflects = platform.index().reflects().unwrap().unwrap();
    let fewer = reflects.columns.strip_suffix(",x:Utf8:Track").unwrap();
    platform.index().update().finish(&reflects.mark, fewer).unwrap();
    platform.silver().progress().await.unwrap();
    assert!(!is_marked(platform.index()));
}

/// A reading that fails, as of a store that does not answer, until it is undone.
struct Fault(PathBuf);

impl Fault {
    fn at(file: &Path) -> Self {
        fs::rename(file, file.with_extension("aside")).unwrap();
        // What leads to itself cannot be opened, and is not gone either.
        symlink(file, file).unwrap();
        Self(file.to_owned())
    }

    fn undone(self) {
        fs::remove_file(&self.0).unwrap();
        fs::rename(self.0.with_extension("aside"), &self.0).unwrap();
    }
}

fn folder(platform: &Platform) -> PathBuf {
    platform.lake_folder().join(path::silver(&platform.id()).as_ref())
}

/// The files of a kind that are there now and were not before.
fn new(platform: &Platform, suffix: &str, before: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = files_below(&folder(platform), suffix);
    files.retain(|file| !before.contains(file));
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_moment_does_not_cost_the_index() {
    for suffix in [".zstd.parquet", ".ndjson.zst"] {
        for stands_by in [false, true] {
            let mut platform = Platform::new(people());
            let topic = filled(&platform);
            apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
            marked(&platform).await;
            let before = files_below(&folder(&platform), suffix);
            platform.change_index();
            apply(&mut platform.silver(), &topic.delivery(1, 2)).await;
            platform.change_index();
            let faults: Vec<Fault> =
                new(&platform, suffix, &before).iter().map(|file| Fault::at(file)).collect();
            assert!(!faults.is_empty());
            let mut stage = platform.silver();
            let failed = match stands_by {
                true => stage.follow().await.unwrap_err(),
                false => stage.progress().await.unwrap_err(),
            };
            assert!(matches!(failed, StageError::Unavailable(_)), "{suffix}: {failed}");
            assert!(is_marked(platform.index()), "{suffix}: the index is lost");
            faults.into_iter().for_each(Fault::undone);
            match stands_by {
                true => stage.follow().await.unwrap(),
                false => drop(stage.progress().await.unwrap()),
            }
            assert!(is_marked(platform.index()), "{suffix}: it was made anew");
        }
    }
}

/// Where the index is to be made anew, it is not emptied before there is something to fill it with.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_cannot_be_made_anew_now_is_not_emptied() {
    let mut platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    marked(&platform).await;
    // Of other columns, so that it cannot follow.
    let reflects = platform.index().reflects().unwrap().unwrap();
    platform.index().update().finish(&reflects.mark, "another:Utf8:Track").unwrap();
    let faults: Vec<Fault> =
        new(&platform, ".ndjson.zst", &[]).iter().map(|f| Fault::at(f)).collect();
    assert!(!faults.is_empty());
    let error = platform.silver().progress().await.unwrap_err();
    assert!(matches!(error, StageError::Unavailable(_)), "{error}");
    assert!(is_marked(platform.index()));
    faults.into_iter().for_each(Fault::undone);
    platform.silver().progress().await.unwrap();
    assert!(!is_marked(platform.index()));
    platform.open_index();
    for offset in 1..topic.end() {
        apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
    }
    let undisturbed = Platform::new(people());
    apply(&mut undisturbed.silver(), &filled(&undisturbed).all()).await;
    assert_eq!(rows(&platform).await, rows(&undisturbed).await);
}

/// A table that is as far as the index, or further, and is another one.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_table_of_as_many_versions_is_not_believed() {
    for further in [0, 1] {
        for stands_by in [false, true] {
            let platform = Platform::new(people());
            let mut topic = Topic::of(&platform);
            for seq in 1..=3 {
                topic.mapped(&[&person(seq * 10, &format!("name {seq}"), "calm")]);
            }
            let standby = Standby::of(&platform);
            apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
            let mut follower = standby.stage(&platform);
            follower.follow().await.unwrap();
            apply(&mut platform.silver(), &topic.delivery(1, 2)).await;
            follower.follow().await.unwrap();
            let old = platform.silver_table().await.version();

            // Remade from the same topic, in other batches.
            fs::remove_dir_all(folder(&platform)).unwrap();
            platform.index().clear().unwrap();
            let mut writer = platform.silver();
            apply(&mut writer, &topic.delivery(0, 2)).await;
            apply(&mut writer, &topic.delivery(2, 3)).await;
            for seq in 0..further {
                topic.mapped(&[&person(40 + seq, "more", "calm")]);
                apply(&mut writer, &topic.newest()).await;
            }
            drop(writer);
            assert_eq!(platform.silver_table().await.version(), old + further);
            if stands_by {
                follower.follow().await.unwrap();
                let reflects = standby.index.reflects().unwrap().unwrap();
                assert!(reflects.mark.is(&platform.silver_table().await.mark()), "{reflects:?}");
            }
            drop(follower);
            topic.mapped(&[&person(50, "Last", "calm")]);
            apply(&mut standby.stage(&platform), &topic.newest()).await;
            let history = platform.history(&["id", "name"]).await;
            let open = history.iter().filter(|row| row.contains(",-)")).count();
            assert_eq!(open, 1, "{further}, stands by: {stands_by}: {history:?}");
            assert_eq!(history.len(), 4 + further as usize, "{history:?}");
        }
    }
}

/// Who was away for longer than the log is kept finds neither the entry that it stood at nor the next
/// one: the table looks as if nothing had come.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_longer_than_the_log_is_kept_begins_anew() {
    for away in [1, 3] {
        let platform = Platform::new(people());
        let mut topic = Topic::of(&platform);
        let standby = Standby::of(&platform);
        let (mut writer, mut follower) = (platform.silver(), standby.stage(&platform));
        topic.mapped(&[&person(1, "Ann", "calm")]);
        apply(&mut writer, &topic.newest()).await;
        follower.follow().await.unwrap();
        mark(&standby.index);
        for seq in 2..2 + away {
            topic.mapped(&[&person(seq, &format!("name {seq}"), "calm")]);
            apply(&mut writer, &topic.newest()).await;
        }
        drop(writer);
        let mut table = platform.silver_table().await;
        table.write_checkpoint(0).await.unwrap();
        let oldest = table.version();
        topic.mapped(&[&person(10, "Bob", "calm")]);
        apply(&mut platform.silver(), &topic.newest()).await;
        let mut table = platform.silver_table().await;
        table.write_checkpoint(0).await.unwrap();
        let later = platform.lake.clock().now().as_millisecond() + 86_400_000;
        assert!(table.clean_log(later, 100).await.unwrap().removed > 0);
        assert!(table.back_to(oldest - 1).await.unwrap().is_none());

        follower.follow().await.unwrap();
        let reflects = standby.index.reflects().unwrap().unwrap();
        assert!(reflects.mark.is(&table.mark()), "away for {away}: {reflects:?}");
        assert!(!is_marked(&standby.index));
        // From there on it follows again.
        mark(&standby.index);
        topic.mapped(&[&person(20, "Cid", "calm")]);
        apply(&mut platform.silver(), &topic.newest()).await;
        follower.follow().await.unwrap();
        standby.assert_followed(&platform).await;
    }
}

/// A lake that was set back to a copy and has gone another way since.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_table_that_was_set_back_and_went_another_way_is_not_believed() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    for (seq, name) in [(10, "Ann"), (20, "Bob"), (30, "Cid"), (40, "Dan")] {
        topic.mapped(&[&person(seq, name, "calm")]);
    }
    let standby = Standby::of(&platform);
    let kept = platform.index_folder().with_file_name("kept");
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    copy_folder(&folder(&platform), &kept);
    apply(&mut standby.stage(&platform), &topic.delivery(1, 2)).await;
    fs::remove_dir_all(folder(&platform)).unwrap();
    copy_folder(&kept, &folder(&platform));
    // As many versions as the standby's index has, of other rows.
    apply(&mut platform.silver(), &topic.delivery(1, 3)).await;
    standby.stage(&platform).follow().await.unwrap();
    apply(&mut standby.stage(&platform), &topic.delivery(3, 4)).await;
    assert_eq!(
        platform.history(&["id", "name"]).await,
        ["1 Ann [10,20) u", "1 Bob [20,30) u", "1 Cid [30,40) u", "1 Dan [40,-) u"]
    );
}

/// What an expiry removed is told by the rows that went, and the index need not be made anew.
#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_removed_is_followed() {
    let clock = Arc::new(ManualClock::at("2025-02-19T00:00:00Z".parse().unwrap()));
    let entity = notes(json!({"history_retention": "30d"}));
    let platform = Platform::by_clock(entity, Arc::clone(&clock) as Arc<dyn Clock>);
    let mut topic = Topic::of(&platform);
    let standby = Standby::of(&platform);
    let (mut writer, mut follower) = (platform.silver(), standby.stage(&platform));
    topic.changes(vec![
        says(1, &day(1), "gone"),
        says(1, &day(5), "gone"),
        says(1, &day(6), "gone"),
        says(1, &day(10), "spans"),
        says(1, &day(25), "open"),
        says(2, &day(2), "open since long ago"),
    ]);
    topic.changes(vec![
        says(3, &day(3), "gone"),
        says(3, &day(4), "gone too"),
        change(alluvium_model::Op::Delete, &json!({"id": 3}), vec![json!(day(19))]),
    ]);
    apply(&mut writer, &topic.delivery(0, 1)).await;
    follower.follow().await.unwrap();
    mark(&standby.index);
    apply(&mut writer, &topic.delivery(1, 2)).await;
    for days in [6, 31, 31] {
        assert!(writer.maintain(Upkeep::All).await.unwrap().versions_removed > 0);
        follower.follow().await.unwrap();
        standby.assert_followed(&platform).await;
        clock.advance(Duration::from_secs(days * 86_400));
        topic.changes(vec![says(2, &clock.now().to_string(), "again")]);
        topic.changes(vec![says(1, &clock.now().to_string(), &format!("at {}", clock.now()))]);
        apply(&mut writer, &topic.delivery(topic.end() - 2, topic.end())).await;
    }
    drop((writer, follower));
    topic.changes(vec![says(1, &clock.now().to_string(), "last")]);
    let mut stage = standby.stage(&platform);
    apply(&mut stage, &topic.newest()).await;
    drop(stage);
    standby.stage(&platform).progress().await.unwrap();
    standby.assert_followed(&platform).await;
    platform.index().clear().unwrap();
    platform.silver().progress().await.unwrap();
    assert_eq!(history_of(&standby.index), history_of(platform.index()));
}

/// How many closed versions and hidden events an index has, of the keys that have any.
fn history_of(index: &KeyIndex) -> Vec<(u128, usize, usize)> {
    let (keys, _) = index.keys_from(0, usize::MAX).unwrap();
    let counts = |key: &KeyEntries| (key.key, key.closed.len(), key.hidden.len());
    keys.iter().map(counts).filter(|(_, closed, hidden)| closed + hidden > 0).collect()
}

/// Entries carry a hash of the columns that limit what a snapshot closes.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_made_anew_when_what_limits_snapshots_has_changed() {
    let mut platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    apply(&mut platform.silver(), &topic.newest()).await;
    marked(&platform).await;
    platform.silver().progress().await.unwrap();
    assert!(is_marked(platform.index()));
    platform.entity.snapshot.scope = vec!["mood".to_owned()];
    platform.silver().progress().await.unwrap();
    assert!(!is_marked(platform.index()));
    marked(&platform).await;
    platform.entity.snapshot.scope = vec!["name".to_owned()];
    platform.silver().progress().await.unwrap();
    assert!(!is_marked(platform.index()));
}

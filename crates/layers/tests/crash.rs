//! What a crash may leave behind, at each point of a commit, and what is delivered again after it.

use std::collections::BTreeMap;
use std::fs;

use alluvium_lake::index::{KeyIndex, Reflects};
use alluvium_lake::{Commit, path};
use alluvium_model::{Epoch, Span, Stage, StageError, Upkeep};
use roaring::RoaringTreemap;

use crate::platform::{
    EPOCH, Platform, Rows, Topic, apply, copy_folder, files_below, gone, people, person, rows,
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
    topic.mapped(&[&person(60, "Ann", "calm"), &person(60, "Eve", "sly")]);
    topic.mapped(&[&person(15, "Bob", "calm"), &person(41, "Bob", "sad")]);
    topic.mapped(&[&person(25, "Bob", "calm"), &gone(42), &person(60, "Zed", "old")]);
    topic
}

async fn undisturbed() -> Rows {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.silver(), &topic.all()).await;
    rows(&platform).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_commit_that_never_was_do_no_harm() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    for offset in 0..topic.end() {
        apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
        for file in files_below(&folder, ".parquet").into_iter().chain(files_below(&folder, ".zst"))
        {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with("orphan") {
                fs::copy(&file, file.with_file_name(format!("orphan-{name}"))).unwrap();
            }
        }
        fs::create_dir_all(folder.join("_alluvium/hidden")).unwrap();
        let next = format!("_alluvium/hidden/{:020}.ndjson.zst", offset + 2);
        fs::write(folder.join(next), b"half of a file").unwrap();
        platform.index().clear().unwrap();
    }
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_older_than_the_table_follows_it() {
    let mut platform = Platform::new(people());
    let topic = filled(&platform);
    let kept = platform.index_folder().with_file_name("kept");
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    marked(&platform).await;
    for offset in 1..topic.end() {
        platform.close_index();
        fs::remove_dir_all(&kept).ok();
        copy_folder(&platform.index_folder(), &kept);
        platform.open_index();
        apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
        platform.close_index();
        fs::remove_dir_all(platform.index_folder()).unwrap();
        copy_folder(&kept, &platform.index_folder());
        platform.open_index();
        platform.silver().progress().await.unwrap();
        assert!(is_marked(platform.index()), "it was made anew at offset {offset}");
    }
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_follows_a_compaction_and_no_rows_that_another_program_deleted() {
    let mut platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    for id in 1..=4 {
        let row =
            format!(r#"{{"op":"create","seq":{id},"after":{{"id":{id},"name":"n","mood":"m"}}}}"#);
        topic.mapped(&[&row]);
    }
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    marked(&platform).await;
    platform.change_index();
    let mut elsewhere = platform.silver_kept_eagerly();
    for offset in 1..4 {
        apply(&mut elsewhere, &topic.delivery(offset, offset + 1)).await;
    }
    let kept = elsewhere.maintain(Upkeep::All).await.unwrap();
    assert!(kept.compactions > 0, "{kept:?}");
    drop(elsewhere);
    platform.change_index();
    let mut table = platform.silver_table().await;
    platform.silver().follow().await.unwrap();
    assert!(is_marked(platform.index()), "rows that moved are followed");
    assert!(reflected(&platform).mark.is(&table.mark()));
    let open = table.files().find(|file| file.current == Some(true)).unwrap().id;
    let mut delete = BTreeMap::new();
    delete.insert(open, RoaringTreemap::from_iter([0]));
    let commit = Commit {
        add: Vec::new(),
        delete,
        txns: Vec::new(),
        info: serde_json::Value::Null,
        operation: "DELETE",
    };
    table.commit(commit).await.unwrap();
    platform.silver().progress().await.unwrap();
    assert!(!is_marked(platform.index()), "of which key the row was, nobody tells");
}

const MARK: u32 = 1_000_000;

fn reflected(platform: &Platform) -> Reflects {
    platform.index().reflects().unwrap().unwrap()
}

/// Puts something into the index that is lost when it is made anew.
pub(crate) async fn marked(platform: &Platform) {
    assert!(reflected(platform).mark.is(&platform.silver_table().await.mark()));
    mark(platform.index());
}

pub(crate) fn mark(index: &KeyIndex) {
    let Reflects { mark, columns } = index.reflects().unwrap().unwrap();
    let mut update = index.update();
    update.name(MARK, "a mark");
    update.finish(&mark, &columns).unwrap();
}

pub(crate) fn is_marked(index: &KeyIndex) -> bool {
    index.name(MARK).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_newer_than_a_restored_table_is_rebuilt() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let kept = platform.index_folder().with_file_name("kept");
    apply(&mut platform.silver(), &topic.delivery(0, 2)).await;
    copy_folder(&folder, &kept);
    apply(&mut platform.silver(), &topic.delivery(2, 4)).await;
    fs::remove_dir_all(&folder).unwrap();
    copy_folder(&kept, &folder);
    let mut stage = platform.silver();
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
    for offset in 2..5 {
        apply(&mut stage, &topic.delivery(offset, offset + 1)).await;
    }
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_garbage_is_set_up_anew() {
    let mut platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 3)).await;
    platform.close_index();
    for file in files_below(&platform.index_folder(), "") {
        let garbage = vec![0xA5; fs::metadata(&file).unwrap().len() as usize];
        fs::write(&file, garbage).unwrap();
    }
    platform.open_index();
    apply(&mut platform.silver(), &topic.delivery(3, 5)).await;
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_entries_do_not_read_is_rebuilt_when_the_batch_is_tried_again() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 1)).await;
    let Reflects { mark, columns } = reflected(&platform);
    let key_hash = platform.silver_rows().await[0]["_key_hash"].clone().unwrap();
    let mut update = platform.index().update();
    update.current(u128::from_str_radix(&key_hash, 16).unwrap(), &[1]);
    update.finish(&mark, &columns).unwrap();
    let mut stage = platform.silver();
    let error = stage.apply(&topic.delivery(1, 5)).await.unwrap_err();
    assert!(error.remedy().is_retry(), "{error}");
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 1);
    apply(&mut stage, &topic.delivery(1, 5)).await;
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_newest_log_entry_is_set_aside_and_its_batch_applied_again() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 2)).await;
    apply(&mut platform.silver(), &topic.delivery(2, 4)).await;
    let folder = platform.lake_folder().join(path::silver(&platform.id()).as_ref());
    let newest = files_below(&folder.join("_delta_log"), ".json").pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    let mut stage = platform.silver();
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 2);
    apply(&mut stage, &topic.delivery(2, 5)).await;
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_again_is_left_out() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    for stage in [&mut platform.silver() as &mut dyn Stage, &mut platform.bronze()] {
        apply(stage, &topic.delivery(0, 2)).await;
        assert_eq!(stage.apply(&topic.delivery(0, 2)).await.unwrap(), []);
        assert_eq!(stage.apply(&topic.delivery(1, 2)).await.unwrap(), []);
        let overlapping = stage.apply(&topic.delivery(1, 4)).await.unwrap();
        assert_eq!(overlapping[0].span, Span { epoch: EPOCH, after: 2, to: 4 });
        assert_eq!(overlapping[0].counts.records, topic.delivery(2, 4).records());
        let last = stage.apply(&topic.all()).await.unwrap();
        assert_eq!(last[0].counts.records, topic.newest().records());
        let totals = stage.progress().await.unwrap().unwrap().totals;
        assert_eq!(totals.records, topic.all().records());
        assert!(totals.is_conserved());
    }
    assert_eq!(rows(&platform).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_and_another_epoch_are_errors_and_change_nothing() {
    let platform = Platform::new(people());
    let topic = filled(&platform);
    for stage in
        [&mut platform.silver() as &mut dyn Stage, &mut platform.bronze(), &mut platform.raw(1)]
    {
        let hole = stage.apply(&topic.delivery(1, 2)).await.unwrap_err();
        assert!(matches!(hole, StageError::Hole { at: 0, .. }), "{hole}");
        apply(stage, &topic.delivery(0, 1)).await;
        let hole = stage.apply(&topic.delivery(2, 3)).await.unwrap_err();
        assert!(matches!(hole, StageError::Hole { at: 1, .. }), "{hole}");

        let mut mixed_up = topic.delivery(1, 4);
        mixed_up.messages.swap(0, 1);
        let error = stage.apply(&mixed_up).await.unwrap_err();
        assert!(matches!(error, StageError::Bug(_)), "{error}");
        let mut too_much = topic.delivery(1, 4);
        too_much.span.to = 3;
        let error = stage.apply(&too_much).await.unwrap_err();
        assert!(matches!(error, StageError::Bug(_)), "{error}");

        let mut recreated = Topic::of(&platform);
        recreated.epoch = Epoch(EPOCH.0 + 1);
        recreated.mapped(&[&person(1, "Ann", "calm")]);
        let error = stage.apply(&recreated.all()).await.unwrap_err();
        assert!(matches!(error, StageError::UnexpectedEpoch { expected: EPOCH, .. }), "{error}");
        let progress = stage.progress().await.unwrap().unwrap();
        assert_eq!((progress.epoch, progress.offset), (EPOCH, 1));
    }
}

/// Only with a column that is updated in place does a version show another event than it opened
/// with, and only beside the table stands what that event did.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_index_still_knows_what_the_shown_event_did() {
    for lost in [false, true] {
        let platform = Platform::new(people());
        let mut topic = Topic::of(&platform);
        let insert = person(10, "Ann", "calm").replace("update", "insert");
        topic.mapped(&[&insert, &person(30, "Ann", "merry")]);
        apply(&mut platform.silver(), &topic.newest()).await;
        if lost {
            platform.index().clear().unwrap();
        }
        topic.mapped(&[&person(20, "Bob", "calm")]);
        apply(&mut platform.silver(), &topic.newest()).await;
        assert_eq!(
            platform.history(&["id", "name", "mood"]).await,
            ["1 Ann calm [10,20) c", "1 Bob calm [20,30) u", "1 Ann merry [30,-) u"],
            "index lost: {lost}"
        );
    }
}

/// A hidden event whose values another row tells must keep them itself once no row does.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_hidden_event_said_outlives_the_row_that_said_the_same() {
    for lost in [false, true] {
        let platform = Platform::new(people());
        let mut topic = Topic::of(&platform);
        for line in [
            person(10, "Ann", "calm"),
            person(20, "Ann", "calm"),
            person(30, "Ann", "merry"),
            person(15, "Bob", "calm"),
            gone(25),
        ] {
            topic.mapped(&[&line]);
            if lost {
                platform.index().clear().unwrap();
            }
            apply(&mut platform.silver(), &topic.newest()).await;
        }
        assert_eq!(
            platform.history(&["id", "name", "mood"]).await,
            [
                "1 Ann calm [10,15) u",
                "1 Bob calm [15,20) u",
                "1 Ann calm [20,25) u",
                "1 Ann merry [30,-) u",
            ],
            "index lost: {lost}"
        );
    }
}

//! Tables whose columns have changed: read as they were before, rebuilt, broken off, written by two.

use alluvium_lake::path;
use alluvium_model::{ColumnType, Stage};
use deltalake::datafusion::prelude::SessionContext;

use crate::evolution::{grown, note, notes, told};
use crate::platform::{Platform, Topic, apply, as_rows, without_batch};
use crate::rebuild::{assert_equal, land, rebuilt, verified};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_from_before_still_reads_with_its_own_columns() {
    let platform = Platform::new(notes("evolve"));
    let topic = grown(&platform);
    let mut stage = platform.silver();
    apply(&mut stage, &topic.delivery(0, 1)).await;
    let (version, rows) = (platform.silver_table().await.version(), platform.silver_rows().await);
    apply(&mut stage, &topic.delivery(1, 7)).await;
    let url = platform.lake.url_of(&path::silver(&platform.id()));
    let old = u64::try_from(version).unwrap();
    let table = deltalake::open_table_with_version(url, old).await.unwrap();
    let context = SessionContext::new();
    context.register_table("t", table.table_provider().await.unwrap()).unwrap();
    let read = as_rows(&context.sql("select * from t").await.unwrap().collect().await.unwrap());
    assert_eq!(read, rows);
    assert!(rows[0].contains_key("k") && !rows[0].contains_key("z"));
    assert!(platform.silver_rows().await[0].contains_key("z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_an_entity_that_grew_is_the_table() {
    for (raw, silver) in
        [(&[7][..], &[1, 2, 3, 4, 5, 6, 7][..]), (&[1, 2, 3, 4, 5, 6, 7], &[7]), (&[3, 7], &[2, 7])]
    {
        let platform = Platform::new(notes("evolve"));
        let topic = grown(&platform);
        land(&platform, &topic, raw, silver).await;
        assert_equal(&verified(&platform).await);
        let before = without_batch(platform.silver_rows().await);
        rebuilt(&platform).await;
        assert_eq!(without_batch(platform.silver_rows().await), before);
        assert_equal(&verified(&platform).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_rebuilt_with_its_columns_in_another_order_goes_on() {
    for lost in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let mut topic = grown(&platform);
        land(&platform, &topic, &[7], &[1, 2, 3, 4, 5, 6, 7]).await;
        rebuilt(&platform).await;
        if lost {
            platform.index().clear().unwrap();
        }
        topic.mapped(&[
            &note(12, r#""id":1,"name":"Zed","y":1,"z":2,"new":3"#),
            &note(80, r#""id":2,"name":"Eve","count":8"#),
        ]);
        let applied = apply(&mut platform.silver(), &topic.newest()).await;
        assert_eq!(applied.counts.late, 1);
        let once = Platform::quick(notes("evolve"));
        apply(&mut once.silver(), &topic.all()).await;
        let expected = without_batch(once.silver_rows().await);
        assert_eq!(without_batch(platform.silver_rows().await), expected, "index lost: {lost}");
    }
}

/// The new columns are a commit of their own. Where the one with the rows is missing, the batch
/// comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_new_columns_and_their_rows_loses_neither() {
    let expected = Platform::quick(notes("evolve"));
    let topic = grown(&expected);
    apply(&mut expected.silver(), &topic.all()).await;
    let expected = without_batch(expected.silver_rows().await);
    let platform = Platform::quick(notes("evolve"));
    let log = platform.lake_folder().join(path::silver(&platform.id()).as_ref()).join("_delta_log");
    for offset in 0..topic.end() {
        let delivery = topic.delivery(offset, offset + 1);
        apply(&mut platform.silver(), &delivery).await;
        let newest = crate::platform::files_below(&log, ".json").pop().unwrap();
        std::fs::remove_file(newest).unwrap();
        let mut stage = platform.silver();
        let progress = stage.progress().await.unwrap().map_or(0, |progress| progress.offset);
        assert_eq!(progress, offset);
        apply(&mut stage, &delivery).await;
    }
    assert_eq!(without_batch(platform.silver_rows().await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_newest_log_entry_of_a_table_that_grew_is_set_aside() {
    let platform = Platform::new(notes("evolve"));
    let topic = grown(&platform);
    apply(&mut platform.silver(), &topic.delivery(0, 3)).await;
    apply(&mut platform.silver(), &topic.delivery(3, 5)).await;
    let log = platform.lake_folder().join(path::silver(&platform.id()).as_ref()).join("_delta_log");
    let newest = crate::platform::files_below(&log, ".json").pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    let mut stage = platform.silver();
    let progress = stage.progress().await.unwrap().unwrap();
    assert_eq!(progress.offset, 4);
    apply(&mut stage, &topic.delivery(4, 7)).await;
    let once = Platform::quick(notes("evolve"));
    apply(&mut once.silver(), &topic.all()).await;
    let expected = without_batch(once.silver_rows().await);
    assert_eq!(without_batch(platform.silver_rows().await), expected);
}

/// The index reflects what was committed before the new columns, and not what came between.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_came_before_the_new_columns_is_noticed() {
    for by_message in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let mut topic = Topic::of(&platform);
        topic.mapped(&[&note(1, r#""id":1,"name":"a""#)]);
        topic.mapped(&[&note(2, r#""id":1,"name":"b""#)]);
        match by_message {
            true => topic.records(vec![told(&[("n", ColumnType::Long)], &[], &[])]),
            false => topic.mapped(&[&note(3, r#""id":1,"name":"b","n":5"#)]),
        }
        let (mut overtaken, mut winner) = (platform.silver(), platform.silver_elsewhere());
        apply(&mut overtaken, &topic.delivery(0, 1)).await;
        apply(&mut winner, &topic.delivery(1, 2)).await;
        let error = overtaken.apply(&topic.delivery(1, 3)).await.unwrap_err();
        assert!(error.remedy().is_retry(), "{error}");
        assert_eq!(overtaken.progress().await.unwrap().unwrap().offset, 2);
        apply(&mut overtaken, &topic.newest()).await;
        topic.mapped(&[&note(4, r#""id":1,"name":"c","n":6"#)]);
        apply(&mut overtaken, &topic.newest()).await;
        let middle =
            if by_message { vec!["1 b [2,4) u"] } else { vec!["1 b [2,3) u", "1 b [3,4) u"] };
        let expected = [vec!["1 a [1,2) u"], middle, vec!["1 c [4,-) u"]].concat();
        assert_eq!(platform.history(&["id", "name"]).await, expected, "by a message: {by_message}");
    }
}

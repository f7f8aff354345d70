//! A second writer: whoever is not alone notices, and leaves nothing behind that counts.

use alluvium_lake::{Commit, CommitOutcome};
use alluvium_model::{Stage, StageError};
use serde_json::Value;

use crate::platform::{Platform, Topic, apply, people, person};

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_came_between_is_noticed_and_the_batch_planned_anew() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    let mut stage = platform.silver();
    apply(&mut stage, &topic.newest()).await;
    let mut other = platform.silver_table().await;
    let commit = Commit {
        add: Vec::new(),
        delete: Default::default(),
        txns: vec![("alluvium/owner".to_owned(), 7)],
        info: Value::Null,
        operation: "OWN",
    };
    let outcome = other.commit(commit).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Written { .. }), "{outcome:?}");
    topic.mapped(&[&person(20, "Bob", "calm")]);
    let error = stage.apply(&topic.newest()).await.unwrap_err();
    assert!(matches!(error, StageError::Unavailable(_)), "{error}");
    assert!(error.remedy().is_retry());
    assert_eq!(stage.progress().await.unwrap().unwrap().offset, 1);
    apply(&mut stage, &topic.newest()).await;
    assert_eq!(platform.history(&["id", "name"]).await, ["1 Ann [10,20) u", "1 Bob [20,-) u"]);
    assert_eq!(platform.silver_table().await.txn("alluvium/owner"), Some(7));
}

/// The side file of a writer whose commit is refused must not take the place of the one that the
/// winner's commit names.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_overtaken_spoils_nothing_of_what_is_remembered() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    topic.mapped(&[&person(20, "Ann", "calm")]);
    topic.mapped(&[&person(30, "Ann", "calm")]);
    let mut overtaken = platform.silver();
    apply(&mut overtaken, &topic.delivery(0, 1)).await;
    let mut winner = platform.silver_elsewhere();
    apply(&mut winner, &topic.delivery(1, 3)).await;
    let error = overtaken.apply(&topic.delivery(1, 2)).await.unwrap_err();
    assert!(matches!(error, StageError::Unavailable(_)), "{error}");

    topic.mapped(&[&person(15, "Bob", "calm"), &person(25, "Bob", "calm")]);
    let mut next = platform.silver();
    assert_eq!(next.progress().await.unwrap().unwrap().offset, 3);
    apply(&mut next, &topic.newest()).await;
    assert_eq!(
        platform.history(&["id", "name"]).await,
        [
            "1 Ann [10,15) u",
            "1 Bob [15,20) u",
            "1 Ann [20,25) u",
            "1 Bob [25,30) u",
            "1 Ann [30,-) u",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bronze_and_raw_notice_another_writer_too() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&person(10, "Ann", "calm")]);
    topic.mapped(&[&person(20, "Bob", "calm")]);
    let stages: [(Box<dyn Stage>, Box<dyn Stage>); 2] = [
        (Box::new(platform.bronze()), Box::new(platform.bronze())),
        (Box::new(platform.raw(1)), Box::new(platform.raw(1))),
    ];
    for (mut one, mut other) in stages {
        assert_eq!(one.progress().await.unwrap(), None);
        assert_eq!(other.progress().await.unwrap(), None);
        apply(&mut *one, &topic.all()).await;
        let error = other.apply(&topic.delivery(0, 1)).await.unwrap_err();
        assert!(matches!(error, StageError::Unavailable(_)), "{error}");
        assert_eq!(other.progress().await.unwrap().unwrap().offset, 2);
        assert_eq!(other.apply(&topic.all()).await.unwrap(), []);
    }
}

//! Raw as a subscriber: the same messages in the same places, and silver from them as from the bus.

use std::fs;
use std::time::Duration;

use alluvium_layers::RawReplay;
use alluvium_model::{BusError, Epoch, FetchLimit, Position, Stage, Subscriber};

use crate::platform::{EPOCH, Platform, Topic, apply, files_below, gone, people, person};

/// Seven messages in three raw objects: offsets 1 to 3, 4 to 5, 6 to 7.
async fn landed(platform: &Platform) -> Topic {
    let mut topic = Topic::of(platform);
    for n in 0..7 {
        topic.mapped(&[
            &person(n * 10, &format!("name {n}"), "calm"),
            "no JSON",
            &gone(n * 10 + 5),
        ]);
    }
    for (after, to) in [(0, 3), (3, 5), (5, 7)] {
        apply(&mut platform.raw(1), &topic.delivery(after, to)).await;
    }
    topic
}

async fn open(platform: &Platform) -> RawReplay {
    RawReplay::open(platform.lake.clone(), platform.id()).await.unwrap()
}

fn few(records: u64) -> FetchLimit {
    FetchLimit { records, bytes: 1 << 20, wait: Duration::from_millis(1) }
}

fn at(epoch: Epoch, offset: u64) -> Position {
    Position { epoch, offset, index: 0 }
}

/// Fetches until nothing more comes; returns the offsets, and checks the messages and the spans.
async fn rest(replay: &mut RawReplay, topic: &Topic, limit: FetchLimit) -> Vec<u64> {
    let mut offsets: Vec<u64> = Vec::new();
    loop {
        let delivery = replay.fetch(limit).await.unwrap();
        if delivery.is_empty() {
            assert_eq!(delivery.span.messages(), 0);
            return offsets;
        }
        assert_eq!(delivery.span.to, delivery.messages.last().unwrap().offset);
        assert_eq!(delivery.span.after + 1, delivery.messages[0].offset);
        for message in &delivery.messages {
            let original = &topic.messages[message.offset as usize - 1];
            assert_eq!(message.headers, original.headers);
            let lines =
                |m: &alluvium_model::Message| m.lines().map(<[u8]>::to_vec).collect::<Vec<_>>();
            assert_eq!(lines(message), lines(original));
            assert_eq!(message.published_at_us, original.published_at_us);
            assert_eq!((message.epoch, message.records), (original.epoch, original.records));
            offsets.push(message.offset);
        }
        replay.commit(&delivery.span).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_messages_come_again_in_whatever_portions() {
    let platform = Platform::new(people());
    let topic = landed(&platform).await;
    for records in [1, 4, 7, 1_000] {
        let mut replay = open(&platform).await;
        assert_eq!(rest(&mut replay, &topic, few(records)).await, [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_after_any_message_and_takes_up_what_lands_meanwhile() {
    let platform = Platform::new(people());
    let mut topic = landed(&platform).await;
    let mut replay = open(&platform).await;
    for offset in [0, 3, 1, 4, 7, 5] {
        replay.seek(&at(EPOCH, offset)).await.unwrap();
        let expected: Vec<u64> = (offset + 1..=7).collect();
        assert_eq!(rest(&mut replay, &topic, few(4)).await, expected, "after {offset}");
    }
    replay.seek(&at(EPOCH, 7)).await.unwrap();
    assert_eq!(rest(&mut replay, &topic, few(4)).await, [0u64; 0]);
    topic.mapped(&[&person(100, "late", "calm")]);
    apply(&mut platform.raw(1), &topic.newest()).await;
    assert_eq!(rest(&mut replay, &topic, few(4)).await, [8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn silver_from_raw_is_silver_from_the_bus() {
    let platform = Platform::new(people());
    let topic = landed(&platform).await;
    apply(&mut platform.silver(), &topic.all()).await;
    let from_bus = platform.silver_rows().await;
    fs::remove_dir_all(platform.lake_folder().join("silver")).unwrap();
    let mut replay = open(&platform).await;
    let mut stage = platform.silver();
    assert_eq!(stage.progress().await.unwrap(), None);
    let delivery = replay.fetch(FetchLimit::default()).await.unwrap();
    apply(&mut stage, &delivery).await;
    assert_eq!(platform.silver_rows().await, from_bus);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_an_error_and_never_a_skip() {
    let platform = Platform::new(people());
    let mut replay = open(&platform).await;
    assert!(replay.fetch(few(1)).await.unwrap().is_empty(), "nothing has landed yet");
    let topic = landed(&platform).await;
    for offset in [0, 2] {
        let error = replay.seek(&at(Epoch(EPOCH.0 - 1), offset)).await.unwrap_err();
        assert!(matches!(error, BusError::UnexpectedEpoch { found: EPOCH, .. }), "{error}");
    }
    let objects = files_below(&platform.lake_folder().join("raw"), ".zst");
    let second = fs::read(&objects[1]).unwrap();
    fs::remove_file(&objects[1]).unwrap();
    replay.seek(&at(EPOCH, 2)).await.unwrap();
    assert_eq!(
        replay.fetch(few(1_000)).await.unwrap().messages.len(),
        1,
        "what comes before the hole"
    );
    let error = replay.fetch(few(1_000)).await.unwrap_err();
    assert!(matches!(error, BusError::Corrupt(_)), "{error}");
    fs::write(&objects[1], second).unwrap();
    fs::remove_file(&objects[0]).unwrap();
    let error = replay.seek(&at(EPOCH, 0)).await.unwrap_err();
    assert!(matches!(error, BusError::Gone { first_after: 3, asked: 0, .. }), "{error}");
    replay.seek(&at(EPOCH, 3)).await.unwrap();
    assert_eq!(rest(&mut replay, &topic, few(1_000)).await, [4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_could_not_be_read_is_read_again_and_not_passed_over() {
    let platform = Platform::new(people());
    let topic = landed(&platform).await;
    let objects = files_below(&platform.lake_folder().join("raw"), ".zst");
    for broken in objects.iter().take(3) {
        let whole = fs::read(broken).unwrap();
        fs::write(broken, &whole[..whole.len() - 3]).unwrap();
        let mut replay = open(&platform).await;
        let mut before = Vec::new();
        let error = loop {
            match replay.fetch(few(1_000)).await {
                Ok(delivery) => before.extend(delivery.messages.iter().map(|m| m.offset)),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BusError::Corrupt(_)), "{error}");
        fs::write(broken, whole).unwrap();
        before.extend(rest(&mut replay, &topic, few(1_000)).await);
        assert_eq!(before, [1, 2, 3, 4, 5, 6, 7]);
    }
}

//! What a subscriber may rely on.

use std::time::Duration;

use alluvium_model::{BusError, Epoch, FetchLimit, Layer, Position};

use super::{
    BusUnderTest, OWNER, at_once, drain, offsets, page, payloads, publish_pages, sent, topic,
};

/// Deliveries join without holes, and messages come in the order in which they were published;
/// publish times never go back.
pub async fn messages_come_in_order_and_without_holes(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=20).await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Bronze, OWNER).await.unwrap();
    let limit = FetchLimit { records: 7, ..at_once() };
    let (mut at, mut time, mut got) = (0, 0, Vec::new());
    while got.len() < 40 {
        let delivery = subscriber.fetch(limit).await.unwrap();
        assert!(!delivery.is_empty());
        assert_eq!((delivery.entity.clone(), delivery.span.after), (topic(), at));
        for message in &delivery.messages {
            assert_eq!(message.epoch, delivery.span.epoch);
            assert!(message.offset > at, "offset {} after {at}", message.offset);
            assert!(message.published_at_us >= time && message.published_at_us > 0);
            (at, time) = (message.offset, message.published_at_us);
            got.push(message.payload.clone());
        }
        // What a layer has got to is the offset of a message, whatever else an engine counts.
        assert_eq!(delivery.span.to, at);
    }
    assert_eq!(got, sent(1..=20));
}

/// The limits hold, except that one message always comes, so that a reader never stands still.
pub async fn a_fetch_brings_at_least_one_message_and_no_more_than_its_limit(
    bus: &dyn BusUnderTest,
) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=5).await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let size = page(1, 1).bytes();
    for (limit, expected) in [
        (FetchLimit { records: 3, ..at_once() }, 3),
        (FetchLimit { bytes: 2 * size, ..at_once() }, 2),
        (FetchLimit { bytes: 0, ..at_once() }, 1),
        (FetchLimit { records: 0, ..at_once() }, 1),
        (at_once(), 3),
    ] {
        assert_eq!(subscriber.fetch(limit).await.unwrap().messages.len(), expected, "{limit:?}");
    }
}

/// A reader that waits wakes as soon as something comes.
pub async fn a_fetch_waits_for_the_first_message(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let limit = FetchLimit { wait: Duration::from_secs(60), ..FetchLimit::default() };
    let fetch = tokio::spawn(async move { subscriber.fetch(limit).await });
    publish_pages(&publisher, 1..=1).await;
    let delivery = tokio::time::timeout(Duration::from_secs(20), fetch).await;
    let delivery = delivery.expect("the reader wakes").unwrap().unwrap();
    assert_eq!(delivery.messages[0].payload, page(1, 1).messages[0].payload);
}

/// A reader may stop waiting at any moment, as the runtime does where something else comes first.
pub async fn a_fetch_that_is_given_up_loses_no_message(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let limit = FetchLimit { wait: Duration::from_secs(20), ..FetchLimit::default() };
    let mut got = Vec::new();
    for number in 1..=30 {
        for moment in [0, 100 * number, 300 * number].map(Duration::from_micros) {
            let given_up = tokio::time::timeout(moment, subscriber.fetch(limit)).await;
            got.extend(given_up.into_iter().map(Result::unwrap));
            if moment.is_zero() {
                publish_pages(&publisher, number..=number).await;
            }
        }
    }
    got.extend(drain(&mut subscriber).await);
    assert_eq!(payloads(&got), sent(1..=30));
    assert!(got.windows(2).all(|pair| pair[0].span.is_followed_by(&pair[1].span)));
}

/// Nothing there: an empty delivery with an empty span, where the reader stands.
pub async fn a_fetch_without_messages_ends_after_its_wait(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    publish_pages(&publisher, 1..=1).await;
    let at = drain(&mut subscriber).await.last().unwrap().span.to;
    let delivery = subscriber.fetch(at_once()).await.unwrap();
    assert!(delivery.is_empty());
    assert_eq!((delivery.span.after, delivery.span.to), (at, at));
}

/// Fetching makes no progress: after a restart, or for a new reader, the same messages come again.
pub async fn what_is_not_committed_comes_again(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=3).await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let first = payloads(&drain(&mut subscriber).await);
    let mut other = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(payloads(&drain(&mut other).await), first);
    drop((publisher, subscribe, subscriber, other));
    let (_publisher, subscribe) = bus.restart().await;
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(payloads(&drain(&mut subscriber).await), first);
    assert_eq!(first.len(), 6);
}

/// A reader goes on after any message, forward and back, and from the end and the beginning.
pub async fn a_seek_goes_on_after_the_position(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=3).await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let all = offsets(&drain(&mut subscriber).await);
    assert_eq!(all.len(), 6);
    for after in [all[3], all[0], 0, end] {
        subscriber.seek(&Position { epoch, offset: after, index: 17 }).await.unwrap();
        let rest: Vec<u64> = all.iter().copied().filter(|offset| *offset > after).collect();
        assert_eq!(offsets(&drain(&mut subscriber).await), rest);
    }
}

/// A recreated topic is never mistaken for its predecessor.
pub async fn a_seek_into_another_epoch_is_refused(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=1).await;
    let (epoch, _) = publisher.end(&topic()).await.unwrap();
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let asked = Epoch(epoch.0 - 1);
    let refused = subscriber.seek(&Position { epoch: asked, offset: 1, index: 0 }).await;
    assert!(
        matches!(&refused, Err(BusError::UnexpectedEpoch { expected, found, .. })
            if *expected == asked && *found == epoch),
        "{refused:?}"
    );
    let (after, to) = (0, 1);
    let refused = subscriber.commit(&alluvium_model::Span { epoch: asked, after, to }).await;
    assert!(matches!(&refused, Err(BusError::UnexpectedEpoch { .. })), "{refused:?}");
}

/// What the lake has and the bus does not is an error, never a skip.
pub async fn a_seek_beyond_the_end_is_refused(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=1).await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    // Behind the last message there may be offsets of the engine's own, but not so many.
    let refused = subscriber.seek(&Position { epoch, offset: end + 1000, index: 0 }).await;
    assert!(refused.is_err());
}

/// A layer that has committed everything takes nothing away from one that has not.
pub async fn layers_read_independently_of_each_other(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=3).await;
    let mut counts = Vec::new();
    for layer in Layer::ALL {
        let mut subscriber = subscribe.subscribe(&topic(), layer, OWNER).await.unwrap();
        let deliveries = drain(&mut subscriber).await;
        for delivery in &deliveries {
            subscriber.commit(&delivery.span).await.unwrap();
            subscriber.commit(&delivery.span).await.unwrap();
        }
        counts.push(payloads(&deliveries).len());
    }
    assert_eq!(counts, [6, 6, 6]);
}

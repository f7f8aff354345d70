//! What is kept, what goes, and who must wait.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, EncodedPage, FetchLimit, Layer, Position, Span};

use super::{
    AgingBus, BusUnderTest, OWNER, at_once, drain, message, offsets, page, payloads, publish_pages,
    record, sent, settings, topic,
};

/// However old: what raw has not landed stays.
pub async fn retention_spares_what_raw_has_not_landed(bus: &dyn AgingBus) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=4).await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    let mut bronze = subscribe.subscribe(&topic(), Layer::Bronze, OWNER).await.unwrap();
    bronze.commit(&Span { epoch, after: 0, to: end }).await.unwrap();
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let landed = offsets(&drain(&mut bronze).await)[2];
    raw.commit(&Span { epoch, after: 0, to: landed }).await.unwrap();
    bus.grow_old().await;
    raw.seek(&Position { epoch, offset: landed, index: 0 }).await.unwrap();
    assert_eq!(payloads(&drain(&mut raw).await).len(), 5);
}

/// A reader that fell behind retention is told so, wherever it asks.
pub async fn what_retention_removed_is_gone_and_never_skipped(bus: &dyn AgingBus) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=4).await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let all = offsets(&drain(&mut raw).await);
    let mut silver = subscribe.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to: all[5] }).await.unwrap();
    bus.grow_old().await;
    let gone = silver.fetch(at_once()).await;
    assert!(
        matches!(&gone, Err(BusError::Gone { first_after, asked: 1, .. })
            if (all[5]..all[6]).contains(first_after)),
        "{gone:?}"
    );
    let gone = silver.seek(&Position { epoch, offset: all[1], index: 0 }).await;
    assert!(matches!(&gone, Err(BusError::Gone { asked, .. }) if *asked == all[1] + 1), "{gone:?}");
    silver.seek(&Position { epoch, offset: all[5], index: 0 }).await.unwrap();
    assert_eq!(payloads(&drain(&mut silver).await), sent(4..=4));
    assert_eq!(publisher.end(&topic()).await.unwrap(), (epoch, end));
}

/// An emptied topic still knows how far its source was read, and goes on counting.
pub async fn cursor_and_offsets_survive_retention(bus: &dyn AgingBus) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=4).await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to: end }).await.unwrap();
    bus.grow_old().await;
    drop((publisher, subscribe, raw));
    let (publisher, subscribe) = bus.restart().await;
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1, 4)));
    let published = publisher.publish(&topic(), page(5, 2), Some(record(1, 5))).await.unwrap();
    assert!(published.span.epoch == epoch && published.span.after >= end, "{}", published.span);
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let deliveries = drain(&mut raw).await;
    assert_eq!(payloads(&deliveries), sent(5..=5));
    assert!(deliveries.last().unwrap().span.to >= published.span.to);
}

/// The publisher of a full topic waits until raw has landed; publishers of other topics do not.
pub async fn a_full_topic_makes_its_publisher_wait_and_no_other(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let large = || {
        let messages = vec![message(vec![b'x'; 60 << 10])];
        EncodedPage { messages }
    };
    let fits = settings().max_unlanded_bytes / (60 << 10);
    let mut last = None;
    for _ in 0..fits {
        last = Some(publisher.publish(&topic(), large(), None).await.unwrap().span);
    }
    let waiting = Arc::clone(&publisher);
    let mut waiting = tokio::spawn(async move { waiting.publish(&topic(), large(), None).await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "a full topic took a page: {early:?}");
    publisher.publish(&"shop.other".parse().unwrap(), large(), None).await.unwrap();
    publisher.publish(&topic(), EncodedPage::default(), Some(record(1, 1))).await.unwrap();

    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    assert_eq!(Some(end), last.map(|span| span.to));
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let first = raw.fetch(FetchLimit { records: 1, ..at_once() }).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to: first.span.to }).await.unwrap();
    let published = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let published = published.expect("the wait ends").unwrap().unwrap();
    assert!(published.span.after >= end, "{}", published.span);
}

//! What a publisher may rely on.

use std::sync::Arc;

use alluvium_model::{BusError, EncodedPage, Headers, Layer, Publisher, Span};
use bytes::Bytes;

use super::{
    BusUnderTest, OWNER, drain, message, page, payloads, publish_pages, record, settings, topic,
};

/// A topic begins empty, and its epoch is the same after a restart.
pub async fn a_new_topic_is_empty_and_keeps_its_epoch(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    assert_eq!(end, 0);
    assert!(epoch.0 > 0);
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), None);
    drop((publisher, subscribe));
    let (publisher, _subscribe) = bus.restart().await;
    assert_eq!(publisher.end(&topic()).await.unwrap(), (epoch, 0));
}

/// Also those that another process has made, and that nobody has asked for since.
pub async fn all_topics_are_listed_whoever_made_them(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let listed = bus.whole().topics().await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
    let other = "shop.other".parse().unwrap();
    publisher.publish(&other, page(1, 1), None).await.unwrap();
    publish_pages(&publisher, 1..=1).await;
    drop((publisher, subscribe));
    let _ends = bus.restart().await;
    assert_eq!(bus.whole().topics().await.unwrap(), [topic(), other]);
}

/// What `Ok` was said to is there after a restart: messages, spans and the cursor record.
pub async fn what_is_acknowledged_survives_a_restart(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let (epoch, mut end) = publisher.end(&topic()).await.unwrap();
    for number in 1..=3 {
        let published =
            publisher.publish(&topic(), page(number, 2), Some(record(1, number))).await.unwrap();
        let span = published.span;
        assert!(span.epoch == epoch && span.after >= end && span.messages() >= 2, "{span}");
        end = span.to;
    }
    drop((publisher, subscribe));
    let (publisher, subscribe) = bus.restart().await;
    assert_eq!(publisher.end(&topic()).await.unwrap(), (epoch, end));
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1, 3)));
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let sent: Vec<Bytes> = (1..=3).flat_map(|n| page(n, 2).messages).map(|m| m.payload).collect();
    assert_eq!(payloads(&drain(&mut subscriber).await), sent);
}

/// Headers and bytes are nobody's business but the sender's and the reader's.
pub async fn headers_and_bytes_come_back_unaltered(bus: &dyn BusUnderTest) {
    let headers = Headers::default().with("ce-id", "a=b; c").with("note", "grün\n\"x\"");
    let mut odd = message(vec![0xff, 0x00, b'\n', 0xfe, b'{']);
    (odd.headers, odd.records) = (headers, 2);
    let mut large = message(vec![b'7'; 50_000]);
    large.records = 40;
    let sent = vec![odd, message(Bytes::new()), large];

    let (publisher, subscribe) = bus.open().await;
    publisher.publish(&topic(), EncodedPage { messages: sent.clone() }, None).await.unwrap();
    let check = async |subscribe: &Arc<dyn alluvium_model::port::Subscribe>| {
        let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
        let deliveries = drain(&mut subscriber).await;
        let got: Vec<_> = deliveries.iter().flat_map(|d| &d.messages).collect();
        assert_eq!(got.len(), sent.len());
        for (sent, got) in sent.iter().zip(got) {
            assert_eq!(sent.headers, got.headers);
            assert_eq!(sent.payload, got.payload);
            assert_eq!(sent.records, got.records);
        }
    };
    check(&subscribe).await;
    drop((publisher, subscribe));
    let (_publisher, subscribe) = bus.restart().await;
    check(&subscribe).await;
}

/// Of two pollers only the younger advances, and the error says where the topic stands.
pub async fn an_older_token_is_fenced(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let first = publisher.publish(&topic(), page(1, 1), Some(record(5, 1))).await.unwrap();
    let refused = publisher.publish(&topic(), page(2, 1), Some(record(4, 2))).await;
    assert!(matches!(&refused, Err(BusError::Fenced { token: 5, page: 1, .. })), "{refused:?}");
    drop((publisher, subscribe));
    let (publisher, _subscribe) = bus.restart().await;
    let refused = publisher.publish(&topic(), page(2, 1), Some(record(4, 2))).await;
    assert!(matches!(&refused, Err(BusError::Fenced { .. })), "{refused:?}");
    assert_eq!(publisher.end(&topic()).await.unwrap().1, first.span.to);
    publisher.publish(&topic(), page(2, 1), Some(record(5, 2))).await.unwrap();
    publisher.publish(&topic(), page(3, 1), Some(record(6, 3))).await.unwrap();
}

/// The same page cannot be published twice, whoever tries.
pub async fn a_page_that_was_published_before_is_fenced(bus: &dyn BusUnderTest) {
    let (publisher, _subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=2).await;
    let end = publisher.end(&topic()).await.unwrap();
    for (token, number) in [(1, 2), (1, 1), (9, 2)] {
        let again = publisher.publish(&topic(), page(2, 2), Some(record(token, number))).await;
        assert!(matches!(&again, Err(BusError::Fenced { token: 1, page: 2, .. })), "{again:?}");
    }
    assert_eq!(publisher.end(&topic()).await.unwrap(), end);
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1, 2)));
}

/// A poll that brought nothing but a cursor is not forgotten.
pub async fn an_empty_page_moves_the_cursor_durably(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=1).await;
    let (epoch, end) = publisher.end(&topic()).await.unwrap();
    let published =
        publisher.publish(&topic(), EncodedPage::default(), Some(record(1, 2))).await.unwrap();
    assert_eq!(published.span, Span { epoch, after: end, to: end });
    drop((publisher, subscribe));
    let (publisher, _subscribe) = bus.restart().await;
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1, 2)));
    assert_eq!(publisher.end(&topic()).await.unwrap(), (epoch, end));
}

/// What is pushed and not polled moves no cursor.
pub async fn a_page_without_cursor_leaves_the_cursor_alone(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=1).await;
    let pushed = publisher.publish(&topic(), page(0, 3), None).await.unwrap();
    publisher.publish(&topic(), EncodedPage::default(), None).await.unwrap();
    drop((publisher, subscribe));
    let (publisher, _subscribe) = bus.restart().await;
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1, 1)));
    assert_eq!(publisher.end(&topic()).await.unwrap().1, pushed.span.to);
}

/// A message above the limit is refused, and with it all of its page and the cursor.
pub async fn an_oversized_message_is_refused_with_its_whole_page(bus: &dyn BusUnderTest) {
    let (publisher, _subscribe) = bus.open().await;
    let limit = settings().max_message_bytes;
    let messages = vec![message("{}"), message(vec![b'x'; limit + 1])];
    let refused = publisher.publish(&topic(), EncodedPage { messages }, Some(record(1, 1))).await;
    assert!(
        matches!(&refused, Err(BusError::TooLarge { size, limit: l, message: Some(1) })
            if *size > *l && *l == limit),
        "{refused:?}"
    );
    assert_eq!(publisher.end(&topic()).await.unwrap().1, 0);
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), None);
    let fits = EncodedPage { messages: vec![message(vec![b'x'; limit])] };
    publisher.publish(&topic(), fits, None).await.unwrap();
}

/// Pages of concurrent publishers stand one after another, never mixed.
pub async fn concurrent_publishers_keep_each_page_in_one_piece(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let publish = |number: u64, publisher: Arc<dyn Publisher>| {
        tokio::spawn(async move {
            let sent = page(number, 1 + number % 4);
            (number, publisher.publish(&topic(), sent, None).await.unwrap().span)
        })
    };
    let tasks: Vec<_> = (0..40).map(|n| publish(n, Arc::clone(&publisher))).collect();
    let mut spans = Vec::new();
    for task in tasks {
        spans.push(task.await.unwrap());
    }
    spans.sort_by_key(|(_, span)| span.after);
    let mut subscriber = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let got = payloads(&drain(&mut subscriber).await);
    let (mut at, mut end) = (0, 0);
    for (number, span) in spans {
        assert!(span.after >= end, "{span} begins before offset {end}");
        end = span.to;
        for sent in page(number, 1 + number % 4).messages {
            assert_eq!(got[at], sent.payload);
            at += 1;
        }
    }
    assert_eq!(at, got.len());
}

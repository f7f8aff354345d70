//! What the tests share: a folder, a clock in the hand, and pages.

use std::path::Path;
use std::sync::Arc;

use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_model::clock::ManualClock;
use alluvium_model::port::Subscribe;
use alluvium_model::{
    Cursor, CursorRecord, EncodedMessage, EncodedPage, EntityId, FencingToken, FetchLimit, Headers,
    Layer, Message, SystemClock,
};
use bytes::Bytes;

pub(crate) fn topic() -> EntityId {
    "shop.orders".parse().unwrap()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap()))
}

pub(crate) fn open(path: &Path) -> Arc<EmbeddedBus> {
    EmbeddedBus::open(path, BusSettings::default(), Arc::new(SystemClock)).unwrap()
}

pub(crate) fn page(payloads: impl IntoIterator<Item = Vec<u8>>) -> EncodedPage {
    let headers = Headers::default();
    let encode = |payload| EncodedMessage {
        headers: headers.clone(),
        payload: Bytes::from(payload),
        records: 1,
    };
    EncodedPage { messages: payloads.into_iter().map(encode).collect() }
}

pub(crate) fn record(page: u64) -> CursorRecord {
    CursorRecord { token: FencingToken(1), page, cursor: Cursor(page.into()) }
}

/// Who reads, where it does not matter who.
pub(crate) const OWNER: FencingToken = FencingToken(1);

/// All messages that are there, checked for holes.
pub(crate) async fn read_all(bus: &EmbeddedBus, topic: &EntityId) -> Vec<Arc<Message>> {
    let mut subscriber = bus.subscribe(topic, Layer::Silver, OWNER).await.unwrap();
    let limit = FetchLimit { wait: std::time::Duration::ZERO, ..FetchLimit::default() };
    let mut messages: Vec<Arc<Message>> = Vec::new();
    loop {
        let delivery = subscriber.fetch(limit).await.unwrap();
        if delivery.is_empty() {
            return messages;
        }
        assert_eq!(delivery.span.after, messages.last().map_or(0, |m| m.offset));
        messages.extend(delivery.messages);
    }
}

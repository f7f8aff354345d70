//! A message that is lost between others, though the bus knows of it: an error, and never a skip.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::testkit::noise;
use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, FetchLimit, Layer, Position, Publisher, Subscriber, SystemClock};

use crate::support::{OWNER, page, topic};

const MESSAGES: u64 = 6;
const LOST: u64 = 4;

/// Nothing is kept in memory, so that every message is read from the disk.
fn open(path: &Path) -> Arc<EmbeddedBus> {
    let settings = BusSettings { cache_bytes: 0, ..BusSettings::default() };
    EmbeddedBus::open(path, settings, Arc::new(SystemClock)).unwrap()
}

async fn with_a_hole(path: &Path) -> Arc<EmbeddedBus> {
    let bus = open(path);
    for n in 1..=MESSAGES {
        bus.publish(&topic(), page([noise(n, 9000)]), None).await.unwrap();
    }
    bus.lose_block(&topic(), LOST).unwrap();
    bus
}

fn at_most(records: u64) -> FetchLimit {
    FetchLimit { records, wait: Duration::ZERO, ..FetchLimit::default() }
}

async fn is_refused(reader: &mut dyn Subscriber, records: u64) {
    let refused = reader.fetch(at_most(records)).await.map(|delivery| delivery.span).unwrap_err();
    assert!(matches!(&refused, BusError::Corrupt(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("shop.orders") && text.contains("offset 4"), "{text}");
}

/// A reader that comes to the hole message by message, and one that reads ahead over it.
async fn nobody_comes_over_it(bus: &EmbeddedBus) {
    for step in [1, 2, MESSAGES] {
        let mut reader = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
        let mut at = 0;
        while at + step < LOST {
            let delivery = reader.fetch(at_most(step)).await.unwrap();
            assert_eq!((delivery.span.after, delivery.messages.len() as u64), (at, step));
            at = delivery.span.to;
        }
        // However often, and however little it asks for then, it stands where it stood.
        is_refused(&mut *reader, MESSAGES).await;
        is_refused(&mut *reader, MESSAGES).await;
        while at + 1 < LOST {
            at += 1;
            assert_eq!(reader.fetch(at_most(1)).await.unwrap().span.to, at);
        }
        is_refused(&mut *reader, 1).await;
    }
}

/// What stands behind it can be had by who says where he goes on.
async fn what_stands_behind_is_there(bus: &EmbeddedBus) {
    let epoch = bus.end(&topic()).await.unwrap().0;
    let mut reader = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    reader.seek(&Position { epoch, offset: LOST, index: 0 }).await.unwrap();
    let delivery = reader.fetch(at_most(MESSAGES)).await.unwrap();
    assert_eq!((delivery.span.after, delivery.span.to), (LOST, MESSAGES));
    for (message, n) in delivery.messages.iter().zip(LOST + 1..) {
        assert_eq!(message.payload, noise(n, 9000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_message_is_an_error_for_every_reader_also_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let bus = with_a_hole(folder.path()).await;
    nobody_comes_over_it(&bus).await;
    what_stands_behind_is_there(&bus).await;
    drop(bus);
    let bus = open(folder.path());
    assert_eq!(bus.end(&topic()).await.unwrap().1, MESSAGES);
    nobody_comes_over_it(&bus).await;
    what_stands_behind_is_there(&bus).await;
}

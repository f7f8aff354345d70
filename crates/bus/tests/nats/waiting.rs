//! A publisher that waits for raw.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{Layer, Publisher, Span};

use super::{PATIENCE, drain, server, settings};
use crate::log::Lines;
use crate::support::{OWNER, clock, page, topic};

const SOON: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_publisher_that_waits_for_raw_says_so_as_long_as_it_waits() {
    let server = server!();
    let ((log, _guard), clock) = (Lines::of_thread(), clock());
    let settings = NatsSettings { max_unlanded_bytes: 1000, ..settings(&server) };
    let bus = NatsBus::connect(settings, Arc::clone(&clock) as _).await.unwrap();
    let large = || page([vec![b'x'; 800]]);
    let epoch = bus.publish(&topic(), large(), None).await.unwrap().span.epoch;
    let publisher = Arc::clone(&bus);
    let waiting = tokio::spawn(async move { publisher.publish(&topic(), large(), None).await });
    let said = || log.count(&["WARN", "a publisher waits for raw", "shop.orders", "bytes=800"]);
    let telling = async {
        while said() < 2 {
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(SOON).await;
        }
    };
    tokio::time::timeout(PATIENCE, telling).await.expect("it says so, and again");
    assert!(!waiting.is_finished());
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(drain(&mut raw).await.len(), 1);
    raw.commit(&Span { epoch, after: 0, to: 1 }).await.unwrap();
    tokio::time::timeout(PATIENCE, waiting).await.expect("there is room").unwrap().unwrap();
}

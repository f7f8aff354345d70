//! What somebody else puts on a topic stands between what the bus counts, and alters nothing of it.

use std::time::Duration;

use alluvium_bus::{Bus as _, NatsBus, NatsSettings};
use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{Layer, Publisher, Span, Subscriber};
use alluvium_testkit::NatsServer;

use super::{connect, drain, jetstream, put, server, settings, stream};
use crate::support::{OWNER, page, topic};

const PATIENCE: Duration = Duration::from_secs(60);

fn little_room(server: &NatsServer) -> NatsSettings {
    NatsSettings { max_unlanded_bytes: 1000, ..settings(server) }
}

async fn publish(bus: &NatsBus, bytes: usize) -> Published {
    let (id, page) = (topic(), page([vec![b'x'; bytes]]));
    let published = tokio::time::timeout(PATIENCE, bus.publish(&id, page, None)).await;
    published.expect("there is room").unwrap()
}

/// Lands all that is there.
async fn land(raw: &mut Box<dyn Subscriber>) {
    let came = drain(raw).await;
    let last = came.last().unwrap();
    raw.commit(&Span { epoch: last.epoch, after: 0, to: last.offset }).await.unwrap();
}

/// What was published on the topic up to this message, as the message tells it.
async fn told(server: &NatsServer, offset: u64) -> String {
    let message = stream(server).await.get_raw_message(offset).await.unwrap();
    message.headers.get("alluvium-total-bytes").unwrap().as_str().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_somebody_else_that_raw_lands_last_stops_no_publisher() {
    let server = server!();
    let (bus, other) = (connect(little_room(&server)).await, connect(little_room(&server)).await);
    let mut raw = other.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    for _ in 0..3 {
        publish(&bus, 600).await;
        land(&mut raw).await;
    }
    put(&server, "{}").await;
    land(&mut raw).await;
    assert_eq!(publish(&bus, 600).await.span.to, 5);
    assert_eq!(told(&server, 5).await, "2400");
    bus.refresh().await.unwrap();
    assert_eq!(bus.topic_stats()[0].unlanded_bytes, 600);
    // Also for one that knows no more than what is there.
    put(&server, "{}").await;
    let fresh = connect(little_room(&server)).await;
    publish(&fresh, 60).await;
    assert_eq!(told(&server, 7).await, "2460");
    land(&mut raw).await;
    publish(&bus, 600).await;
}

/// Of a message that tells no totals, earlier releases took it that there were none.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_landed_without_its_totals_does_not_wait() {
    let server = server!();
    let bus = connect(little_room(&server)).await;
    let mut epoch = 0;
    for _ in 0..3 {
        epoch = publish(&bus, 300).await.span.epoch.0;
    }
    let landed = format!(r#"{{"epoch":{epoch},"offset":3,"records":0,"bytes":0}}"#);
    let js = jetstream(&server).await;
    let sent = js.publish("alluvium.state.landed.shop.orders", landed.into()).await.unwrap();
    sent.await.unwrap();
    publish(&bus, 600).await;
    bus.refresh().await.unwrap();
    assert_eq!(bus.topic_stats()[0].end, 4);
}

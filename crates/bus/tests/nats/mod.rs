//! The bus on NATS, against a real server.

mod access;
mod ahead;
mod background;
mod cluster;
mod contract;
mod fencing;
mod foreign;
mod line;
mod outage;
mod publishing;
mod reading;
mod shorter;
mod start;
mod streams;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::contract::settings as contract_settings;
use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, FetchLimit, Layer, Message, Subscriber, SystemClock};
use alluvium_testkit::NatsServer;
use async_nats::jetstream;

use crate::support::{OWNER, topic};

/// So long a server may take until it is there again.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server, or a visible skip.
macro_rules! server {
    () => {
        $crate::nats::server!("")
    };
    ($config:expr) => {
        match alluvium_testkit::NatsServer::with($config) {
            Some(server) => server,
            None => return,
        }
    };
}
pub(crate) use server;

/// Settings for a server, with the limits of the contract.
pub(crate) fn settings(server: &NatsServer) -> NatsSettings {
    let of = contract_settings();
    NatsSettings {
        servers: vec![server.url()],
        retention_bytes: of.retention_bytes,
        retention_age: of.retention_age,
        max_unlanded_bytes: of.max_unlanded_bytes,
        max_message_bytes: of.max_message_bytes,
        ..NatsSettings::default()
    }
}

/// A process of its own, as far as the server can tell.
pub(crate) async fn connect(settings: NatsSettings) -> Arc<NatsBus> {
    NatsBus::connect(settings, Arc::new(SystemClock)).await.unwrap()
}

/// JetStream for who looks at what the bus made.
pub(crate) async fn jetstream(server: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

/// The stream of the tests' topic.
pub(crate) const STREAM: &str = "alluvium-changes-shop-orders";

/// The topic's stream.
pub(crate) async fn stream(server: &NatsServer) -> jetstream::stream::Stream {
    jetstream(server).await.get_stream(STREAM).await.unwrap()
}

/// Puts a message on the tests' topic, as somebody else who knows nothing of its headers.
pub(crate) async fn put(server: &NatsServer, body: &'static str) {
    let js = jetstream(server).await;
    let sent = js.publish("alluvium.changes.shop.orders", body.into()).await.unwrap();
    sent.await.unwrap();
}

pub(crate) fn limit(wait: Duration) -> FetchLimit {
    FetchLimit { wait, ..FetchLimit::default() }
}

/// Asks until the server is there.
pub(crate) async fn answered<T>(
    mut ask: impl AsyncFnMut() -> Result<T, BusError>,
) -> Result<T, BusError> {
    let answer = async {
        loop {
            match ask().await {
                Err(BusError::Unavailable(_)) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("the server is there")
}

/// All messages that are there, in their order.
pub(crate) async fn drain(subscriber: &mut Box<dyn Subscriber>) -> Vec<Arc<Message>> {
    let mut messages = Vec::new();
    loop {
        let delivery = subscriber.fetch(limit(Duration::from_millis(50))).await.unwrap();
        if delivery.is_empty() {
            return messages;
        }
        messages.extend(delivery.messages);
    }
}

/// All messages of the tests' topic.
pub(crate) async fn all(bus: &NatsBus) -> Vec<Arc<Message>> {
    drain(&mut bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap()).await
}

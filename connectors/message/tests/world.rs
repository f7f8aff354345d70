//! What the tests share: logs that other programs write to, and a source that reads them.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_connector::contract::{Walked, drain};
use alluvium_connector::{ConnectContext, Registry};
use alluvium_connector_message::MessageConnector;
use alluvium_model::clock::ManualClock;
use alluvium_model::{Change, Cursor, EntitySpec, Headers, Source, SourceError, SystemSpec};
use alluvium_testkit::NatsServer;
use async_nats::jetstream;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use serde_json::{Value, json};

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register::<MessageConnector>();
    registry
}

pub(crate) fn system(connection: &Value) -> SystemSpec {
    let spec = json!({"name": "shop", "type": "message", "connection": connection});
    serde_json::from_value(spec).unwrap()
}

/// An entity with the key `id` and the column `value`.
pub(crate) fn entity(source: Value) -> EntitySpec {
    let mut source = source;
    if source.get("wait_seconds").is_none() {
        source["wait_seconds"] = json!(0);
    }
    let spec = json!({
        "system": "shop", "name": "things", "load": "delta", "source": source, "keys": ["id"],
        "columns": [{"name": "id", "type": "long"}, {"name": "value", "type": "string"}],
    });
    serde_json::from_value(spec).unwrap()
}

/// A new source, and the entity as it completes it.
pub(crate) async fn open(
    connection: &Value,
    entity: &EntitySpec,
) -> Result<(Box<dyn Source>, EntitySpec), SourceError> {
    let clock = Arc::new(ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap()));
    let mut source = registry().connect(&system(connection), ConnectContext::new(clock)).await?;
    let found = source.discover(std::slice::from_ref(entity)).await?.all()?.remove(0);
    Ok((source, found))
}

/// A run to its end, by a new source.
pub(crate) async fn run(
    connection: &Value,
    entity: &EntitySpec,
    from: Option<Cursor>,
) -> Result<Walked, SourceError> {
    let (mut source, entity) = open(connection, entity).await?;
    drain(&mut *source, &entity, from).await
}

/// A change in few words: its operation and its row.
pub(crate) fn told(change: &Change) -> String {
    let row = change.after.as_ref().or(change.before.as_ref());
    format!("{} {}", change.op.as_str(), row.map_or("-", |row| row.get()))
}

/// All changes of a run in few words.
pub(crate) fn all_told(run: &Walked) -> Vec<String> {
    run.changes().into_iter().map(told).collect()
}

/// A member of where a change stood.
pub(crate) fn origin(change: &Change, member: &str) -> Value {
    let origin: Value = serde_json::from_str(change.origin.as_ref().unwrap().get()).unwrap();
    origin[member].clone()
}

type Mock = MockCluster<'static, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Mock) + Send>;

/// A cluster of one broker. It lives in a thread of its own, which it may not leave.
pub(crate) struct Kafka {
    servers: String,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    producer: FutureProducer,
}

/// A message to be sent.
#[derive(Default)]
pub(crate) struct Sent<'a> {
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a str>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) time_ms: Option<i64>,
    pub(crate) headers: Headers,
}

impl Kafka {
    pub(crate) fn start() -> Self {
        let (orders, received) = mpsc::channel::<Order>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let cluster = MockCluster::new(1).unwrap();
            tell.send(cluster.bootstrap_servers()).unwrap();
            received.into_iter().for_each(|order| order(&cluster));
        });
        let servers: String = told.recv().unwrap();
        let producer =
            ClientConfig::new().set("bootstrap.servers", &servers).set("linger.ms", "0").create();
        Self { servers, orders: Some(orders), thread: Some(thread), producer: producer.unwrap() }
    }

    pub(crate) fn connection(&self) -> Value {
        json!({"engine": "kafka", "servers": [self.servers], "timeout_seconds": 20})
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// Has the cluster do something, and waits until it has.
    pub(crate) fn order(&self, order: impl FnOnce(&Mock) + Send + 'static) {
        let (tell, told) = mpsc::channel();
        let order: Order = Box::new(move |cluster| {
            order(cluster);
            tell.send(()).unwrap();
        });
        self.orders.as_ref().unwrap().send(order).unwrap();
        told.recv().unwrap();
    }

    pub(crate) fn topic(&self, name: &'static str, partitions: i32) {
        self.order(move |cluster| cluster.create_topic(name, partitions, 1).unwrap());
    }

    /// Sends a message, and waits until it is there.
    pub(crate) async fn send(&self, topic: &str, sent: Sent<'_>) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &sent.headers.0 {
            headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
        }
        let mut record = FutureRecord::to(topic).partition(sent.partition).headers(headers);
        if let Some(key) = sent.key {
            record = record.key(key);
        }
        if let Some(value) = sent.value {
            record = record.payload(value);
        }
        if let Some(time) = sent.time_ms {
            record = record.timestamp(time);
        }
        self.producer.send(record, Duration::from_secs(30)).await.unwrap();
    }

    /// Sends a message of a key to partition 0.
    pub(crate) async fn say(&self, topic: &str, key: &str, value: &str) {
        let value = Some(value.as_bytes());
        self.send(topic, Sent { key: Some(key), value, ..Sent::default() }).await;
    }

    /// Marks a key of partition 0 for compaction.
    pub(crate) async fn tombstone(&self, topic: &str, key: &str) {
        self.send(topic, Sent { key: Some(key), ..Sent::default() }).await;
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A server of NATS with streams.
pub(crate) struct Nats {
    pub(crate) server: NatsServer,
    pub(crate) jetstream: jetstream::Context,
    token: Option<&'static str>,
}

impl Nats {
    pub(crate) async fn start(token: Option<&'static str>) -> Option<Self> {
        let config = token.map(|token| format!("authorization {{ token: {token:?} }}"));
        Self::launch(&config.unwrap_or_default(), token).await
    }

    /// One with these further lines of configuration.
    pub(crate) async fn with(config: &str) -> Option<Self> {
        Self::launch(config, None).await
    }

    async fn launch(config: &str, token: Option<&'static str>) -> Option<Self> {
        let server = NatsServer::with(config)?;
        let mut options = async_nats::ConnectOptions::new();
        if let Some(token) = token {
            options = options.token(token.to_owned());
        }
        let client = options.connect(server.url()).await.unwrap();
        Some(Self { server, jetstream: jetstream::new(client), token })
    }

    pub(crate) fn connection(&self) -> Value {
        let mut connection =
            json!({"engine": "nats", "servers": [self.server.url()], "timeout_seconds": 20});
        if let Some(token) = self.token {
            connection["options"] = json!({"token": token});
        }
        connection
    }

    /// Makes a stream of all subjects below its name in lower case.
    pub(crate) async fn stream(&self, name: &str) {
        let subjects = vec![format!("{}.>", name.to_lowercase())];
        let config =
            jetstream::stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        self.jetstream.create_stream(config).await.unwrap();
    }

    pub(crate) async fn say(&self, subject: &str, value: &str) {
        let (subject, value) = (subject.to_owned(), value.to_owned());
        self.jetstream.publish(subject, value.into()).await.unwrap().await.unwrap();
    }
}

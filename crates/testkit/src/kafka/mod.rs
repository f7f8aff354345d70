//! librdkafka's mock cluster. It lives in the process that makes it; others reach it over loopback.

mod frame;
mod front;
mod login;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

pub use self::front::{Entry, KafkaFront, KafkaTls};
pub use self::login::{KafkaLogin, Mechanism};

/// All brokers of a cluster.
const ALL: i32 = -1;

/// A message to be put into a topic.
#[derive(Debug, Clone, Copy, Default)]
pub struct Put<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Its time, in milliseconds since 1970.
    pub time_ms: i64,
    /// Its key.
    pub key: Option<&'a str>,
    /// Its value. None is the mark of its key for compaction.
    pub value: Option<&'a str>,
    /// Its headers, each with its value.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A mock cluster of one broker, with topics of one partition. [`KafkaMock::with`] makes others.
///
/// It knows no transactions: what is put into one is there at once, and nobody is fenced. It makes,
/// deletes and shortens no topics for its clients, and keeps 5 MB of each.
pub struct KafkaMock {
    topics: Vec<String>,
    host: Mutex<BaseProducer>,
}

impl KafkaMock {
    /// A cluster with these topics.
    pub fn with_topics<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        let host = Mutex::new(host(&topics));
        Self { topics, host }
    }

    /// Does something with the cluster.
    pub fn with<R>(&self, act: impl FnOnce(&MockCluster<'_, DefaultProducerContext>) -> R) -> R {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        act(&host.client().mock_cluster().unwrap())
    }

    /// Puts a message into a topic, and waits until it is there.
    pub fn put(&self, put: Put<'_>) {
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(put.topic).partition(put.partition).timestamp(put.time_ms);
        (record.key, record.payload) = (put.key, put.value);
        let header = |&(key, value)| Header { key, value: Some(value) };
        let headers =
            put.headers.iter().map(header).fold(OwnedHeaders::new(), OwnedHeaders::insert);
        record.headers = Some(headers).filter(|_| !put.headers.is_empty());
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        host.send(record).map_err(|(error, _)| error).unwrap();
        host.flush(Duration::from_secs(30)).unwrap();
    }

    /// Where it listens, such as `127.0.0.1:9092`.
    pub fn servers(&self) -> String {
        self.with(|cluster| cluster.bootstrap_servers())
    }

    /// It closes all connections, and takes none.
    pub fn down(&self) {
        self.with(|cluster| cluster.broker_down(ALL)).unwrap();
    }

    /// It takes connections again, and has what it had.
    pub fn up(&self) {
        self.with(|cluster| cluster.broker_up(ALL)).unwrap();
    }

    /// It is replaced by an empty one, elsewhere, with the same topics.
    pub fn lose(&self) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = host(&self.topics);
    }
}

/// A client that has a mock cluster of its own.
fn host(topics: &[String]) -> BaseProducer {
    let host: BaseProducer = ClientConfig::new()
        .set("test.mock.num.brokers", "1")
        .set("linger.ms", "0")
        .create()
        .unwrap();
    for topic in topics {
        host.client().mock_cluster().unwrap().create_topic(topic, 1, 1).unwrap();
    }
    host
}

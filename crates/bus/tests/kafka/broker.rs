//! The Kafka bus on real brokers: the contract, and what the mock cluster cannot show of
//! transactions. Nobody can be expected to have some, so that these tests are ignored; whoever has
//! some asks for them, and says where in `ALLUVIUM_TEST_KAFKA`. Each test has topics of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_bus::contract::{AgingBus, BrokeredBus, BusUnderTest, Ends, settings};
use alluvium_bus::{Bus, KafkaBus, KafkaSettings};
use alluvium_model::clock::ManualClock;
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, Clock, FetchLimit, Layer, Publisher, SystemClock};
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use crate::support::{OWNER, page, record, topic};

const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A place of its own on the brokers.
struct Broker {
    servers: String,
    prefix: String,
    clock: Arc<ManualClock>,
    bus: Mutex<Option<Arc<KafkaBus>>>,
}

impl Broker {
    fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "who runs the tests says where a broker is")]
        let servers = std::env::var("ALLUVIUM_TEST_KAFKA").expect(
            "ALLUVIUM_TEST_KAFKA says `host:port` of a broker that lets us make and delete topics",
        );
        let now = SystemClock.now();
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("alluvium-test-{}-{process}-{number}.", now.as_millisecond());
        let clock = Arc::new(ManualClock::at(now));
        Self { servers, prefix, clock, bus: Mutex::default() }
    }

    async fn connect(&self) -> Arc<KafkaBus> {
        let limits = settings();
        let settings = KafkaSettings {
            bootstrap_servers: self.servers.clone(),
            prefix: self.prefix.clone(),
            retention_age: limits.retention_age,
            max_unlanded_bytes: limits.max_unlanded_bytes,
            max_message_bytes: limits.max_message_bytes,
            ..KafkaSettings::default()
        };
        KafkaBus::connect(settings, Arc::clone(&self.clock) as _).await.unwrap()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    async fn delete_topics(&self) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let names = ["cursors", "shop.orders", "shop.other"].map(|n| format!("{}{n}", self.prefix));
        let names = names.each_ref().map(String::as_str);
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        admin.delete_topics(&names, &options).await.unwrap();
        let there = || {
            let all = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
            all.topics().iter().any(|topic| names.contains(&topic.name()))
        };
        while there() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[async_trait]
impl BusUnderTest for Broker {
    async fn open(&self) -> Ends {
        let bus = self.connect().await;
        *self.bus.lock().unwrap() = Some(Arc::clone(&bus));
        (Arc::clone(&bus) as _, bus)
    }

    fn whole(&self) -> Arc<dyn Bus> {
        self.bus.lock().unwrap().clone().unwrap()
    }

    async fn restart(&self) -> Ends {
        drop(self.bus.lock().unwrap().take());
        self.open().await
    }

    async fn lose(&self) -> Ends {
        drop(self.bus.lock().unwrap().take());
        self.delete_topics().await;
        self.clock.advance(Duration::from_secs(1));
        self.open().await
    }
}

#[async_trait]
impl AgingBus for Broker {
    async fn grow_old(&self) {
        self.clock.advance(Duration::from_secs(2 * 3600));
        let bus = self.bus.lock().unwrap().clone().unwrap();
        assert!(bus.retain().await.unwrap(), "the brokers must let the tests delete records");
    }
}

/// Who runs the tests says how a broker is killed and started again.
#[async_trait]
impl BrokeredBus for Broker {
    async fn kill_the_broker(&self) {
        #[allow(clippy::disallowed_methods, reason = "as above")]
        let restart = std::env::var("ALLUVIUM_TEST_KAFKA_RESTART").expect(
            "ALLUVIUM_TEST_KAFKA_RESTART is a command that kills the broker and starts it again",
        );
        let done = tokio::process::Command::new("sh").args(["-c", &restart]).status().await;
        assert!(done.unwrap().success(), "{restart}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "kills a broker of Kafka: ALLUVIUM_TEST_KAFKA, ALLUVIUM_TEST_KAFKA_RESTART"]
async fn a_broker_that_restarts_in_mid_batch_loses_and_doubles_nothing() {
    alluvium_bus::contract::a_broker_that_restarts_in_mid_batch_loses_and_doubles_nothing(
        &Broker::new(),
    )
    .await;
}

alluvium_bus::bus_contract! {
    Broker::new(), aging; #[ignore = "needs a broker of Kafka: ALLUVIUM_TEST_KAFKA"]
}

/// Everything that is there, as texts.
async fn read(bus: &KafkaBus) -> Vec<String> {
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let mut all = Vec::new();
    let limit = FetchLimit { wait: Duration::from_secs(2), ..FetchLimit::default() };
    loop {
        let delivery = raw.fetch(limit).await.unwrap();
        if delivery.is_empty() {
            return all;
        }
        all.extend(delivery.messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into()));
    }
}

fn one(text: &str) -> alluvium_model::EncodedPage {
    page([text.as_bytes().to_vec()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a broker of Kafka: ALLUVIUM_TEST_KAFKA"]
async fn a_transaction_that_was_left_open_is_never_read() {
    let broker = Broker::new();
    let bus = broker.connect().await;
    bus.publish(&topic(), one("before"), Some(record(1))).await.unwrap();
    let left: FutureProducer = broker
        .config()
        .set("transactional.id", format!("{}{}", broker.prefix, topic()))
        .create()
        .unwrap();
    left.init_transactions(PATIENCE).unwrap();
    left.begin_transaction().unwrap();
    let name = format!("{}{}", broker.prefix, topic());
    let half = FutureRecord::to(&name).key("").payload("half");
    left.send(half, PATIENCE).await.unwrap();

    let successor = broker.connect().await;
    let next = alluvium_model::CursorRecord { token: alluvium_model::FencingToken(2), ..record(2) };
    successor.publish(&topic(), one("after"), Some(next)).await.unwrap();
    assert!(left.commit_transaction(PATIENCE).is_err(), "the successor has rolled it back");
    assert_eq!(read(&successor).await, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a broker of Kafka: ALLUVIUM_TEST_KAFKA"]
async fn a_predecessor_is_fenced_and_takes_nothing_back() {
    let broker = Broker::new();
    let (old, young) = (broker.connect().await, broker.connect().await);
    let with = |token, page| alluvium_model::CursorRecord {
        token: alluvium_model::FencingToken(token),
        ..record(page)
    };
    old.publish(&topic(), one("1"), Some(with(1, 1))).await.unwrap();
    young.publish(&topic(), one("2"), Some(with(2, 2))).await.unwrap();
    for _ in 0..2 {
        let refused = old.publish(&topic(), one("late"), Some(with(1, 3))).await;
        assert!(matches!(&refused, Err(BusError::Fenced { .. })), "{refused:?}");
    }
    young.publish(&topic(), one("3"), Some(with(2, 3))).await.unwrap();
    assert_eq!(old.cursor(&topic()).await.unwrap(), Some(with(2, 3)));
    old.publish(&topic(), one("4"), Some(with(3, 4))).await.unwrap();
    assert_eq!(read(&young).await, ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a broker of Kafka: ALLUVIUM_TEST_KAFKA"]
async fn who_had_a_topic_before_the_bus_is_left_publishes_nothing_more() {
    let broker = Broker::new();
    let (bus, late) = (broker.connect().await, broker.connect().await);
    crate::moving::shut_out(bus.as_ref(), late.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a broker of Kafka: ALLUVIUM_TEST_KAFKA"]
async fn a_topic_that_is_made_anew_under_its_readers_is_noticed() {
    let broker = Broker::new();
    let bus = broker.connect().await;
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    let (before, _) = bus.end(&topic()).await.unwrap();
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(raw.fetch(FetchLimit::default()).await.unwrap().messages.len(), 1);
    broker.delete_topics().await;
    broker.clock.advance(Duration::from_secs(1));
    let again = broker.connect().await;
    again.publish(&topic(), one("2"), Some(record(1))).await.unwrap();
    // Were it as long as the other one was, there would be nothing to notice yet.
    again.publish(&topic(), one("3"), Some(record(2))).await.unwrap();
    assert!(raw.fetch(FetchLimit::default()).await.is_err(), "the topic is another one");
    let (after, _) = bus.end(&topic()).await.unwrap();
    assert!(after >= before, "{after} after {before}");
}

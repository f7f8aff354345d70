//! librdkafka's mock cluster as an engine under test.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_bus::contract::{BoundedBus, BrokeredBus, BusUnderTest, Ends, settings};
use alluvium_bus::{Bus, KafkaBus, KafkaSettings};
use alluvium_model::SystemClock;
use alluvium_testkit::KafkaMock;
use async_trait::async_trait;
use rdkafka::bindings::rd_kafka_resp_err_t;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;

/// The topics that tests use.
pub(crate) const TOPICS: [&str; 4] =
    ["alluvium.audit", "alluvium.cursors", "alluvium.shop.orders", "alluvium.shop.other"];

/// A mock cluster, and the bus that was opened on it last. It removes nothing by age: `broker` shows
/// what retention does.
pub(crate) struct Mock {
    cluster: KafkaMock,
    bus: Mutex<Option<Arc<KafkaBus>>>,
}

impl Mock {
    pub(crate) fn new() -> Self {
        Self { cluster: KafkaMock::with_topics(TOPICS), bus: Mutex::default() }
    }

    /// Does something with the cluster.
    pub(crate) fn with<R>(
        &self,
        act: impl FnOnce(&MockCluster<'_, DefaultProducerContext>) -> R,
    ) -> R {
        self.cluster.with(act)
    }

    pub(crate) fn settings(&self) -> KafkaSettings {
        settings_at(self.cluster.servers())
    }

    /// One more process that uses the cluster.
    pub(crate) async fn connect(&self) -> Arc<KafkaBus> {
        KafkaBus::connect(self.settings(), Arc::new(SystemClock)).await.unwrap()
    }
}

/// The settings of a bus whose brokers are there.
pub(crate) fn settings_at(bootstrap_servers: String) -> KafkaSettings {
    let limits = settings();
    KafkaSettings {
        bootstrap_servers,
        retention_age: limits.retention_age,
        max_unlanded_bytes: limits.max_unlanded_bytes,
        max_message_bytes: limits.max_message_bytes,
        patience: Duration::from_secs(30),
        ..KafkaSettings::default()
    }
}

#[async_trait]
impl BusUnderTest for Mock {
    async fn open(&self) -> Ends {
        let bus = self.connect().await;
        *self.bus.lock().unwrap() = Some(Arc::clone(&bus));
        (Arc::clone(&bus) as _, bus)
    }

    fn whole(&self) -> Arc<dyn Bus> {
        self.bus.lock().unwrap().clone().unwrap()
    }

    async fn restart(&self) -> Ends {
        let bus = self.bus.lock().unwrap().take().unwrap();
        assert_eq!(Arc::strong_count(&bus), 1, "somebody still holds the bus");
        drop(bus);
        self.open().await
    }

    async fn lose(&self) -> Ends {
        drop(self.bus.lock().unwrap().take());
        self.cluster.lose();
        self.open().await
    }
}

#[async_trait]
impl BoundedBus for Mock {
    async fn open_with_a_store_of(&self, _bytes: u64) -> Option<Ends> {
        // Until then it is tried again.
        let patience = Duration::from_secs(3);
        let settings = KafkaSettings { max_unlanded_bytes: u64::MAX, patience, ..self.settings() };
        let bus = KafkaBus::connect(settings, Arc::new(SystemClock)).await.unwrap();
        *self.bus.lock().unwrap() = Some(Arc::clone(&bus));
        Some((Arc::clone(&bus) as _, bus))
    }

    /// The mock cluster has no disk: it answers as a broker whose disk is full.
    async fn fill(&self) {
        let full = [rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR; 10_000];
        self.with(|cluster| cluster.request_errors(RDKafkaApiKey::Produce, &full));
    }

    async fn make_room(&self, ends: Ends) -> Ends {
        self.with(|cluster| cluster.clear_request_errors(RDKafkaApiKey::Produce));
        ends
    }
}

#[async_trait]
impl BrokeredBus for Mock {
    async fn kill_the_broker(&self) {
        self.cluster.down();
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.cluster.up();
    }
}

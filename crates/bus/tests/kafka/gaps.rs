//! The contract on a topic whose offsets have gaps, as the ends of transactions leave them on real
//! brokers: here between all pages stand marks, which no reader is given.

use std::sync::Arc;

use alluvium_bus::Bus;
use alluvium_bus::contract::{BrokeredBus, BusUnderTest, Ends};
use alluvium_model::port::Published;
use alluvium_model::{BusError, CursorRecord, EncodedPage, EntityId, Epoch, Publisher};
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Mutex;

use crate::kafka::mock::Mock;

struct Gapped(Mock);

/// Puts marks before and behind every page.
struct Between {
    inner: Arc<dyn Publisher>,
    marks: FutureProducer,
    turn: Mutex<()>,
}

impl Between {
    async fn mark(&self, topic: &EntityId) {
        let name = format!("alluvium.{topic}");
        let headers = OwnedHeaders::new()
            .insert(Header { key: "alluvium-mark", value: Some("epoch") })
            .insert(Header { key: "alluvium-epoch", value: Some("1") });
        let record: FutureRecord<'_, (), ()> =
            FutureRecord::to(&name).partition(0).headers(headers);
        self.marks.send(record, std::time::Duration::from_secs(60)).await.unwrap();
    }
}

#[async_trait]
impl Publisher for Between {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        if page.messages.is_empty() {
            return self.inner.publish(topic, page, cursor).await;
        }
        // A topic begins with the mark of the bus itself.
        self.inner.end(topic).await?;
        {
            let _turn = self.turn.lock().await;
            self.mark(topic).await;
        }
        let published = self.inner.publish(topic, page, cursor).await;
        let _turn = self.turn.lock().await;
        self.mark(topic).await;
        published
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        self.inner.cursor(topic).await
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        self.inner.end(topic).await
    }
}

impl Gapped {
    fn between(&self, (publisher, subscribe): Ends) -> Ends {
        let servers = self.0.settings().bootstrap_servers;
        let marks = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
        let between = Between { inner: publisher, marks, turn: Mutex::default() };
        (Arc::new(between), subscribe)
    }
}

#[async_trait]
impl BusUnderTest for Gapped {
    async fn open(&self) -> Ends {
        self.between(self.0.open().await)
    }

    fn whole(&self) -> Arc<dyn Bus> {
        self.0.whole()
    }

    async fn restart(&self) -> Ends {
        self.between(self.0.restart().await)
    }

    async fn lose(&self) -> Ends {
        self.between(self.0.lose().await)
    }
}

#[async_trait]
impl BrokeredBus for Gapped {
    async fn kill_the_broker(&self) {
        self.0.kill_the_broker().await;
    }
}

alluvium_bus::bus_contract!(Gapped(Mock::new()), brokered);

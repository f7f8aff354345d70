//! The way onto a bus that others may leave for another one, and from it.
//!
//! A process looks for a mark when it opens the bus, and does something there later. In between the
//! bus may have been left by a move that did not see the process yet. So the mark is read again by
//! whoever has told that it is there, and has the lease that the work needs: before a layer reads,
//! before a source is gone on with, and before a page that nobody's lease stands for.

use std::sync::Arc;

use alluvium_bus::{Bus, Mark};
use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, CursorRecord, EncodedPage, EntityId, Epoch, FencingToken, Layer, Publisher,
    Subscriber,
};
use async_trait::async_trait;

/// A bus, refused from the moment at which a mark says so.
pub(crate) struct Gate(Arc<dyn Bus>);

impl Gate {
    /// The way onto this bus, and from it.
    pub(crate) fn of(bus: &Arc<dyn Bus>) -> Self {
        Self(Arc::clone(bus))
    }

    async fn check(&self) -> Result<(), BusError> {
        match self.0.mark().await?.as_ref().and_then(Mark::refusal) {
            Some(refusal) => Err(BusError::Refused(refusal)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Publisher for Gate {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        // Who has a cursor has a lease, and has asked with it where the one before stands.
        if cursor.is_none() {
            self.check().await?;
        }
        self.0.publish(topic, page, cursor).await
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        self.check().await?;
        self.0.cursor(topic).await
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        self.0.end(topic).await
    }
}

#[async_trait]
impl Subscribe for Gate {
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        owner: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        self.check().await?;
        self.0.subscribe(topic, layer, owner).await
    }
}

#[cfg(test)]
mod tests {
    use alluvium_bus::{BusSettings, EmbeddedBus, Move};
    use alluvium_model::{EncodedMessage, Headers, SystemClock};

    use super::*;

    const OWNER: FencingToken = FencingToken(1);

    fn made() -> Move {
        Move { from: "embedded".to_owned(), to: "nats://127.0.0.1:9".to_owned(), begun_at_ms: 1 }
    }

    fn page() -> EncodedPage {
        let (headers, payload) = (Headers::default(), "{}".into());
        EncodedPage { messages: vec![EncodedMessage { headers, payload, records: 1 }] }
    }

    #[tokio::test]
    async fn a_bus_that_is_left_after_it_was_opened_takes_and_gives_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> =
            EmbeddedBus::open(folder.path(), BusSettings::default(), clock).unwrap();
        let (gate, topic) = (Gate::of(&bus), "shop.orders".parse().unwrap());
        for mark in [None, Some(Mark::Arrived(made()))] {
            if let Some(mark) = mark {
                bus.put_mark(&mark).await.unwrap();
            }
            assert_eq!(gate.cursor(&topic).await.unwrap(), None);
            gate.subscribe(&topic, Layer::Raw, OWNER).await.unwrap();
            gate.publish(&topic, page(), None).await.unwrap();
        }
        for mark in [Mark::Left(made()), Mark::Arriving(made())] {
            bus.put_mark(&mark).await.unwrap();
            let refused = [
                gate.cursor(&topic).await.err(),
                gate.subscribe(&topic, Layer::Raw, OWNER).await.err(),
                gate.publish(&topic, page(), None).await.err(),
            ];
            for error in refused {
                let said = error.unwrap().to_string();
                assert!(said.contains(&mark.refusal().unwrap()), "{said}");
            }
        }
    }
}

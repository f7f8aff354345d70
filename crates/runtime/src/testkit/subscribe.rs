//! A bus that has forgotten what it is told to have forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_bus::EmbeddedBus;
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, Delivery, EntityId, FencingToken, FetchLimit, Layer, Position, Span, Subscriber,
};
use async_trait::async_trait;

/// A way from the bus that answers "gone" for what it is told to have forgotten.
pub struct ForgetfulBus {
    bus: Arc<EmbeddedBus>,
    /// Messages up to this offset are gone, for all layers but raw.
    pub first_after: Arc<AtomicU64>,
}

impl ForgetfulBus {
    /// One that has forgotten nothing.
    pub fn over(bus: Arc<EmbeddedBus>) -> Self {
        Self { bus, first_after: Arc::default() }
    }
}

#[async_trait]
impl Subscribe for ForgetfulBus {
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        owner: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        let inner = self.bus.subscribe(topic, layer, owner).await?;
        let (topic, first_after) = (topic.clone(), Arc::clone(&self.first_after));
        Ok(Box::new(Forgetful { inner, topic, layer, first_after }))
    }
}

struct Forgetful {
    inner: Box<dyn Subscriber>,
    topic: EntityId,
    layer: Layer,
    first_after: Arc<AtomicU64>,
}

#[async_trait]
impl Subscriber for Forgetful {
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        self.inner.fetch(limit).await
    }

    async fn commit(&mut self, span: &Span) -> Result<(), BusError> {
        self.inner.commit(span).await
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        let first_after = self.first_after.load(Ordering::Relaxed);
        if self.layer != Layer::Raw && after.offset < first_after {
            let (topic, asked) = (self.topic.clone(), after.offset);
            return Err(BusError::Gone { topic, first_after, asked });
        }
        self.inner.seek(after).await
    }
}

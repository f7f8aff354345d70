//! What goes on beside the data: measuring lag and depth, delivering audit events, and the ledger's
//! retention.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::TopicStats;
use alluvium_ledger::OutboxEvent;
use alluvium_model::{EntityId, Layer};
use async_trait::async_trait;

use crate::context::Context;
use crate::platform::EventSink;

/// How many events are taken out of the outbox at once.
const EVENTS: u32 = 200;
/// How long the outbox is left alone where nobody says that it has something.
const OUTBOX_WAIT: Duration = Duration::from_secs(30);

/// Writes audit events to the log, target `alluvium::audit`, as JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogEvents;

#[async_trait]
impl EventSink for LogEvents {
    async fn deliver(&self, event: &OutboxEvent) -> Result<(), String> {
        tracing::info!(target: "alluvium::audit", event = %event.event, "audit event");
        Ok(())
    }
}

/// Measures lag and depth again and again, also while nothing happens.
pub(crate) async fn measure(context: Arc<Context>) {
    loop {
        sample(&context).await;
        tokio::time::sleep(context.platform.settings.sample_every).await;
    }
}

async fn sample(context: &Context) {
    let topics = (context.platform.topics)();
    let metrics = &context.platform.metrics;
    let now_us = context.now().as_microsecond();
    for topic in &topics {
        let entity = &topic.topic;
        // Whoever knows it tells it: raw may be at work in another process, or in none.
        metrics.time_to_loss(entity, topic.time_to_loss);
        for layer in Layer::ALL {
            // What this process knows of a layer that another one has is old. A layer that stopped
            // here for good is nobody else's.
            let ours = topic.layers.iter().find(|of| of.layer == layer);
            match ours.filter(|_| context.does(entity, layer)) {
                Some(of) => {
                    let waited = waited(of.waiting_since_us, now_us);
                    metrics.lag(entity, layer, of.waiting_records, waited);
                }
                None => metrics.lag_elsewhere(entity, layer),
            }
        }
    }
    let sum = |of: fn(&TopicStats) -> u64| topics.iter().map(of).sum();
    metrics.bus_depth(sum(|topic| topic.messages), sum(|topic| topic.stored_bytes));
    match context.platform.ledger.quarantine_sizes().await {
        Ok(sizes) => quarantine(context, &sizes),
        Err(error) => tracing::debug!(%error, "the ledger did not tell the size of the quarantine"),
    }
}

/// Also where nothing waits any more.
fn quarantine(context: &Context, sizes: &[(EntityId, u64)]) {
    for spec in context.entities() {
        let entity = spec.id();
        let size = sizes.iter().find(|(id, _)| *id == entity).map_or(0, |(_, size)| *size);
        context.platform.metrics.quarantine(&entity, size);
    }
}

/// How long the oldest record has waited.
pub(crate) fn waited(since_us: Option<i64>, now_us: i64) -> Duration {
    let waited = since_us.map_or(0, |since| now_us.saturating_sub(since));
    Duration::from_micros(u64::try_from(waited).unwrap_or(0))
}

/// Delivers audit events as they come.
pub(crate) async fn deliver(context: Arc<Context>) {
    loop {
        deliver_pending(&context).await;
        let told = tokio::time::timeout(OUTBOX_WAIT, context.outbox.notified()).await;
        if told.is_err() {
            tracing::trace!("looking into the outbox though nobody said that it has something");
        }
    }
}

/// Delivers what the outbox has. What is not delivered now stays there.
pub(crate) async fn deliver_pending(context: &Context) {
    loop {
        match deliver_some(context).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(reason) => {
                tracing::warn!(reason, "audit events were not delivered; they are kept");
                return;
            }
        }
    }
}

async fn deliver_some(context: &Context) -> Result<usize, String> {
    let platform = &context.platform;
    let events = platform.ledger.pending_events(EVENTS).await.map_err(|e| e.to_string())?;
    let mut delivered = Vec::with_capacity(events.len());
    let mut failure = None;
    for event in events {
        if let Err(reason) = platform.events.deliver(&event).await {
            failure = Some(reason);
            break;
        }
        delivered.push(event.id);
    }
    let noted = platform.ledger.events_delivered(&delivered, context.now()).await;
    noted.map_err(|error| error.to_string())?;
    failure.map_or(Ok(delivered.len()), Err)
}

/// Lets the ledger forget what it need not keep.
pub(crate) async fn retain(context: Arc<Context>) {
    let platform = &context.platform;
    loop {
        match platform.ledger.retain(&platform.settings.retention, context.now()).await {
            Ok(gone) => tracing::debug!(?gone, "the ledger forgot what it need not keep"),
            Err(error) => tracing::warn!(%error, "the ledger's retention failed"),
        }
        tokio::time::sleep(platform.settings.retention_every).await;
    }
}

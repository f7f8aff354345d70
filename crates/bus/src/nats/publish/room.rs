//! Room for a page: no more waits for raw than may, and the store takes it.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::BusError;

use super::super::topic::Topic;
use super::super::{Shared, records, retention};

/// How often a publisher that waits for room asks whether raw has landed in another process.
const ASK: Duration = Duration::from_secs(1);

/// Waits until no more waits for raw than may. Raw may land in this process or in another one.
pub(super) async fn wait_for(
    shared: &Shared,
    topic: &Arc<Topic>,
    bytes: u64,
) -> Result<(), BusError> {
    let mut landed = topic.landed.subscribe();
    while !topic.has_room(bytes, shared.settings.max_unlanded_bytes) {
        let told = tokio::time::timeout(ASK, landed.changed()).await;
        if told.is_err() {
            ask_what_landed(shared, topic).await?;
            shared.still(topic).await?;
        }
    }
    Ok(())
}

/// Takes up how far raw has landed, as the server knows it.
pub(in super::super) async fn ask_what_landed(
    shared: &Shared,
    topic: &Topic,
) -> Result<(), BusError> {
    let stored = records::landed(&shared.js, &shared.names, &topic.id).await?;
    if let Some(record) = stored.map(|s| s.value).filter(|l| l.epoch == topic.epoch) {
        topic.raw_landed(record);
    }
    Ok(())
}

/// Lets go what raw has landed; where that is nothing, waits until it lands more. Where it has landed
/// everything, others fill the store, of which `error` tells.
pub(super) async fn make(
    shared: &Shared,
    topic: &Arc<Topic>,
    error: BusError,
) -> Result<(), BusError> {
    let mut landed = topic.landed.subscribe();
    ask_what_landed(shared, topic).await?;
    let info = shared.still(topic).await?;
    if retention::let_go(shared, topic, &info).await? {
        return Ok(());
    }
    if topic.landed() >= info.state.last_sequence || info.config.max_bytes <= 0 {
        return Err(error);
    }
    tracing::warn!(topic = %topic.id, "the topic's stream is full; waiting for raw");
    while tokio::time::timeout(ASK, landed.changed()).await.is_err() {
        ask_what_landed(shared, topic).await?;
        shared.still(topic).await?;
    }
    Ok(())
}

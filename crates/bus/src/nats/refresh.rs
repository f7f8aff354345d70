//! In the background: how the topics stand on the server, every few seconds, and what retention
//! lets go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, Layer};

use super::headers;
use super::publish::room;
use super::topic::{LayerState, Topic};
use super::{Shared, api, retention, streams};

const EVERY: Duration = Duration::from_secs(5);
/// Retention looks at messages, so it comes less often: once in so many times.
const RETAIN_EVERY: u32 = 6;

/// Goes on until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    for round in 1_u32.. {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = once(&shared).await {
            tracing::debug!(%error, "NATS did not tell how the topics stand");
            continue;
        }
        if round.is_multiple_of(RETAIN_EVERY) {
            retain(&shared).await;
        }
    }
}

async fn retain(shared: &Shared) {
    for topic in shared.known() {
        if let Err(error) = retention::retain(shared, &topic).await {
            tracing::warn!(topic = %topic.id, %error, "retention could not remove what it may");
        }
    }
}

pub(super) async fn once(shared: &Shared) -> Result<(), BusError> {
    let known = shared.known();
    if known.is_empty() {
        return Ok(());
    }
    let all = shared.streams_of_topics().await?;
    let all: HashMap<String, _> = all.into_iter().map(|i| (i.config.name.clone(), i)).collect();
    for topic in known {
        match all.get(&topic.stream).filter(|info| streams::epoch(info) == topic.epoch) {
            Some(info) => {
                topic.saw(info);
                look(shared, &topic).await?;
            }
            // Whoever uses the topic next finds another epoch.
            None => shared.forget(&topic),
        }
    }
    Ok(())
}

/// What only messages tell.
async fn look(shared: &Shared, topic: &Arc<Topic>) -> Result<(), BusError> {
    room::ask_what_landed(shared, topic).await?;
    let end = topic.end();
    let layers = Layer::ALL.into_iter().filter(|layer| topic.is_read_by(*layer));
    let behind: Vec<Layer> = layers.filter(|layer| topic.layer(*layer).committed < end).collect();
    if behind.is_empty() {
        return Ok(());
    }
    if let Some(last) = api::last_message(&shared.js, &topic.stream, &topic.subject).await? {
        topic.is_sure_of(last.sequence);
        topic.saw_totals(last.sequence, headers::totals(Some(&last.headers)));
    }
    for layer in behind {
        let state = topic.layer(layer);
        if state.next_at_us.is_none() {
            let next = api::message(&shared.js, &topic.stream, state.committed + 1).await?;
            let next_at_us = next.map(|m| headers::published_at_us(Some(&m.headers), m.time));
            topic.committed(layer, LayerState { next_at_us, ..state });
        }
    }
    Ok(())
}

//! What goes: what is older, or more, than a topic keeps, and never before raw has landed it.

use std::sync::Arc;

use alluvium_model::{BusError, Layer};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Info;

use super::headers::{self, Totals, micros};
use super::topic::{Topic, first_after};
use super::{Shared, api, records};

/// Removes what retention no longer keeps, if raw reads the topic in this process.
pub(super) async fn retain(shared: &Shared, topic: &Arc<Topic>) -> Result<(), BusError> {
    if !topic.is_read_by(Layer::Raw) {
        return Ok(());
    }
    let Some(info) = shared.same(topic).await? else { return Ok(()) };
    let (first, landed) = (first_after(&info), topic.landed().min(info.state.last_sequence));
    let mut to = first;
    if let Some(oldest) = too_old(shared, &info) {
        let is_old = |m: &StreamMessage, _| micros(m.time) < oldest;
        to = last_that(shared, topic, (to, landed), is_old).await?;
    }
    if let Some(surplus) = surplus(shared, topic, &info).await? {
        let is_over = |_: &StreamMessage, totals: Totals| totals.bytes <= surplus;
        to = to.max(last_that(shared, topic, (first, landed), is_over).await?);
    }
    remove(shared, topic, &info, to).await.map(drop)
}

/// Removes all that raw has landed, since the store is full. Whether that was anything.
pub(super) async fn let_go(
    shared: &Shared,
    topic: &Arc<Topic>,
    info: &Info,
) -> Result<bool, BusError> {
    remove(shared, topic, info, topic.landed().min(info.state.last_sequence)).await
}

/// Removes all up to `to`; whether that was anything. One stays where nothing stands behind it: by it
/// a reader sees that nothing is missing there.
async fn remove(
    shared: &Shared,
    topic: &Arc<Topic>,
    info: &Info,
    to: u64,
) -> Result<bool, BusError> {
    let joins = to >= info.state.last_sequence
        || api::message(&shared.js, &topic.stream, to + 1).await?.is_some();
    let to = if joins { to } else { to.saturating_sub(1) };
    let to = if to >= info.state.last_sequence && tells_alone(shared, topic).await? {
        to.saturating_sub(1)
    } else {
        to
    };
    if to <= first_after(info) {
        return Ok(false);
    }
    api::purge(&shared.js, &topic.stream, to).await?;
    shared.same(topic).await?;
    Ok(true)
}

/// Whether the last message alone tells how far its source was read.
async fn tells_alone(shared: &Shared, topic: &Topic) -> Result<bool, BusError> {
    let Some(told) = shared.told(topic).await? else { return Ok(false) };
    let stored = records::cursor(&shared.js, &shared.names, &topic.id).await?;
    let stored = stored.map(|stored| stored.value).filter(|c| c.epoch == topic.epoch);
    Ok(stored.is_none_or(|stored| stored.record.page < told.record.page))
}

/// The time before which messages are too old, if the first one is.
fn too_old(shared: &Shared, info: &Info) -> Option<i64> {
    let age = i64::try_from(shared.settings.retention_age.as_micros()).unwrap_or(i64::MAX);
    let oldest = shared.clock.now().as_microsecond().saturating_sub(age);
    let first = micros(info.state.first_timestamp);
    (info.state.messages > 0 && first < oldest).then_some(oldest)
}

/// The running total of payload up to which messages are more than the topic keeps, if some are.
async fn surplus(shared: &Shared, topic: &Topic, info: &Info) -> Result<Option<u64>, BusError> {
    let (stored, kept) = (info.state.bytes, shared.settings.retention_bytes);
    if stored <= kept {
        return Ok(None);
    }
    let first = api::message(&shared.js, &topic.stream, info.state.first_sequence).await?;
    let Some(first) = first else { return Ok(None) };
    // One of somebody else tells nothing, and what stood before it is gone: the next one tells.
    let Some(totals) = headers::totals(Some(&first.headers)) else { return Ok(None) };
    let before = totals.bytes.saturating_sub(first.payload.len() as u64);
    let payload = topic.totals().bytes.saturating_sub(before);
    // The headers' share is taken to be the same everywhere.
    let over = u128::from(stored - kept) * u128::from(payload) / u128::from(stored);
    Ok(Some(before + u64::try_from(over).unwrap_or(u64::MAX)))
}

/// The last message in `(after, to]` of which `goes` holds, with the topic's totals there; it holds for none after one of which it
/// does not. `after` if there is none.
async fn last_that(
    shared: &Shared,
    topic: &Topic,
    (after, to): (u64, u64),
    goes: impl Fn(&StreamMessage, Totals) -> bool,
) -> Result<u64, BusError> {
    let (mut low, mut high) = (after, to);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        // One that somebody removed by hand goes with its neighbours.
        let message = api::message(&shared.js, &topic.stream, middle).await?;
        let goes = match message {
            Some(message) => {
                let none = (after, Totals::default());
                goes(&message, shared.totals_with(&topic.stream, &message, none).await?)
            }
            None => true,
        };
        match goes {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    Ok(low)
}

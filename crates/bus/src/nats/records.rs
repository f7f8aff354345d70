//! What is known beside the topics' messages: cursor records, how far raw has landed, whether the bus
//! was moved to or left, and whose it is. Each stands on a subject of its own, of which the server
//! keeps the last message, whatever becomes of the topic's messages.

use alluvium_model::{BusError, CursorRecord, EntityId, Epoch};
use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::Context;
use async_nats::jetstream::Error;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::headers::{self, Totals};
use super::names::Names;
use super::{api, calls};
use crate::{Mark, Tenant};

/// A topic's cursor record, bound to its epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CursorState {
    pub(super) epoch: Epoch,
    /// Where the topic ended when the record was written.
    pub(super) end: u64,
    #[serde(flatten)]
    pub(super) record: CursorRecord,
}

/// The record that stands, of the one that is stored and the one that the topic's last message tells:
/// that of the later page, for it was published, whether or not its publisher came to write it down.
/// Whoever follows it needs the higher token of both: the stored one may be that of an owner who has
/// begun since.
pub(super) fn standing(
    stored: Option<CursorState>,
    told: Option<CursorState>,
) -> Option<CursorState> {
    let (Some(stored), Some(told)) = (&stored, &told) else { return stored.or(told) };
    let token = stored.record.token.max(told.record.token);
    let later = if told.record.page > stored.record.page { told } else { stored };
    let record = CursorRecord { token, ..later.record.clone() };
    Some(CursorState { record, ..later.clone() })
}

/// How far raw has landed a topic: nothing above it may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LandedState {
    pub(super) epoch: Epoch,
    pub(super) offset: u64,
    records: u64,
    bytes: u64,
    /// When the message at the offset was published: nothing that follows it may be older, though
    /// retention has emptied the topic.
    #[serde(default)]
    pub(super) published_at_us: i64,
}

impl LandedState {
    pub(super) fn new(epoch: Epoch, offset: u64, totals: Totals, published_at_us: i64) -> Self {
        let Totals { records, bytes } = totals;
        Self { epoch, offset, records, bytes, published_at_us }
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { records: self.records, bytes: self.bytes }
    }

    /// The offset, and the totals there, if they are known.
    pub(super) fn known(&self) -> Option<(u64, Totals)> {
        (self.records > 0).then(|| (self.offset, self.totals()))
    }
}

/// A record, and the sequence of the message that holds it.
#[derive(Debug, Clone)]
pub(super) struct Stored<T> {
    pub(super) value: T,
    pub(super) sequence: u64,
}

/// What became of writing a record.
#[derive(Debug)]
pub(super) enum Put {
    /// It is durable, in the message of this sequence.
    Done(u64),
    /// Another record stands there than the one that was expected.
    Conflict,
    /// Nobody knows.
    Lost(BusError),
}

pub(super) async fn cursor(
    js: &Context,
    names: &Names,
    topic: &EntityId,
) -> Result<Option<Stored<CursorState>>, BusError> {
    read(js, names, &names.cursor(topic)).await
}

pub(super) async fn landed(
    js: &Context,
    names: &Names,
    topic: &EntityId,
) -> Result<Option<Stored<LandedState>>, BusError> {
    read(js, names, &names.landed(topic)).await
}

/// What stands on the bus of a move.
pub(super) async fn mark(js: &Context, names: &Names) -> Result<Option<Stored<Mark>>, BusError> {
    read(js, names, &names.mark()).await
}

/// Puts a mark in the place of `before`; `false` if another one stands there by now.
pub(super) async fn put_mark(
    js: &Context,
    names: &Names,
    mark: &Mark,
    before: Option<&Mark>,
) -> Result<bool, BusError> {
    let stored = self::mark(js, names).await?;
    if !mark.may_replace(stored.as_ref().map(|stored| &stored.value), before) {
        return Ok(false);
    }
    let at = stored.map_or(0, |stored| stored.sequence);
    match put(js, names.mark(), at, encode(mark)?).await {
        Put::Done(_) => Ok(true),
        Put::Conflict => Ok(false),
        Put::Lost(error) => Err(error),
    }
}

/// Whose bus it is.
pub(super) async fn tenant(
    js: &Context,
    names: &Names,
) -> Result<Option<Stored<Tenant>>, BusError> {
    read(js, names, &names.tenant()).await
}

pub(super) async fn put_tenant(
    js: &Context,
    names: &Names,
    tenant: &Tenant,
) -> Result<(), BusError> {
    let before = self::tenant(js, names).await?.map_or(0, |stored| stored.sequence);
    match put(js, names.tenant(), before, encode(tenant)?).await {
        Put::Done(_) | Put::Conflict => Ok(()),
        Put::Lost(error) => Err(error),
    }
}

/// The cursor record that a message tells, if it is the last of its page.
pub(super) fn told(headers: &HeaderMap) -> Option<CursorState> {
    serde_json::from_str(&headers::cursor(headers)?).ok()
}

async fn read<T: DeserializeOwned>(
    js: &Context,
    names: &Names,
    subject: &str,
) -> Result<Option<Stored<T>>, BusError> {
    let Some(message) = api::last_message(js, &names.state_stream(), subject).await? else {
        return Ok(None);
    };
    match serde_json::from_slice(&message.payload) {
        Ok(value) => Ok(Some(Stored { value, sequence: message.sequence })),
        // The text of the error might show a part of the cursor.
        Err(_) => Err(BusError::Corrupt(format!("the record on subject {subject} does not read"))),
    }
}

/// A record in bytes.
pub(super) fn encode(record: &impl Serialize) -> Result<bytes::Bytes, BusError> {
    let bytes = serde_json::to_vec(record);
    bytes.map(bytes::Bytes::from).map_err(|e| BusError::Unavailable(e.to_string()))
}

/// Writes a record where the message at `expected` stands, or none if that is 0.
pub(super) async fn put(js: &Context, subject: String, expected: u64, record: bytes::Bytes) -> Put {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string().as_str());
    match calls::publish(js, subject, headers, record).await {
        Ok(Ok(acknowledged)) => Put::Done(acknowledged.sequence),
        Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Put::Conflict,
        Ok(Err(error)) => Put::Lost(refusal(&error)),
        Err(error) => Put::Lost(error),
    }
}

/// What an error of publishing means.
pub(super) fn refusal(error: &PublishError) -> BusError {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<Error>());
    match source {
        Some(error) => api::refused(error),
        None => BusError::Unavailable(format!("NATS did not acknowledge: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::{Cursor, FencingToken};

    use super::*;

    fn state(token: u64, page: u64, cursor: &str) -> Option<CursorState> {
        let record =
            CursorRecord { token: FencingToken(token), page, cursor: Cursor(cursor.into()) };
        Some(CursorState { epoch: Epoch(1), end: page, record })
    }

    #[test]
    fn the_later_page_stands_and_of_the_same_page_what_was_written_down() {
        assert_eq!(standing(None, None), None);
        assert_eq!(standing(state(1, 4, "stored"), None), state(1, 4, "stored"));
        assert_eq!(standing(None, state(1, 4, "told")), state(1, 4, "told"));
        let both = |stored, told| standing(state(stored, 4, "stored"), state(told, 5, "told"));
        assert_eq!(both(1, 1), state(1, 5, "told"), "who published it was killed before it wrote");
        assert_eq!(both(2, 1), state(2, 5, "told"), "and another owner has begun since");
        let same = standing(state(2, 4, "younger"), state(1, 4, "older"));
        assert_eq!(same, state(2, 4, "younger"));
        assert_eq!(standing(state(2, 6, "stored"), state(1, 5, "told")), state(2, 6, "stored"));
    }
}

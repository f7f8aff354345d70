//! Messages as they go onto the bus and come from it, or from raw.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{EntityId, Epoch, Position, Span};

/// A message's headers. Names are lower-case; `wire` knows what they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, String>);

impl Headers {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets `name`, in the manner of a builder.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
}

/// A message before it has a place: one record a line (NDJSON, line feeds between them), in the
/// bytes as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedMessage {
    /// What the lines are, and where they come from.
    pub headers: Headers,
    /// The lines.
    pub payload: Bytes,
    /// How many records the lines hold. At least one.
    pub records: u32,
}

/// The messages of one page. Empty where only the cursor moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedPage {
    /// In the order in which they are to stand on the topic.
    pub messages: Vec<EncodedMessage>,
}

impl EncodedPage {
    /// How many records the page holds.
    pub fn records(&self) -> u64 {
        self.messages.iter().map(|m| u64::from(m.records)).sum()
    }

    /// How many bytes of payload the page holds.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(|m| m.payload.len()).sum()
    }
}

/// A message in its place. Layers of one process share it, and what was decoded from it.
pub struct Message {
    /// The topic's incarnation.
    pub epoch: Epoch,
    /// The message's offset, from 1.
    pub offset: u64,
    /// When the bus took it, in microseconds since 1970; never decreasing along a topic's epoch.
    pub published_at_us: i64,
    /// What the lines are, and where they come from.
    pub headers: Headers,
    /// One record a line, the bytes as received.
    pub payload: Bytes,
    /// How many records the lines hold.
    pub records: u32,
    /// The payload as one zstd frame, where the bus keeps it so: raw lands it as it is.
    pub frame: Option<Bytes>,
    decoded: OnceLock<(u128, Arc<dyn Any + Send + Sync>)>,
}

impl Message {
    /// A message in its place.
    pub fn new(
        epoch: Epoch,
        offset: u64,
        published_at_us: i64,
        encoded: EncodedMessage,
        frame: Option<Bytes>,
    ) -> Self {
        let EncodedMessage { headers, payload, records } = encoded;
        Self {
            epoch,
            offset,
            published_at_us,
            headers,
            payload,
            records,
            frame,
            decoded: OnceLock::new(),
        }
    }

    /// The same message without what was decoded from it, for who keeps it for long.
    pub fn undecoded(&self) -> Self {
        Self {
            headers: self.headers.clone(),
            payload: self.payload.clone(),
            frame: self.frame.clone(),
            decoded: OnceLock::new(),
            ..*self
        }
    }

    /// The position of the record at `index`.
    pub fn position(&self, index: u32) -> Position {
        Position { epoch: self.epoch, offset: self.offset, index }
    }

    /// The records' bytes, in order: the payload's lines, without their line feeds.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let body = self.payload.strip_suffix(b"\n").unwrap_or(&self.payload);
        let ends = memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len()));
        ends.scan(0, |begin, end| body.get(std::mem::replace(begin, end + 1)..end))
    }

    /// What `decode` makes of the message, made once and shared by all who ask for the same type
    /// with the same `key`. The key stands for all that `decode` depends on beside the message. Who
    /// asks with another one than the first gets something of their own.
    pub fn decoded<T: Send + Sync + 'static>(
        &self,
        key: u128,
        decode: impl FnOnce(&Self) -> T,
    ) -> Arc<T> {
        let mut made = None;
        let mut decode = Some(decode);
        let (found, slot) = self.decoded.get_or_init(|| {
            let value = decode.take().map(|decode| Arc::new(decode(self)));
            made.clone_from(&value);
            let slot: Arc<dyn Any + Send + Sync> = match value {
                Some(value) => value,
                None => Arc::new(()),
            };
            (key, slot)
        });
        if let Some(made) = made {
            return made;
        }
        let shared = (*found == key).then(|| Arc::clone(slot).downcast::<T>().ok()).flatten();
        match (shared, decode) {
            (Some(shared), _) => shared,
            (None, Some(decode)) => Arc::new(decode(self)),
            (None, None) => unreachable!("who decoded has returned what was made"),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("epoch", &self.epoch)
            .field("offset", &self.offset)
            .field("records", &self.records)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// The messages of one span of a topic, in order and without holes.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The entity whose topic they stand on.
    pub entity: EntityId,
    /// The stretch they fill, which ends with the last of them.
    pub span: Span,
    /// The messages. Empty where nothing came before the fetch's wait was over; then `span` is
    /// empty too.
    pub messages: Vec<Arc<Message>>,
}

impl Delivery {
    /// How many records the delivery holds.
    pub fn records(&self) -> u64 {
        self.messages.iter().map(|m| u64::from(m.records)).sum()
    }

    /// How many bytes of payload the delivery holds.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(|m| m.payload.len()).sum()
    }

    /// Whether nothing was delivered.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// How much one fetch may bring. At least one message comes if there is one, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimit {
    /// Records at most.
    pub records: u64,
    /// Bytes of payload at most.
    pub bytes: usize,
    /// How long to wait for a first message.
    pub wait: Duration,
}

impl Default for FetchLimit {
    fn default() -> Self {
        Self { records: 250_000, bytes: 64 << 20, wait: Duration::from_millis(500) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &'static str, records: u32) -> Message {
        let encoded =
            EncodedMessage { headers: Headers::default(), payload: Bytes::from(payload), records };
        Message::new(Epoch(1), 1, 0, encoded, None)
    }

    #[test]
    fn lines_are_the_same_with_and_without_a_last_line_feed() {
        let expected: Vec<&[u8]> = vec![b"{}", b"[1]"];
        assert_eq!(message("{}\n[1]\n", 2).lines().collect::<Vec<_>>(), expected);
        assert_eq!(message("{}\n[1]", 2).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_message_is_decoded_once_for_all_who_share_it() {
        let message = message("{}", 1);
        let first = message.decoded(7, |m| m.records + 1);
        let second = message.decoded(7, |_| 0u32);
        assert_eq!((*first, *second), (2, 2));
    }

    #[test]
    fn who_decodes_otherwise_shares_nothing() {
        let message = message("{}", 1);
        assert_eq!(*message.decoded(7, |_| 1), 1);
        assert_eq!(*message.decoded(8, |_| 2), 2, "another key");
        assert_eq!(*message.decoded(7, |_| "other"), "other", "another type");
        assert_eq!(*message.decoded(7, |_| 3), 1, "the first is still shared");
    }
}

//! What Kafka and NATS have in common: a log of messages in one or many partitions, read from given
//! offsets on.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_model::{EntityId, Headers, SourceError};
use alluvium_wire::headers::{CONTENT_TYPE, FORMAT, KIND, MAP};
use async_trait::async_trait;
use xxhash_rust::xxh3::Xxh3;

use crate::cursor::Seen;
use crate::order::has_date;
use crate::settings::{OnLoss, Start};

/// On a message with which a bus of ours begins a topic; it says nothing of any row.
pub(crate) const MARK: &str = "alluvium-mark";

/// The headers that tell what a value is.
pub(crate) fn telling<'h>(all: impl Iterator<Item = (&'h str, &'h str)>) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in all {
        let name = name.to_ascii_lowercase();
        if let CONTENT_TYPE | KIND | FORMAT | MAP | MARK = name.as_str() {
            headers = headers.with(&name, value);
        }
    }
    headers
}

/// A message as it stands in its log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived {
    /// The partition; NATS has only 0.
    pub(crate) partition: i32,
    /// The offset; with NATS the sequence in the stream.
    pub(crate) offset: i64,
    /// The subject, with NATS.
    pub(crate) subject: Option<String>,
    /// The log's or the producer's time, in microseconds since 1970, whatever it is.
    pub(crate) time_us: Option<i64>,
    /// The key, with Kafka.
    pub(crate) key: Option<Vec<u8>>,
    /// Those headers that tell what the value is.
    pub(crate) headers: Headers,
    /// The value. `None` is Kafka's mark for compaction.
    pub(crate) value: Option<Vec<u8>>,
}

impl Arrived {
    /// How much of a page it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let len = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        (len(&self.key) + len(&self.value)) as u64
    }

    /// Its time, if it is one: a producer that takes other units for milliseconds writes years that
    /// no calendar has.
    pub(crate) fn time(&self) -> Option<i64> {
        self.time_us.filter(|us| has_date(*us))
    }

    /// What it takes to know it again.
    pub(crate) fn seen(&self) -> Seen {
        let mut hash = Xxh3::new();
        hash.update(&self.time_us.unwrap_or(i64::MIN).to_le_bytes());
        for part in [&self.key, &self.value] {
            let length = part.as_ref().map_or(u64::MAX, |part| part.len() as u64);
            hash.update(&length.to_le_bytes());
            hash.update(part.as_deref().unwrap_or_default());
        }
        Seen { offset: self.offset, hash: format!("{:016x}", hash.digest()) }
    }
}

/// What a page is to bring.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// The entity that it is for.
    pub(crate) entity: EntityId,
    /// Kafka's topic, or the stream of NATS.
    pub(crate) topic: String,
    /// For NATS: which subjects.
    pub(crate) subject: Option<String>,
    /// The next offset of each partition that was read before; `None` at the first page of all.
    pub(crate) from: Option<BTreeMap<i32, i64>>,
    /// The last message that was read of each partition, where it is known.
    pub(crate) last: BTreeMap<i32, Seen>,
    /// What tells the log from another one of the same name, as it was when it was read last.
    pub(crate) incarnation: Option<String>,
    /// Where to begin at the first page of all. A partition that is found later is read from its
    /// beginning.
    pub(crate) start: Start,
    /// What to do about messages that are gone.
    pub(crate) on_loss: OnLoss,
    /// Messages at most, but one from each partition that has some.
    pub(crate) messages: u64,
    /// Bytes, after which no further message is taken.
    pub(crate) bytes: u64,
    /// How long to wait for a first message where there is none.
    pub(crate) wait: Duration,
}

/// What a page brought.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// In the order of their partitions and offsets.
    pub(crate) messages: Vec<Arrived>,
    /// The next offset of each partition that there is.
    pub(crate) next: BTreeMap<i32, i64>,
    /// The last message of each partition that brought some, if the engine does not tell a log from
    /// another one of the same name.
    pub(crate) last: BTreeMap<i32, Seen>,
    /// What tells the log from another one of the same name, if its engine does.
    pub(crate) incarnation: Option<String>,
    /// How many offsets were gone.
    pub(crate) lost: u64,
    /// Whether there is more right now.
    pub(crate) more: bool,
}

/// A log that is read from given offsets on. Holds connections and what was read ahead, never
/// progress: the same `want` brings the same messages again, or newer ones beside them.
#[async_trait]
pub(crate) trait Log: Send {
    /// A page of messages. Never modifies the log.
    async fn page(&mut self, want: Want) -> Result<Brought, SourceError>;

    /// Everything before `next` is durable on our bus; where the engine has a place for this, it is
    /// noted for people.
    async fn note(
        &mut self,
        entity: &EntityId,
        next: BTreeMap<i32, i64>,
    ) -> Result<(), SourceError>;
}

/// Messages are gone that were not read yet.
pub(crate) fn lost(want: &Want, place: &str, next: i64, first: i64) -> SourceError {
    let lost = first.saturating_sub(next);
    SourceError::Misconfigured(format!(
        "entity `{}`: {place} begins at {first}, but was read only up to {next}: its retention \
         removed up to {lost} messages before they were read. To go on without them, set the \
         entity's `on_loss` to `continue`; to read all that is left of the source anew, load it into \
         a new entity",
        want.entity
    ))
}

/// A partition of which something was read is not there.
pub(crate) fn vanished(want: &Want, place: &str, next: i64) -> SourceError {
    SourceError::Misconfigured(format!(
        "entity `{}`: {place} was read up to {next}, and is not there any more: the topic was made \
         anew with fewer partitions. To go on without it, set the entity's `on_loss` to `continue`",
        want.entity
    ))
}

/// The log is not the one of which something was read.
pub(crate) fn another(want: &Want, place: &str, how: &str) -> SourceError {
    SourceError::Misconfigured(format!(
        "entity `{}`: {place} is not the one that was read before: {how}. To read it from its \
         beginning, set the entity's `on_loss` to `continue`",
        want.entity
    ))
}

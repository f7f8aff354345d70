//! The ports between rooms: where changes come from, the bus, and the layers.
//!
//! The core depends on these traits and never on who stands behind them.

use std::time::Duration;

use async_trait::async_trait;

use crate::outcome::Progress;
use crate::{
    Applied, Cursor, CursorRecord, Delivery, EncodedPage, EntityId, EntitySpec, Epoch,
    FencingToken, FetchLimit, Layer, Maintained, Position, Record, Remedy, Span, Upkeep,
};

/// What one poll brought.
#[derive(Debug)]
pub struct Page {
    /// Changes and control records, in the source's order.
    pub records: Vec<Record>,
    /// Where to go on; `None` leaves the cursor where it was.
    pub next: Option<Cursor>,
    /// Whether the source has more to give right now.
    pub more: bool,
}

/// What a source knows of its entities.
#[derive(Debug, Default)]
pub struct Discovery {
    /// The entities, completed.
    pub entities: Vec<EntitySpec>,
    /// Those that do not fit the source, and why. The others can be polled all the same.
    pub failed: Vec<(EntityId, SourceError)>,
}

impl Discovery {
    /// Takes in what became of completing an entity: where it does not fit the source, this is a
    /// matter of that entity alone, any other error is one of the source.
    pub fn add(
        &mut self,
        entity: EntityId,
        completed: Result<EntitySpec, SourceError>,
    ) -> Result<(), SourceError> {
        match completed {
            Ok(spec) => self.entities.push(spec),
            Err(error @ SourceError::Misconfigured(_)) => self.failed.push((entity, error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// All entities, or the first error.
    pub fn all(self) -> Result<Vec<EntitySpec>, SourceError> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.entities),
        }
    }
}

/// Where changes come from. Holds connections, never progress.
#[async_trait]
pub trait Source: Send {
    /// Completes what was declared with what the source itself knows (keys, columns, types), and
    /// adds the entities that the system's connection asks for without declaring them. An entity that
    /// does not fit the source is told in [`Discovery::failed`], and fails no other. Called once
    /// after connecting; may be repeated.
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError>;

    /// Changes strictly after `cursor`, or from the beginning. Never modifies the source. May be
    /// repeated with the same cursor, and then gives the same changes with the same sequences, or
    /// newer ones. Never called concurrently.
    async fn poll(
        &mut self,
        entity: &EntitySpec,
        cursor: Option<&Cursor>,
    ) -> Result<Page, SourceError>;

    /// `cursor` is durable on the bus, so the source may forget what lies before it. Idempotent.
    async fn acknowledge(
        &mut self,
        entity: &EntitySpec,
        cursor: &Cursor,
    ) -> Result<(), SourceError>;
}

/// Why a source gave no page. The texts carry no secret and no row values.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be reached, hung, or broke off; it may mend itself.
    #[error("the source is not available: {0}")]
    Unavailable(String),
    /// It asked to be left alone for a while.
    #[error("the source limits the rate; it asks to wait {} s", .0.as_secs())]
    RateLimited(Duration),
    /// It answered, but not with what was asked for.
    #[error("the source gave an answer that cannot be used: {0}")]
    BadAnswer(String),
    /// It answered with more than is taken at once.
    #[error("the source gave an answer larger than the limit: {0}")]
    TooLarge(String),
    /// It refused us.
    #[error("the source refused access: {0}")]
    Refused(String),
    /// The metadata do not fit the source.
    #[error("the metadata do not fit the source: {0}")]
    Misconfigured(String),
}

impl SourceError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable(_) | Self::BadAnswer(_) => Remedy::Retry,
            Self::RateLimited(wait) => Remedy::RetryAfter(*wait),
            Self::TooLarge(_) => {
                Remedy::Operator("raise the limit, or ask the source for smaller pages")
            }
            Self::Refused(_) => Remedy::Operator("check the system's credentials"),
            Self::Misconfigured(_) => {
                Remedy::Operator("check the entity's `source` and the system's `connection`")
            }
        }
    }
}

/// What became of a published page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The stretch that the page fills; empty (`after == to`) for a page without messages.
    pub span: Span,
}

/// The way onto the bus.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// `Ok` means that all messages of the page and its cursor record survive a restart of the bus.
    /// The cursor record becomes durable together with the messages or after them. Fenced: an older
    /// token, or a page number not above the last, is refused with [`BusError::Fenced`]. Pages
    /// without cursor record (pushed, not polled) pass `None`. Waits while the topic is full. May be
    /// called concurrently, for one topic too.
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError>;

    /// The topic's cursor record, whatever retention has removed since.
    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError>;

    /// The topic's epoch and the offset of its last message (0 if it has none yet). Creates the
    /// topic if it is not there.
    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError>;
}

/// A reader of one topic for one layer: from the bus, or from raw.
#[async_trait]
pub trait Subscriber: Send {
    /// The next messages, in order and without holes; an empty delivery if none came in time.
    /// Fetching alone makes no progress: after a restart or a seek the same messages come again.
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError>;

    /// The span is durable in the lake: the bus may drop it once all layers have it. Idempotent,
    /// never backwards.
    async fn commit(&mut self, span: &Span) -> Result<(), BusError>;

    /// Go on after the message at `after` (its index is ignored). [`BusError::Gone`] if the next
    /// message is no longer there, [`BusError::UnexpectedEpoch`] if the topic is another one.
    async fn seek(&mut self, after: &Position) -> Result<(), BusError>;
}

/// Makes subscribers.
#[async_trait]
pub trait Subscribe: Send + Sync {
    /// A reader of `topic` for `layer`, standing before the first message that is still there.
    /// Creates the topic if it is not there. `owner` is the token with which the caller has the
    /// layer: where the bus keeps something for each reader, a later owner must not be disturbed by
    /// an earlier one that still reads.
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        owner: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError>;
}

/// Why the bus did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It could not be reached or did not answer in time.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// Another owner has taken the topic over.
    #[error(
        "fenced: topic {topic} is at token {token}, page {page}; another poller has taken over"
    )]
    Fenced {
        /// The topic.
        topic: EntityId,
        /// The token that stands on the bus.
        token: u64,
        /// The page that stands on the bus.
        page: u64,
    },
    /// Messages that were asked for are no longer there.
    #[error("topic {topic} begins after offset {first_after}, but offset {asked} was asked for")]
    Gone {
        /// The topic.
        topic: EntityId,
        /// The offset before the first message that is still there.
        first_after: u64,
        /// The offset that was asked for.
        asked: u64,
    },
    /// The topic is another one than the lake knows.
    #[error(
        "topic {topic} has epoch {found}, but the lake knows it as epoch {expected}; if the bus was \
         lost and is not to be restored, run `alluvium epoch accept {topic}`"
    )]
    UnexpectedEpoch {
        /// The topic.
        topic: EntityId,
        /// The epoch that the lake knows.
        expected: Epoch,
        /// The epoch on the bus.
        found: Epoch,
    },
    /// It refuses us, or is not as the settings have it; it does not mend itself.
    #[error("the bus cannot be used as it is: {0}")]
    Refused(String),
    /// It does not do what was asked, and the settings are not known to be to blame; nor does it mend
    /// itself.
    #[error("the bus does not do what was asked: {0}")]
    Rejected(String),
    /// No room is left.
    #[error("the bus has no room left: {0}")]
    Full(String),
    /// What stands on the bus cannot be read.
    #[error("the bus is damaged: {0}")]
    Corrupt(String),
    /// A message is larger than the bus takes.
    #[error("a message of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
        /// Which message of its page it is; none where it is the cursor record.
        message: Option<usize>,
    },
}

impl BusError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable(_) => Remedy::Retry,
            Self::Fenced { .. } => {
                Remedy::Operator("another process polls this entity; stop one of them")
            }
            Self::Gone { .. } => {
                Remedy::Operator("the bus lost messages that no layer has; restore the bus")
            }
            Self::UnexpectedEpoch { .. } => {
                Remedy::Operator("restore the bus, or accept that what only it had is gone")
            }
            Self::Refused(_) => {
                Remedy::Operator("check the settings of the bus, its credentials and its server")
            }
            Self::Full(_) => Remedy::Operator("free disk space, then start again"),
            Self::Rejected(_) => Remedy::Operator("look at the bus's server"),
            Self::Corrupt(_) => Remedy::Operator("restore the bus from a backup"),
            Self::TooLarge { .. } => {
                Remedy::Operator("make the records smaller or raise the limit")
            }
        }
    }
}

/// A layer of one entity: takes deliveries in order and lands them.
#[async_trait]
pub trait Stage: Send {
    /// Which layer it is.
    fn layer(&self) -> Layer;

    /// How far the lake says this layer got; `None` if it has nothing yet. Asked at start and after
    /// an error.
    async fn progress(&mut self) -> Result<Option<Progress>, StageError>;

    /// Lands a delivery. Idempotent per span: what the lake already has is left out. Returns the
    /// batches that became durable, which may be none (raw lingers) and may include earlier
    /// deliveries. Poison comes back in [`Applied::quarantined`], never as `Err`.
    async fn apply(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError>;

    /// Lands what lingers. Called at the end of a run, before verify, when it has lingered long
    /// enough, and at stop.
    async fn flush(&mut self) -> Result<Vec<Applied>, StageError>;

    /// Looks after what was landed: puts files together, writes checkpoints, removes what nothing
    /// refers to. Called after batches and while nothing comes, never concurrently with the other
    /// calls; a step is short, so that no batch waits for it long. May be repeated at any time:
    /// what a crash broke off is begun again. `Ok` promises nothing of what is still to do, and
    /// neither `Ok` nor an error alters a row or how far the layer got.
    async fn maintain(&mut self, upkeep: Upkeep) -> Result<Maintained, StageError>;

    /// Keeps what this process has beside the lake close to a layer that another process writes, so
    /// that it can go on with it at once. Writes nothing to the lake, and needs no ownership. Not to
    /// be called on a stage that lands deliveries.
    async fn follow(&mut self) -> Result<(), StageError> {
        Ok(())
    }
}

/// Why a layer could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The lake could not be reached, or somebody else wrote meanwhile; planning anew may help.
    #[error("the lake is not available: {0}")]
    Unavailable(String),
    /// The layer is not ours, or no longer: another process may write it by now. Whoever has it
    /// goes on.
    #[error("the layer has another owner: {0}")]
    Fenced(String),
    /// No room is left.
    #[error("the lake has no room left: {0}")]
    Full(String),
    /// A delivery does not continue where the layer stands.
    #[error("a hole: the layer stands at offset {at}, the delivery is {span}")]
    Hole {
        /// Where the layer stands.
        at: u64,
        /// What was delivered.
        span: Span,
    },
    /// The topic is another one than the lake knows.
    #[error("the lake knows epoch {expected}, but epoch {found} came")]
    UnexpectedEpoch {
        /// The epoch that the lake knows.
        expected: Epoch,
        /// The epoch that came.
        found: Epoch,
    },
    /// The table is not as the metadata say.
    #[error("the table does not fit the metadata: {0}")]
    Mismatch(String),
    /// What stands in the lake cannot be read.
    #[error("the lake is damaged: {0}")]
    Corrupt(String),
    /// A defect of ours.
    #[error("defect: {0}")]
    Bug(String),
}

impl StageError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable(_) | Self::Fenced(_) => Remedy::Retry,
            Self::Full(_) => Remedy::Operator("free disk space, then start again"),
            Self::Hole { .. } | Self::Bug(_) => Remedy::Bug,
            Self::UnexpectedEpoch { .. } => {
                Remedy::Operator("restore the bus, or accept that what only it had is gone")
            }
            Self::Mismatch(_) => {
                Remedy::Operator("make the entity's columns and keys fit the table, or rebuild it")
            }
            Self::Corrupt(_) => Remedy::Operator("restore the table, or rebuild it from raw"),
        }
    }
}

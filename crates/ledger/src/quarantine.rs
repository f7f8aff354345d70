//! Records that could not be applied.

use jiff::Timestamp;
use serde::Serialize;

use alluvium_model::{BatchId, EntityId, Layer, Position, RunId, SystemName};

/// So many bytes of a record are kept; raw has the whole.
pub const QUARANTINE_BYTES_MAX: usize = 1024 * 1024;

/// What became of a record in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineStatus {
    /// Nobody has decided yet.
    Open,
    /// It was given to its topic once more.
    Replayed,
    /// It is left out for good.
    Discarded,
    /// It was applied after all.
    Approved,
}

impl QuarantineStatus {
    /// All of them.
    pub const ALL: [QuarantineStatus; 4] = [
        QuarantineStatus::Open,
        QuarantineStatus::Replayed,
        QuarantineStatus::Discarded,
        QuarantineStatus::Approved,
    ];

    /// The word for it in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            QuarantineStatus::Open => "open",
            QuarantineStatus::Replayed => "replayed",
            QuarantineStatus::Discarded => "discarded",
            QuarantineStatus::Approved => "approved",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What an operator did with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Gave it to its topic once more.
    Replayed,
    /// Left it out for good.
    Discarded,
    /// Let it be applied after all.
    Approved,
}

impl Resolution {
    /// The status that follows from it.
    pub fn status(self) -> QuarantineStatus {
        match self {
            Resolution::Replayed => QuarantineStatus::Replayed,
            Resolution::Discarded => QuarantineStatus::Discarded,
            Resolution::Approved => QuarantineStatus::Approved,
        }
    }
}

/// Which records to list, the latest first.
#[derive(Debug, Clone, Default)]
pub struct QuarantineFilter {
    /// Only this system's.
    pub system: Option<SystemName>,
    /// Only this entity's.
    pub entity: Option<EntityId>,
    /// Only in this status.
    pub status: Option<QuarantineStatus>,
    /// At most so many; 0 is 100.
    pub limit: u32,
}

/// A record in quarantine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuarantineRow {
    /// Its number, never reused.
    pub id: i64,
    /// The layer that could not apply it.
    pub layer: Layer,
    /// The entity.
    pub entity: EntityId,
    /// Where it stands.
    pub position: Position,
    /// A short word for the kind of reason.
    pub code: String,
    /// The reason, for people.
    pub reason: String,
    /// The record as received, at most [`QUARANTINE_BYTES_MAX`] of it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Whether `bytes` is not the whole.
    pub truncated: bool,
    /// How many bytes the whole has.
    pub size: u64,
    /// The batch it was met in.
    pub batch: BatchId,
    /// The run that was on.
    pub run: Option<RunId>,
    /// When.
    pub quarantined_at: Timestamp,
    /// What became of it.
    pub status: QuarantineStatus,
    /// When that was decided.
    pub resolved_at: Option<Timestamp>,
}

//! Runs and what they are made of: a run of a system, of its layers, of its entities in a layer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use alluvium_model::{Counts, EntityId, Layer, RowsWritten, RunId, SystemName};

/// A run that is about to begin.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The system that was activated.
    pub system: SystemName,
    /// What activated it: `manual`, `cron`, `interval`, `publish`, …
    pub trigger: String,
    /// When.
    pub started_at: Timestamp,
    /// The W3C trace context that the run's changes carry.
    pub traceparent: Option<String>,
    /// The worker that it is in; `None` where one process does everything.
    pub worker: Option<String>,
}

/// How a run, or a part of it, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It has not ended.
    Running,
    /// It did all it was to do.
    Succeeded,
    /// It did not; the reason says why.
    Failed,
    /// It was asked to stop.
    Cancelled,
    /// There was nothing to do, or it was switched off.
    Skipped,
    /// Its process ended before it did.
    Interrupted,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [RunStatus; 6] = [
        RunStatus::Running,
        RunStatus::Succeeded,
        RunStatus::Failed,
        RunStatus::Cancelled,
        RunStatus::Skipped,
        RunStatus::Interrupted,
    ];

    /// The word for it in tables and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
            RunStatus::Skipped => "skipped",
            RunStatus::Interrupted => "interrupted",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// How many entities of a run ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityCounts {
    /// Everything of theirs was polled and published.
    pub succeeded: u64,
    /// Something went wrong.
    pub failed: u64,
    /// Not tried.
    pub skipped: u64,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunEnd {
    /// `Succeeded`, `Failed` or `Cancelled`.
    pub status: RunStatus,
    /// Why, for people; no secrets, no row values.
    pub reason: Option<String>,
    /// When.
    pub ended_at: Timestamp,
    /// How its entities ended.
    pub entities: EntityCounts,
    /// Records that the connector gave.
    pub polled: u64,
    /// Records that became durable on the bus.
    pub published: u64,
}

/// How the polling of an entity (no layer), or an entity's layer, ended within a run.
#[derive(Debug, Clone)]
pub struct EntityStep {
    /// The run.
    pub run: RunId,
    /// The entity.
    pub entity: EntityId,
    /// The layer; `None` is the way from the source onto the bus.
    pub layer: Option<Layer>,
    /// How it ended.
    pub status: RunStatus,
    /// Why, for people; no secrets, no row values.
    pub reason: Option<String>,
    /// Records published, where there is no layer. Layers are counted by their batches.
    pub records: u64,
    /// When.
    pub at: Timestamp,
}

/// Which runs to list, the latest first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only this system's.
    pub system: Option<SystemName>,
    /// Only in this status.
    pub status: Option<RunStatus>,
    /// At most so many; 0 is 100.
    pub limit: u32,
}

/// A run as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Its id; sorts by time.
    pub id: RunId,
    /// The system.
    pub system: SystemName,
    /// What started it.
    pub trigger: String,
    /// How it stands.
    pub status: RunStatus,
    /// Why, if it did not succeed.
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, if it did.
    pub ended_at: Option<Timestamp>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// How its entities ended.
    pub entities: EntityCounts,
    /// Records that the connector gave.
    pub polled: u64,
    /// Records that became durable on the bus.
    pub published: u64,
}

/// A part of a run: of a layer over all entities (no entity), or of one entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStep {
    /// The run.
    pub run: RunId,
    /// The entity; `None` where the row is about the whole layer.
    pub entity: Option<EntityId>,
    /// The layer; `None` is the way from the source onto the bus.
    pub layer: Option<Layer>,
    /// How it stands.
    pub status: RunStatus,
    /// Why, if it did not succeed.
    pub reason: Option<String>,
    /// When its first batch or word came.
    pub started_at: Timestamp,
    /// When it ended, if it did.
    pub ended_at: Option<Timestamp>,
    /// Batches applied.
    pub batches: u64,
    /// What became of the records.
    pub counts: Counts,
    /// Rows written.
    pub rows: RowsWritten,
    /// Bytes written.
    pub bytes: u64,
}

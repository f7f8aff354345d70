//! How runs went, for those who started them and for those who look at the status.

use alluvium_ledger::{EntityCounts, RunStatus};
use alluvium_model::{EntityId, Position, RunId, SystemName};
use jiff::Timestamp;
use serde::Serialize;

use crate::error::PollError;
use crate::feed::GaveUp;
use crate::poll::Tally;

/// How a run went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// The system.
    pub system: SystemName,
    /// What started it: `manual`, `cron`, `interval` or `publish`.
    pub trigger: String,
    /// `Succeeded`, `Failed` or `Cancelled`.
    pub status: RunStatus,
    /// Why, if it did not succeed.
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Its entities, in the order in which they were polled.
    pub entities: Vec<EntityReport>,
}

/// How an entity fared in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntityReport {
    /// The entity.
    pub entity: EntityId,
    /// How its polling ended.
    pub status: RunStatus,
    /// Why, if it did not succeed.
    pub reason: Option<String>,
    /// Records that the connector gave.
    pub polled: u64,
    /// Records that became durable on the bus.
    pub published: u64,
    /// Where its last page ends on the topic; `None` if there was none.
    pub position: Option<Position>,
}

impl RunReport {
    /// Records that the connector gave.
    pub fn polled(&self) -> u64 {
        self.entities.iter().map(|entity| entity.polled).sum()
    }

    /// Records that became durable on the bus.
    pub fn published(&self) -> u64 {
        self.entities.iter().map(|entity| entity.published).sum()
    }

    pub(crate) fn counts(&self) -> EntityCounts {
        let of = |wanted: &[RunStatus]| {
            self.entities.iter().filter(|e| wanted.contains(&e.status)).count() as u64
        };
        EntityCounts {
            succeeded: of(&[RunStatus::Succeeded]),
            failed: of(&[RunStatus::Failed]),
            skipped: of(&[RunStatus::Skipped, RunStatus::Cancelled]),
        }
    }
}

impl EntityReport {
    pub(crate) fn of(entity: EntityId, tally: &Tally, error: Option<GaveUp>) -> Self {
        let status = match &error {
            None => RunStatus::Succeeded,
            Some(GaveUp { error: PollError::Stopped, .. }) => RunStatus::Cancelled,
            Some(_) => RunStatus::Failed,
        };
        Self {
            entity,
            status,
            reason: error.map(|error| error.reason()),
            polled: tally.polled(),
            published: tally.published(),
            position: tally.end(),
        }
    }
}

/// A run succeeded when all of its entities did.
pub(crate) fn verdict(
    entities: &[EntityReport],
    error: Option<&GaveUp>,
) -> (RunStatus, Option<String>) {
    let of = |status| entities.iter().filter(move |entity| entity.status == status);
    if let Some(GaveUp { error: PollError::Stopped, .. }) = error {
        return (RunStatus::Cancelled, Some("stopped".to_owned()));
    }
    if let Some(error) = error {
        return (RunStatus::Failed, Some(error.reason()));
    }
    let failed: Vec<String> = of(RunStatus::Failed)
        .map(|e| format!("{}: {}", e.entity, e.reason.as_deref().unwrap_or_default()))
        .collect();
    if let Some(first) = failed.first() {
        let others = match failed.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        return (RunStatus::Failed, Some(format!("{first}{others}")));
    }
    if of(RunStatus::Cancelled).next().is_some() {
        return (RunStatus::Cancelled, Some("stopped".to_owned()));
    }
    (RunStatus::Succeeded, None)
}

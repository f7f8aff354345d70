//! What the ledger forgets, and when. Running totals are never forgotten.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long and how much each table keeps. What is older than its age goes, and of the rest, the
/// oldest beyond its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Runs that have ended, with their parts. Default 90 days.
    pub runs_age: Duration,
    /// At most so many runs. Default 100,000.
    pub runs_rows: u64,
    /// Batches, save the last of each layer, entity and epoch. Default 30 days.
    pub batches_age: Duration,
    /// At most so many batches. Default 1,000,000.
    pub batches_rows: u64,
    /// Decided records in quarantine. Default 30 days.
    pub resolved_age: Duration,
    /// Undecided records in quarantine; raw keeps the bytes. Default 365 days.
    pub quarantine_age: Duration,
    /// At most so many records in quarantine. Default 1,000,000.
    pub quarantine_rows: u64,
    /// At most so many of their bytes. Default 1 GiB.
    pub quarantine_bytes: u64,
    /// Events that were delivered. Default 1 day.
    pub delivered_age: Duration,
    /// Events that were not. Default 7 days.
    pub events_age: Duration,
    /// At most so many events. Default 100,000.
    pub events_rows: u64,
    /// Metadata that no longer hold. Default 730 days.
    pub metadata_age: Duration,
    /// At most so many versions that no longer hold. Default 100,000.
    pub metadata_rows: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            runs_age: 90 * DAY,
            runs_rows: 100_000,
            batches_age: 30 * DAY,
            batches_rows: 1_000_000,
            resolved_age: 30 * DAY,
            quarantine_age: 365 * DAY,
            quarantine_rows: 1_000_000,
            quarantine_bytes: 1 << 30,
            delivered_age: DAY,
            events_age: 7 * DAY,
            events_rows: 100_000,
            metadata_age: 730 * DAY,
            metadata_rows: 100_000,
        }
    }
}

/// How many rows were forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Runs.
    pub runs: u64,
    /// Batches.
    pub batches: u64,
    /// Records in quarantine.
    pub quarantine: u64,
    /// Events.
    pub events: u64,
    /// Versions of metadata.
    pub metadata: u64,
}

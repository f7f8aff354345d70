//! Batches and the running totals of layers.

use jiff::Timestamp;
use serde::Serialize;

use alluvium_model::{
    BatchId, Checksum, Counts, EntityId, Epoch, Layer, RowsWritten, RunId, Span, SystemName,
};

use crate::Finding;

/// Which batches to list, the latest first.
#[derive(Debug, Clone, Default)]
pub struct BatchFilter {
    /// Only this system's.
    pub system: Option<SystemName>,
    /// Only this entity's.
    pub entity: Option<EntityId>,
    /// Only this layer's.
    pub layer: Option<Layer>,
    /// Only those applied in this run.
    pub run: Option<RunId>,
    /// At most so many; 0 is 100.
    pub limit: u32,
}

/// A batch as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchRow {
    /// Its id.
    pub id: BatchId,
    /// The layer.
    pub layer: Layer,
    /// The entity.
    pub entity: EntityId,
    /// What was applied.
    pub span: Span,
    /// The run that was on when it was applied.
    pub run: Option<RunId>,
    /// When the ledger heard of it.
    pub applied_at: Timestamp,
    /// The latest publish time in it.
    pub published_at: Option<Timestamp>,
    /// What became of the records.
    pub counts: Counts,
    /// Rows written.
    pub rows: RowsWritten,
    /// Bytes written.
    pub bytes: u64,
    /// The table's version after it.
    pub version: Option<i64>,
    /// The sum over its records.
    pub checksum: Checksum,
    /// Totals since the epoch's start, this batch included.
    pub totals: Counts,
    /// The sum since the epoch's start, this batch included.
    pub total_checksum: Checksum,
    /// Whether it was taken from the lake's own totals, because the batches themselves had not
    /// reached the ledger.
    pub from_lake: bool,
}

/// The running totals of one layer of one entity in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerTotals {
    /// The layer.
    pub layer: Layer,
    /// The topic's incarnation.
    pub epoch: Epoch,
    /// The offset of the last message counted.
    pub offset: u64,
    /// Batches since the epoch's start.
    pub batches: u64,
    /// What became of all records.
    pub counts: Counts,
    /// The sum over all records.
    pub checksum: Checksum,
    /// When the last batch was counted.
    pub updated_at: Timestamp,
}

/// What was found when the ledger was held against the lake.
#[derive(Debug, Clone, PartialEq)]
pub enum Reconciled {
    /// Both tell the same.
    Equal,
    /// The lake had more: a row was written for the stretch that the ledger had not heard of.
    Filled(Span),
    /// The ledger had more: rows above the lake's offset were taken back. The lake was restored to
    /// an older state, or somebody removed data from it.
    Rewound {
        /// What the ledger counted to.
        from: u64,
        /// What the lake has.
        to: u64,
    },
    /// They are at the same offset and tell different counts or sums; nothing was altered.
    Differs(Finding),
}

//! Runs, batches, counts, leases and quarantine: the SQL database.
//!
//! Everybody speaks to the [`Ledger`] port; [`SqlLedger`] stands behind it, in SQLite or PostgreSQL.
//! [`LedgerTables`] reads the tables as they stand, for queries. What the ledger knows
//! of the lake can be derived from the lake again ([`Ledger::reconcile`]), so a write to it is never
//! in the way of an acknowledgement.

mod batch;
mod conservation;
#[cfg(feature = "testkit")]
pub mod contract;
mod error;
mod event;
mod lease;
mod metadata;
mod place;
mod port;
mod quarantine;
mod redact;
mod retention;
mod run;
mod sql;
mod time;
mod worker;

pub use batch::{BatchFilter, BatchRow, LayerTotals, Reconciled};
pub use conservation::{Finding, FindingKind};
pub use error::LedgerError;
pub use event::{BATCH_APPLIED, LEDGER_REWOUND, OutboxEvent, RUN_FINISHED};
pub use lease::{Lease, LeaseName};
pub use metadata::{MetadataEntry, MetadataKind, MetadataVersion};
pub use place::{Place, Server};
pub use port::{CursorCopy, LayerStop, Ledger};
pub use quarantine::{
    QUARANTINE_BYTES_MAX, QuarantineFilter, QuarantineRow, QuarantineStatus, Resolution,
};
pub use retention::{Retained, Retention};
pub use run::{EntityCounts, EntityStep, NewRun, RunEnd, RunFilter, RunRow, RunStatus, RunStep};
#[cfg(feature = "testkit")]
pub use sql::Hold;
pub use sql::{ColumnKind, LedgerReader, LedgerRow, LedgerTables, SqlLedger};
pub use worker::{Beat, Worker};

//! The port: what a ledger must do, whichever database stands behind it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, CursorRecord, EntityId, EntitySpec, FencingToken, Layer, Position, Quarantined, RunId,
    Span, SystemSpec,
};

use crate::{
    BatchFilter, BatchRow, Beat, EntityStep, Finding, LayerTotals, Lease, LeaseName, LedgerError,
    MetadataEntry, MetadataKind, MetadataVersion, NewRun, OutboxEvent, QuarantineFilter,
    QuarantineRow, Reconciled, Resolution, Retained, Retention, RunEnd, RunFilter, RunRow, RunStep,
    Worker,
};

/// The SQL database of runs, batches, counts, leases and quarantine.
///
/// All methods may be called concurrently, also by several processes, and may be repeated: what is
/// written twice with the same key is there once. `Ok` of a write means that other connections see
/// it; a loss of power may take back the latest writes, save leases, and [`Ledger::reconcile`] brings
/// batches back from the lake.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Opens a run. Each call opens another one.
    async fn open_run(&self, run: NewRun) -> Result<RunId, LedgerError>;

    /// Ends a run and its parts that are still open, and writes its audit event. A run that has
    /// ended already stays as it is.
    async fn finish_run(&self, run: &RunId, end: RunEnd) -> Result<(), LedgerError>;

    /// Tells how an entity fared in a run. The last word counts.
    async fn note_step(&self, step: EntityStep) -> Result<(), LedgerError>;

    /// Runs, the latest first.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, LedgerError>;

    /// One run.
    async fn run(&self, id: &RunId) -> Result<Option<RunRow>, LedgerError>;

    /// The parts of a run: by layer, then by entity.
    async fn steps(&self, run: &RunId) -> Result<Vec<RunStep>, LedgerError>;

    /// Marks runs that a crash left open as interrupted, with their parts; says how many. Those are the
    /// runs of workers that are not alive, and those of no worker: called at start by the process
    /// that alone opens runs, and by workers when one of them is gone.
    async fn interrupt_open_runs(&self, now: Timestamp) -> Result<u64, LedgerError>;

    /// Writes batches that are durable in the lake, in the order in which they were applied: their
    /// rows, quarantined records, audit events and running totals, in one transaction. A batch that
    /// was counted before counts no more. [`LedgerError::Overlap`] if one lies across the offset up
    /// to which was counted: reconcile first.
    async fn record_batches(
        &self,
        entity: &EntityId,
        batches: &[Applied],
        run: Option<&RunId>,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Keeps records that a layer could not apply in a batch that is durable in the lake and of which
    /// the ledger was not told, before [`Ledger::reconcile`] counts it. Those that are known stay as
    /// they are.
    async fn quarantine_late(
        &self,
        entity: &EntityId,
        layer: Layer,
        span: &Span,
        records: &[Quarantined],
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Holds the ledger against what the lake says of a layer, and mends the ledger. Called at start,
    /// before the layer's first batch, and after an error. `owner` is the token of the layer's lease
    /// as the caller holds it; `None` only where nobody else could write the layer. What the caller
    /// read of the lake may be old by the time it is heard: [`LedgerError::Fenced`], and nothing
    /// altered, where the lease has been granted anew since, which is looked at in the same
    /// transaction.
    async fn reconcile(
        &self,
        entity: &EntityId,
        layer: Layer,
        progress: Option<&Progress>,
        owner: Option<FencingToken>,
        at: Timestamp,
    ) -> Result<Reconciled, LedgerError>;

    /// Batches, the latest first.
    async fn batches(&self, filter: &BatchFilter) -> Result<Vec<BatchRow>, LedgerError>;

    /// Running totals of an entity, by layer and epoch.
    async fn totals(&self, entity: &EntityId) -> Result<Vec<LayerTotals>, LedgerError>;

    /// What does not add up for an entity: within batches, between batches and totals, and between
    /// layers at the highest offset at which both have a batch's end. Empty is good.
    async fn conservation(&self, entity: &EntityId) -> Result<Vec<Finding>, LedgerError>;

    /// Records in quarantine, the latest first, without their bytes.
    async fn quarantine_list(
        &self,
        filter: &QuarantineFilter,
    ) -> Result<Vec<QuarantineRow>, LedgerError>;

    /// One record with its bytes.
    async fn quarantine_get(&self, id: i64) -> Result<Option<QuarantineRow>, LedgerError>;

    /// Notes what was decided about a record. `false` if there is no such record or it was decided
    /// before.
    async fn quarantine_resolve(
        &self,
        id: i64,
        resolution: Resolution,
        at: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// How many records of each entity wait in quarantine for a decision.
    async fn quarantine_sizes(&self) -> Result<Vec<(EntityId, u64)>, LedgerError>;

    /// Takes a lease for `ttl`, or `None` while somebody else holds it. Each grant has a higher token
    /// than all before it, also where the ledger was lost meanwhile: tokens are at least the
    /// milliseconds since 1970. Also a holder that takes its own lease anew gets a new token. Time is
    /// the database's.
    async fn acquire_lease(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<FencingToken>, LedgerError>;

    /// Takes all of these leases that nobody else holds, each as [`acquire_lease`] does, in one
    /// statement where the database can.
    ///
    /// [`acquire_lease`]: Ledger::acquire_lease
    async fn acquire_leases(
        &self,
        names: &[LeaseName],
        holder: &str,
        ttl: Duration,
    ) -> Result<Vec<(LeaseName, FencingToken)>, LedgerError> {
        let mut granted = Vec::new();
        for name in names {
            let token = self.acquire_lease(name, holder, ttl).await?;
            granted.extend(token.map(|token| (name.clone(), token)));
        }
        Ok(granted)
    }

    /// Prolongs a lease to `ttl` from now. `false` if it has run out or is another's: stop at once.
    async fn renew_lease(
        &self,
        name: &LeaseName,
        token: FencingToken,
        ttl: Duration,
    ) -> Result<bool, LedgerError>;

    /// Gives a lease back. `false` if it was no longer held with this token.
    async fn release_lease(
        &self,
        name: &LeaseName,
        token: FencingToken,
    ) -> Result<bool, LedgerError>;

    /// Gives leases back, in one statement where the database can. Those that are no longer held so
    /// stay as they are.
    async fn release_leases(
        &self,
        leases: &[(LeaseName, FencingToken)],
    ) -> Result<(), LedgerError> {
        for (name, token) in leases {
            self.release_lease(name, *token).await?;
        }
        Ok(())
    }

    /// Tells that a worker is alive, for `ttl` from now, prolongs all the leases that it holds, as
    /// [`renew_lease`] does, and answers what it needs to know of the others. One transaction: who
    /// shares the work calls it every second or two.
    ///
    /// [`renew_lease`]: Ledger::renew_lease
    async fn beat(
        &self,
        worker: &Worker,
        leases: &[(LeaseName, FencingToken)],
        ttl: Duration,
    ) -> Result<Beat, LedgerError>;

    /// The worker is gone, before its time is over. None of that name being there is fine.
    async fn sign_off(&self, worker: &str) -> Result<(), LedgerError>;

    /// Asks the layers of an entity, whoever has them, not to linger up to there. It counts for a
    /// minute; who waits for longer asks again.
    async fn want(&self, entity: &EntityId, up_to: Position) -> Result<(), LedgerError>;

    /// All leases ever granted, also those that have run out.
    async fn leases(&self) -> Result<Vec<Lease>, LedgerError>;

    /// Notes that a layer has stopped for good, and why, for people; no secrets, no row values. The
    /// last word counts.
    async fn note_stop(
        &self,
        entity: &EntityId,
        layer: Layer,
        reason: &str,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// The layer is at work: it has not stopped, or no longer.
    async fn end_stop(&self, entity: &EntityId, layer: Layer) -> Result<(), LedgerError>;

    /// The layers that have stopped, by entity.
    async fn stops(&self) -> Result<Vec<LayerStop>, LedgerError>;

    /// Keeps a copy of a cursor record that is durable on the bus. An older one is ignored.
    async fn note_cursor(
        &self,
        entity: &EntityId,
        cursor: &CursorRecord,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// The copy of an entity's cursor record.
    async fn cursor(&self, entity: &EntityId) -> Result<Option<CursorRecord>, LedgerError>;

    /// All copies.
    async fn cursors(&self) -> Result<Vec<CursorCopy>, LedgerError>;

    /// Makes these the metadata that hold: what differs gets a new version, what is missing ends.
    /// Secrets are masked unless they are references.
    async fn store_metadata(
        &self,
        systems: &[SystemSpec],
        entities: &[EntitySpec],
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// The metadata that hold.
    async fn metadata(&self) -> Result<Vec<MetadataEntry>, LedgerError>;

    /// The versions of a system or an entity, the latest first.
    async fn metadata_history(
        &self,
        kind: MetadataKind,
        name: &str,
    ) -> Result<Vec<MetadataVersion>, LedgerError>;

    /// Events that wait to be delivered, the oldest first.
    async fn pending_events(&self, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError>;

    /// These events were delivered.
    async fn events_delivered(&self, ids: &[String], at: Timestamp) -> Result<(), LedgerError>;

    /// Forgets what the policy does not keep. Running totals stay.
    async fn retain(&self, policy: &Retention, now: Timestamp) -> Result<Retained, LedgerError>;

    /// What tells this ledger from every other one: the same for all who open it, as long as it is
    /// there. A copy has the same.
    async fn id(&self) -> Result<String, LedgerError>;

    /// Waits until all connections are closed, at the end of a process. Nothing is asked after it.
    async fn close(&self);
}

/// A layer that has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerStop {
    /// The entity.
    pub entity: EntityId,
    /// The layer.
    pub layer: Layer,
    /// When it stopped.
    pub stopped_at: Timestamp,
    /// Why, and what to do.
    pub reason: String,
}

/// A copy of a cursor record, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CursorCopy {
    /// The entity.
    pub entity: EntityId,
    /// What stands on the bus, or stood there.
    pub record: CursorRecord,
    /// When it was noted.
    pub noted_at: Timestamp,
}

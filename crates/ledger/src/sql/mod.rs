//! The ledger in a database: one body of statements for SQLite and PostgreSQL.
//!
//! `statement` binds and reads the few types of values there are on either engine, `database` has the
//! transactions, `sqlite` and `postgres` open them, `failure` reads their errors. The other rooms know
//! of no engine.

mod batches;
mod cursors;
mod database;
mod failure;
mod fields;
mod id;
mod leases;
mod metadata;
mod outbox;
mod postgres;
mod quarantine;
mod reconcile;
mod retention;
mod runs;
mod schema;
mod sqlite;
mod statement;
mod steps;
mod stops;
mod tables;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, Clock, CursorRecord, EntityId, EntitySpec, FencingToken, Layer, Position,
    Quarantined, RunId, Span, SystemSpec,
};

use crate::{
    BatchFilter, BatchRow, Beat, CursorCopy, EntityStep, Finding, LayerStop, LayerTotals, Lease,
    LeaseName, Ledger, LedgerError, MetadataEntry, MetadataKind, MetadataVersion, NewRun,
    OutboxEvent, Place, QuarantineFilter, QuarantineRow, Reconciled, Resolution, Retained,
    Retention, RunEnd, RunFilter, RunRow, RunStep, Worker,
};
use database::{Database, Tx};
use statement::On;

pub use tables::{ColumnKind, LedgerReader, LedgerRow, LedgerTables};

/// A ledger in a database, of SQLite or of PostgreSQL.
#[derive(Debug)]
pub struct SqlLedger {
    clock: Arc<dyn Clock>,
    database: Database,
}

impl SqlLedger {
    /// Opens the ledger, creates it if it is not there, and brings its tables up to date. Other
    /// processes may have it open. Where the database has no clock of its own, `clock` is it.
    pub async fn open(place: impl Into<Place>, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let place = place.into();
        Ok(Self { clock, database: Box::pin(Database::open(&place)).await? })
    }

    /// Lets the file grow to so many pages of 4 KiB, as a full disk would.
    #[cfg(feature = "testkit")]
    pub async fn limit_pages(&self, pages: u32) -> Result<(), LedgerError> {
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        statement::statement(limit).execute(self.writer(), "limit its size").await.map(drop)
    }

    /// Keeps everybody from writing until it is dropped, as a database that hangs.
    #[cfg(feature = "testkit")]
    pub async fn hold(&self) -> Result<Hold, LedgerError> {
        Ok(Hold { _writer: self.begin("hold it").await? })
    }

    fn readers(&self) -> On<'_> {
        self.database.readers()
    }

    fn writer(&self) -> On<'_> {
        self.database.writer()
    }

    async fn begin(&self, doing: &'static str) -> Result<Tx, LedgerError> {
        self.database.begin(doing).await
    }

    /// The time by which leases are granted.
    async fn now(&self, doing: &'static str) -> Result<Timestamp, LedgerError> {
        self.database.now(self.database.readers(), &*self.clock, doing).await
    }

    /// A transaction that is the one writer, and the time at which it became that: whoever wrote
    /// before it had an earlier one.
    async fn begin_at(&self, doing: &'static str) -> Result<(Tx, Timestamp), LedgerError> {
        let mut tx = self.begin(doing).await?;
        let now = self.database.now(&mut tx, &*self.clock, doing).await?;
        Ok((tx, now))
    }
}

/// A ledger that nobody can write.
#[cfg(feature = "testkit")]
pub struct Hold {
    _writer: Tx,
}

/// How many rows a listing gives where nobody said.
fn limit(asked: u32) -> i64 {
    if asked == 0 { 100 } else { i64::from(asked) }
}

#[async_trait]
impl Ledger for SqlLedger {
    async fn open_run(&self, run: NewRun) -> Result<RunId, LedgerError> {
        runs::open(self, run).await
    }

    async fn finish_run(&self, run: &RunId, end: RunEnd) -> Result<(), LedgerError> {
        runs::finish(self, run, end).await
    }

    async fn note_step(&self, step: EntityStep) -> Result<(), LedgerError> {
        steps::note(self, step).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, LedgerError> {
        runs::list(self, filter).await
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRow>, LedgerError> {
        runs::get(self, id).await
    }

    async fn steps(&self, run: &RunId) -> Result<Vec<RunStep>, LedgerError> {
        steps::list(self, run).await
    }

    async fn interrupt_open_runs(&self, now: Timestamp) -> Result<u64, LedgerError> {
        runs::interrupt(self, now).await
    }

    async fn record_batches(
        &self,
        entity: &EntityId,
        batches: &[Applied],
        run: Option<&RunId>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        batches::record(self, entity, batches, run, at).await
    }

    async fn quarantine_late(
        &self,
        entity: &EntityId,
        layer: Layer,
        span: &Span,
        records: &[Quarantined],
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let batch = BatchId::of(layer, entity, span);
        let from = quarantine::Origin { entity, layer, batch: &batch, run: None };
        quarantine::late(self, from, records, at).await
    }

    async fn reconcile(
        &self,
        entity: &EntityId,
        layer: Layer,
        progress: Option<&Progress>,
        owner: Option<FencingToken>,
        at: Timestamp,
    ) -> Result<Reconciled, LedgerError> {
        reconcile::reconcile(self, entity, layer, progress, owner, at).await
    }

    async fn batches(&self, filter: &BatchFilter) -> Result<Vec<BatchRow>, LedgerError> {
        batches::list(self, filter).await
    }

    async fn totals(&self, entity: &EntityId) -> Result<Vec<LayerTotals>, LedgerError> {
        batches::totals(self, entity).await
    }

    async fn conservation(&self, entity: &EntityId) -> Result<Vec<Finding>, LedgerError> {
        batches::conservation(self, entity).await
    }

    async fn quarantine_list(
        &self,
        filter: &QuarantineFilter,
    ) -> Result<Vec<QuarantineRow>, LedgerError> {
        quarantine::list(self, filter).await
    }

    async fn quarantine_get(&self, id: i64) -> Result<Option<QuarantineRow>, LedgerError> {
        quarantine::get(self, id).await
    }

    async fn quarantine_resolve(
        &self,
        id: i64,
        resolution: Resolution,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        quarantine::resolve(self, id, resolution, at).await
    }

    async fn quarantine_sizes(&self) -> Result<Vec<(EntityId, u64)>, LedgerError> {
        quarantine::sizes(self).await
    }

    async fn acquire_lease(
        &self,
        name: &LeaseName,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<FencingToken>, LedgerError> {
        leases::acquire(self, name, holder, ttl).await
    }

    async fn acquire_leases(
        &self,
        names: &[LeaseName],
        holder: &str,
        ttl: Duration,
    ) -> Result<Vec<(LeaseName, FencingToken)>, LedgerError> {
        leases::acquire_many(self, names, holder, ttl).await
    }

    async fn renew_lease(
        &self,
        name: &LeaseName,
        token: FencingToken,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        leases::renew(self, name, token, ttl).await
    }

    async fn release_lease(
        &self,
        name: &LeaseName,
        token: FencingToken,
    ) -> Result<bool, LedgerError> {
        leases::release(self, name, token).await
    }

    async fn release_leases(
        &self,
        leases: &[(LeaseName, FencingToken)],
    ) -> Result<(), LedgerError> {
        leases::release_many(self, leases).await
    }

    async fn beat(
        &self,
        worker: &Worker,
        leases: &[(LeaseName, FencingToken)],
        ttl: Duration,
    ) -> Result<Beat, LedgerError> {
        workers::beat(self, worker, leases, ttl).await
    }

    async fn sign_off(&self, worker: &str) -> Result<(), LedgerError> {
        workers::sign_off(self, worker).await
    }

    async fn want(&self, entity: &EntityId, up_to: Position) -> Result<(), LedgerError> {
        workers::want(self, entity, up_to).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, LedgerError> {
        leases::list(self).await
    }

    async fn note_stop(
        &self,
        entity: &EntityId,
        layer: Layer,
        reason: &str,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        stops::note(self, entity, layer, reason, at).await
    }

    async fn end_stop(&self, entity: &EntityId, layer: Layer) -> Result<(), LedgerError> {
        stops::end(self, entity, layer).await
    }

    async fn stops(&self) -> Result<Vec<LayerStop>, LedgerError> {
        stops::list(self).await
    }

    async fn note_cursor(
        &self,
        entity: &EntityId,
        cursor: &CursorRecord,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        cursors::note(self, entity, cursor, at).await
    }

    async fn cursor(&self, entity: &EntityId) -> Result<Option<CursorRecord>, LedgerError> {
        cursors::get(self, entity).await
    }

    async fn cursors(&self) -> Result<Vec<CursorCopy>, LedgerError> {
        cursors::list(self).await
    }

    async fn store_metadata(
        &self,
        systems: &[SystemSpec],
        entities: &[EntitySpec],
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        metadata::store(self, systems, entities, at).await
    }

    async fn metadata(&self) -> Result<Vec<MetadataEntry>, LedgerError> {
        metadata::list(self).await
    }

    async fn metadata_history(
        &self,
        kind: MetadataKind,
        name: &str,
    ) -> Result<Vec<MetadataVersion>, LedgerError> {
        metadata::history(self, kind, name).await
    }

    async fn pending_events(&self, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError> {
        outbox::pending(self, limit).await
    }

    async fn events_delivered(&self, ids: &[String], at: Timestamp) -> Result<(), LedgerError> {
        outbox::delivered(self, ids, at).await
    }

    async fn retain(&self, policy: &Retention, now: Timestamp) -> Result<Retained, LedgerError> {
        retention::retain(self, policy, now).await
    }

    async fn id(&self) -> Result<String, LedgerError> {
        id::id(self).await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

//! Quarantine.

use std::time::Duration;

use jiff::Timestamp;

use alluvium_model::{BatchId, EntityId, Layer, Position, Quarantined, RunId};

use super::fields::{Fields, signed};
use super::statement::{Row, statement};
use super::{SqlLedger, Tx, limit};
use crate::quarantine::{
    QUARANTINE_BYTES_MAX, QuarantineFilter, QuarantineRow, QuarantineStatus, Resolution,
};
use crate::{LedgerError, time};

const INSERT: &str = include_str!("../../queries/quarantine_insert.sql");
const LIST: &str = include_str!("../../queries/quarantine_list.sql");
const GET: &str = include_str!("../../queries/quarantine_get.sql");
const RESOLVE: &str = include_str!("../../queries/quarantine_resolve.sql");
const SIZES: &str = include_str!("../../queries/quarantine_sizes.sql");

/// So many records are put here in one transaction. Others write to the ledger too: a worker that
/// cannot tell in time that it is alive loses its work.
pub(super) const AT_ONCE: usize = 500;
/// For so long one transaction after the other may be written before others get a turn.
const STRETCH: Duration = Duration::from_millis(500);

/// The batch that records in quarantine come from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) entity: &'a EntityId,
    pub(super) layer: Layer,
    pub(super) batch: &'a BatchId,
    pub(super) run: Option<&'a RunId>,
}

/// Keeps the records that a batch could not apply; those known already stay as they are.
pub(super) async fn put(
    tx: &mut Tx,
    from: Origin<'_>,
    records: &[Quarantined],
    at: Timestamp,
) -> Result<(), LedgerError> {
    let Origin { entity, layer, batch, run } = from;
    for record in records {
        let size = record.bytes.len();
        let kept = &record.bytes[..size.min(QUARANTINE_BYTES_MAX)];
        statement(INSERT)
            .bind(layer.as_str())
            .bind(entity.system.as_str())
            .bind(entity.entity.as_str())
            .bind(signed(record.position.epoch.0))
            .bind(signed(record.position.offset))
            .bind(record.position.index)
            .bind(record.code.as_str())
            .bind(record.reason.as_str())
            .bind(kept)
            .bind(kept.len() < size)
            .bind(signed(size as u64))
            .bind(batch.0.as_str())
            .bind(run.map(|run| run.0.as_str()))
            .bind(time::text(at))
            .execute(&mut *tx, "quarantine a record")
            .await?;
    }
    Ok(())
}

/// Keeps records in transactions of their own.
pub(super) async fn late(
    ledger: &SqlLedger,
    from: Origin<'_>,
    records: &[Quarantined],
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "quarantine records";
    let mut since = ledger.clock.instant();
    for part in records.chunks(AT_ONCE) {
        if ledger.clock.since(since) >= STRETCH {
            ledger.database.give_way().await;
            since = ledger.clock.instant();
        }
        let mut tx = ledger.begin(DOING).await?;
        put(&mut tx, from, part, at).await?;
        tx.commit(DOING).await?;
    }
    Ok(())
}

pub(super) async fn list(
    ledger: &SqlLedger,
    filter: &QuarantineFilter,
) -> Result<Vec<QuarantineRow>, LedgerError> {
    let system = filter.entity.as_ref().map(|id| &id.system).or(filter.system.as_ref());
    statement(LIST)
        .bind(system.map(|system| system.as_str()))
        .bind(filter.entity.as_ref().map(|id| id.entity.as_str()))
        .bind(filter.status.map(QuarantineStatus::as_str))
        .bind(limit(filter.limit))
        .fetch_all(ledger.readers(), "list the quarantine")
        .await?
        .iter()
        .map(read)
        .collect()
}

pub(super) async fn get(ledger: &SqlLedger, id: i64) -> Result<Option<QuarantineRow>, LedgerError> {
    statement(GET)
        .bind(id)
        .fetch_optional(ledger.readers(), "look up a record in quarantine")
        .await?
        .as_ref()
        .map(|row| Ok(QuarantineRow { bytes: Fields(row).get("bytes")?, ..read(row)? }))
        .transpose()
}

pub(super) async fn resolve(
    ledger: &SqlLedger,
    id: i64,
    resolution: Resolution,
    at: Timestamp,
) -> Result<bool, LedgerError> {
    const DOING: &str = "note a decision about a record in quarantine";
    let done = statement(RESOLVE)
        .bind(id)
        .bind(resolution.status().as_str())
        .bind(time::text(at))
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(done > 0)
}

pub(super) async fn sizes(ledger: &SqlLedger) -> Result<Vec<(EntityId, u64)>, LedgerError> {
    statement(SIZES)
        .fetch_all(ledger.readers(), "count the quarantine")
        .await?
        .iter()
        .map(|row| {
            let row = Fields(row);
            Ok((row.entity()?, row.number("waiting")?))
        })
        .collect()
}

/// All but its bytes.
fn read(row: &Row) -> Result<QuarantineRow, LedgerError> {
    let row = Fields(row);
    Ok(QuarantineRow {
        id: row.get("id")?,
        layer: row.layer()?,
        entity: row.entity()?,
        position: Position {
            epoch: row.epoch()?,
            offset: row.number("message_offset")?,
            index: row.small("record_index")?,
        },
        code: row.get("code")?,
        reason: row.get("reason")?,
        bytes: Vec::new(),
        truncated: row.flag("truncated")?,
        size: row.number("size")?,
        batch: BatchId(row.get("batch_id")?),
        run: row.get::<Option<String>>("run_id")?.map(RunId),
        quarantined_at: row.time("quarantined_at")?,
        status: row.word("status", QuarantineStatus::parse)?,
        resolved_at: row.time_if_any("resolved_at")?,
    })
}

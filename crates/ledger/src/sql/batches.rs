//! Batches, running totals, and the check that they add up.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use jiff::Timestamp;

use alluvium_model::{
    Applied, BatchId, Checksum, Counts, EntityId, Epoch, Layer, RowsWritten, RunId, Span,
};

use super::fields::{Fields, in_order, signed};
use super::statement::{Row, statement};
use super::steps::Sums;
use super::{SqlLedger, Tx, limit, outbox, quarantine, steps};
use crate::batch::{BatchFilter, BatchRow, LayerTotals};
use crate::conservation::{BatchSums, Checker, Finding, Meeting};
use crate::{LedgerError, event, time};

const INSERT: &str = include_str!("../../queries/batch_insert.sql");
const LIST: &str = include_str!("../../queries/batch_list.sql");
const WALK: &str = include_str!("../../queries/batch_walk.sql");
const COMMON: &str = include_str!("../../queries/batch_common.sql");
const TOTAL: &str = include_str!("../../queries/total_get.sql");
const TOTALS: &str = include_str!("../../queries/total_list.sql");
const PUT_TOTAL: &str = include_str!("../../queries/total_put.sql");

const DOING: &str = "record batches";

/// Which layers are compared with which.
const PAIRS: [(Layer, Layer); 3] =
    [(Layer::Raw, Layer::Bronze), (Layer::Raw, Layer::Silver), (Layer::Bronze, Layer::Silver)];

pub(super) async fn record(
    ledger: &SqlLedger,
    entity: &EntityId,
    batches: &[Applied],
    run: Option<&RunId>,
    at: Timestamp,
) -> Result<(), LedgerError> {
    if batches.is_empty() {
        return Ok(());
    }
    // Many are kept before their batches are told: they are known by their places, so that nothing
    // comes of it where that breaks off.
    let refused: usize = batches.iter().map(|batch| batch.quarantined.len()).sum();
    let are_many = refused > quarantine::AT_ONCE;
    for applied in batches.iter().filter(|_| are_many) {
        let Applied { layer, ref batch, .. } = *applied;
        let from = quarantine::Origin { entity, layer, batch, run };
        quarantine::late(ledger, from, &applied.quarantined, at).await?;
    }
    let mut tx = ledger.begin(DOING).await?;
    let mut running: BTreeMap<(Layer, Epoch), LayerTotals> = BTreeMap::new();
    let mut sums: BTreeMap<Layer, Sums> = BTreeMap::new();
    for applied in batches {
        let Applied { layer, ref batch, .. } = *applied;
        if !are_many {
            let from = quarantine::Origin { entity, layer, batch, run };
            quarantine::put(&mut tx, from, &applied.quarantined, at).await?;
        }
        let place = (applied.layer, applied.span.epoch);
        let mut total = match running.get(&place) {
            Some(total) => *total,
            None => total_of(&mut tx, entity, place.0, place.1, at).await?,
        };
        if counts_anew(entity, applied, &total)? {
            let batch = row_of(entity, applied, run, at, &mut total);
            insert(&mut tx, &batch).await?;
            let sum = sums.entry(applied.layer).or_default();
            sum.batches += 1;
            sum.counts += applied.counts;
            sum.rows = plus(sum.rows, applied.rows);
            sum.bytes += applied.bytes;
            running.insert(place, total);
        }
    }
    for total in running.values() {
        put_total(&mut tx, entity, total).await?;
    }
    if let Some(run) = run {
        for (layer, sums) in &sums {
            steps::add(&mut tx, run, entity, *layer, sums, at).await?;
        }
    }
    tx.commit(DOING).await
}

pub(super) async fn list(
    ledger: &SqlLedger,
    filter: &BatchFilter,
) -> Result<Vec<BatchRow>, LedgerError> {
    let system = filter.entity.as_ref().map(|id| &id.system).or(filter.system.as_ref());
    statement(LIST)
        .bind(system.map(|system| system.as_str()))
        .bind(filter.entity.as_ref().map(|id| id.entity.as_str()))
        .bind(filter.layer.map(Layer::as_str))
        .bind(filter.run.as_ref().map(|run| run.0.as_str()))
        .bind(limit(filter.limit))
        .fetch_all(ledger.readers(), "list batches")
        .await?
        .iter()
        .map(read)
        .collect()
}

pub(super) async fn totals(
    ledger: &SqlLedger,
    entity: &EntityId,
) -> Result<Vec<LayerTotals>, LedgerError> {
    let mut totals: Vec<LayerTotals> = statement(TOTALS)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .fetch_all(ledger.readers(), "read running totals")
        .await?
        .iter()
        .map(read_total)
        .collect::<Result<_, _>>()?;
    totals.sort_by_key(|total| (total.layer, total.epoch));
    Ok(totals)
}

/// Reads in one transaction, so that no batch comes between the rows and their totals.
pub(super) async fn conservation(
    ledger: &SqlLedger,
    entity: &EntityId,
) -> Result<Vec<Finding>, LedgerError> {
    const DOING: &str = "check the counts";
    let mut tx = ledger.database.snapshot(DOING).await?;
    let mut checker = Checker::default();
    let mut rows = statement(WALK)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .fetch(&mut tx, DOING);
    while let Some(row) = rows.try_next().await? {
        checker.batch(&read_sums(&row)?);
    }
    drop(rows);
    let totals: Vec<LayerTotals> = statement(TOTALS)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .fetch_all(&mut tx, DOING)
        .await?
        .iter()
        .map(read_total)
        .collect::<Result<_, _>>()?;
    let mut meetings = Vec::new();
    for layers in PAIRS {
        let rows = statement(COMMON)
            .bind(entity.system.as_str())
            .bind(entity.entity.as_str())
            .bind(layers.0.as_str())
            .bind(layers.1.as_str())
            .fetch_all(&mut tx, DOING)
            .await?;
        for row in &rows {
            meetings.push(read_meeting(layers, row)?);
        }
    }
    Ok(checker.finish(&totals, &meetings))
}

/// The running totals, or zero.
pub(super) async fn total_of(
    tx: &mut Tx,
    entity: &EntityId,
    layer: Layer,
    epoch: Epoch,
    at: Timestamp,
) -> Result<LayerTotals, LedgerError> {
    let row = statement(TOTAL)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(layer.as_str())
        .bind(signed(epoch.0))
        .fetch_optional(&mut *tx, "read running totals")
        .await?;
    match row {
        Some(row) => read_total(&row),
        None => Ok(LayerTotals {
            layer,
            epoch,
            offset: 0,
            batches: 0,
            counts: Counts::default(),
            checksum: Checksum::default(),
            updated_at: at,
        }),
    }
}

/// Writes a batch's row and its audit event.
pub(super) async fn insert(tx: &mut Tx, batch: &BatchRow) -> Result<(), LedgerError> {
    let mut query = statement(INSERT)
        .bind(batch.id.0.as_str())
        .bind(batch.layer.as_str())
        .bind(batch.entity.system.as_str())
        .bind(batch.entity.entity.as_str())
        .bind(signed(batch.span.epoch.0))
        .bind(signed(batch.span.after))
        .bind(signed(batch.span.to))
        .bind(batch.run.as_ref().map(|run| run.0.as_str()))
        .bind(time::text(batch.applied_at))
        .bind(batch.published_at.map(time::text))
        .bind(batch.from_lake)
        .bind(batch.version)
        .bind(batch.checksum.to_string())
        .bind(batch.total_checksum.to_string());
    for number in in_order(&batch.counts) {
        query = query.bind(number);
    }
    let RowsWritten { opened, closed, rewritten } = batch.rows;
    for number in [opened, closed, rewritten, batch.bytes] {
        query = query.bind(signed(number));
    }
    for number in in_order(&batch.totals) {
        query = query.bind(number);
    }
    query.execute(&mut *tx, DOING).await?;
    outbox::put(tx, &event::batch_applied(batch), batch.applied_at).await
}

pub(super) async fn put_total(
    tx: &mut Tx,
    entity: &EntityId,
    total: &LayerTotals,
) -> Result<(), LedgerError> {
    let mut query = statement(PUT_TOTAL)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(total.layer.as_str())
        .bind(signed(total.epoch.0))
        .bind(signed(total.offset))
        .bind(signed(total.batches))
        .bind(total.checksum.to_string())
        .bind(time::text(total.updated_at));
    for number in in_order(&total.counts) {
        query = query.bind(number);
    }
    query.execute(&mut *tx, DOING).await?;
    Ok(())
}

pub(super) fn read(row: &Row) -> Result<BatchRow, LedgerError> {
    let sums = read_sums(row)?;
    let row = Fields(row);
    Ok(BatchRow {
        id: BatchId(row.get("batch_id")?),
        layer: sums.layer,
        entity: row.entity()?,
        span: sums.span,
        run: row.get::<Option<String>>("run_id")?.map(RunId),
        applied_at: row.time("applied_at")?,
        published_at: row.time_if_any("published_at")?,
        counts: sums.counts,
        rows: row.rows()?,
        bytes: row.number("bytes")?,
        version: row.get("table_version")?,
        checksum: sums.checksum,
        totals: sums.totals,
        total_checksum: sums.total_checksum,
        from_lake: row.flag("from_lake")?,
    })
}

/// Whether a batch is yet to be counted. A span without messages never is.
fn counts_anew(
    entity: &EntityId,
    applied: &Applied,
    total: &LayerTotals,
) -> Result<bool, LedgerError> {
    let Applied { layer, span, .. } = *applied;
    if span.to <= total.offset {
        return Ok(false);
    }
    if span.after < total.offset {
        return Err(LedgerError::Overlap { layer, entity: entity.clone(), span, at: total.offset });
    }
    Ok(true)
}

/// The batch's row; `total` moves on to include it.
fn row_of(
    entity: &EntityId,
    applied: &Applied,
    run: Option<&RunId>,
    at: Timestamp,
    total: &mut LayerTotals,
) -> BatchRow {
    total.offset = applied.span.to;
    total.batches += 1;
    total.counts += applied.counts;
    total.checksum += applied.checksum;
    total.updated_at = at;
    let published = applied.published_at_us;
    BatchRow {
        id: applied.batch.clone(),
        layer: applied.layer,
        entity: entity.clone(),
        span: applied.span,
        run: run.cloned(),
        applied_at: at,
        published_at: Timestamp::from_microsecond(published).ok().filter(|_| published > 0),
        counts: applied.counts,
        rows: applied.rows,
        bytes: applied.bytes,
        version: applied.version,
        checksum: applied.checksum,
        totals: total.counts,
        total_checksum: total.checksum,
        from_lake: false,
    }
}

fn plus(left: RowsWritten, right: RowsWritten) -> RowsWritten {
    RowsWritten {
        opened: left.opened + right.opened,
        closed: left.closed + right.closed,
        rewritten: left.rewritten + right.rewritten,
    }
}

fn read_sums(row: &Row) -> Result<BatchSums, LedgerError> {
    let row = Fields(row);
    Ok(BatchSums {
        layer: row.layer()?,
        span: Span {
            epoch: row.epoch()?,
            after: row.number("after_offset")?,
            to: row.number("to_offset")?,
        },
        counts: row.counts("")?,
        checksum: row.checksum("checksum")?,
        totals: row.counts("total_")?,
        total_checksum: row.checksum("total_checksum")?,
    })
}

fn read_total(row: &Row) -> Result<LayerTotals, LedgerError> {
    let row = Fields(row);
    Ok(LayerTotals {
        layer: row.layer()?,
        epoch: row.epoch()?,
        offset: row.number("to_offset")?,
        batches: row.number("batches")?,
        counts: row.counts("")?,
        checksum: row.checksum("checksum")?,
        updated_at: row.time("updated_at")?,
    })
}

fn read_meeting(layers: (Layer, Layer), row: &Row) -> Result<Meeting, LedgerError> {
    let row = Fields(row);
    Ok(Meeting {
        layers,
        epoch: row.epoch()?,
        offset: row.number("to_offset")?,
        records: (row.number("left_records")?, row.number("right_records")?),
        checksums: (row.checksum("left_checksum")?, row.checksum("right_checksum")?),
    })
}

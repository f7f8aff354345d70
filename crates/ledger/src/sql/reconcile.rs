//! Holds the ledger against the lake, and mends the ledger: the lake is right.

use jiff::Timestamp;

use alluvium_model::outcome::Progress;
use alluvium_model::{
    BatchId, Checksum, Counts, EntityId, Epoch, FencingToken, Layer, RowsWritten, Span,
};

use super::batches::{insert, put_total, read, total_of};
use super::fields::{Fields, signed};
use super::statement::statement;
use super::{SqlLedger, Tx, leases, outbox};
use crate::batch::{BatchRow, LayerTotals, Reconciled};
use crate::conservation::{beyond, lake_differs};
use crate::{LeaseName, LedgerError, event};

const LAST: &str = include_str!("../../queries/batch_last.sql");
const REWIND: &str = include_str!("../../queries/batch_rewind.sql");
const TOTALS: &str = include_str!("../../queries/total_list.sql");
const DROP_TOTAL: &str = include_str!("../../queries/total_drop.sql");

const DOING: &str = "hold itself against the lake";

pub(super) async fn reconcile(
    ledger: &SqlLedger,
    entity: &EntityId,
    layer: Layer,
    progress: Option<&Progress>,
    owner: Option<FencingToken>,
    at: Timestamp,
) -> Result<Reconciled, LedgerError> {
    let mut tx = ledger.begin(DOING).await?;
    if let Some(token) = owner {
        must_own(&mut tx, entity, layer, token).await?;
    }
    let outcome = match progress {
        Some(progress) => catch_up(&mut tx, entity, layer, progress, at).await?,
        None => forget(&mut tx, entity, layer, at).await?,
    };
    if let Reconciled::Rewound { from, to } = outcome {
        let event = event::ledger_rewound(entity, layer, from, to, at);
        outbox::put(&mut tx, &event, at).await?;
    }
    tx.commit(DOING).await?;
    Ok(outcome)
}

/// That the layer was granted to nobody else since. A lease that has only run out is still its last
/// holder's: whoever takes it next tells of nothing before this is done, for there is one writer.
async fn must_own(
    tx: &mut Tx,
    entity: &EntityId,
    layer: Layer,
    token: FencingToken,
) -> Result<(), LedgerError> {
    match leases::last_granted(tx, &LeaseName::layer(layer, entity)).await? {
        Some(last) if last == token => Ok(()),
        _ => Err(LedgerError::Fenced { layer, entity: entity.clone() }),
    }
}

async fn catch_up(
    tx: &mut Tx,
    entity: &EntityId,
    layer: Layer,
    lake: &Progress,
    at: Timestamp,
) -> Result<Reconciled, LedgerError> {
    let mut total = total_of(tx, entity, layer, lake.epoch, at).await?;
    let counted_to = total.offset;
    if counted_to > lake.offset {
        total = rewind(tx, entity, &total, lake.offset, at).await?;
    }
    let mut outcome = Reconciled::Equal;
    if total.offset < lake.offset {
        match beyond(layer, &total.counts, total.checksum, lake) {
            Ok((counts, checksum)) => {
                let batch = fill(entity, &total, lake, counts, checksum, at);
                insert(tx, &batch).await?;
                outcome = Reconciled::Filled(batch.span);
                total.batches += 1;
                (total.offset, total.counts, total.checksum) =
                    (lake.offset, lake.totals, lake.checksum);
            }
            Err(finding) => return Ok(Reconciled::Differs(finding)),
        }
    } else if (total.counts, total.checksum) != (lake.totals, lake.checksum) {
        let finding = lake_differs(layer, &total.counts, total.checksum, lake);
        return Ok(Reconciled::Differs(finding));
    }
    if counted_to != total.offset {
        total.updated_at = at;
        put_total(tx, entity, &total).await?;
    }
    if counted_to > lake.offset {
        outcome = Reconciled::Rewound { from: counted_to, to: lake.offset };
    }
    Ok(outcome)
}

/// The lake has nothing of the layer: neither has the ledger.
async fn forget(
    tx: &mut Tx,
    entity: &EntityId,
    layer: Layer,
    at: Timestamp,
) -> Result<Reconciled, LedgerError> {
    let rows = statement(TOTALS)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .fetch_all(&mut *tx, DOING)
        .await?;
    let mut outcome = Reconciled::Equal;
    for row in &rows {
        let row = Fields(row);
        if row.layer()? == layer {
            let total = total_of(tx, entity, layer, row.epoch()?, at).await?;
            delete_above(tx, entity, layer, total.epoch, 0).await?;
            statement(DROP_TOTAL)
                .bind(entity.system.as_str())
                .bind(entity.entity.as_str())
                .bind(layer.as_str())
                .bind(signed(total.epoch.0))
                .execute(&mut *tx, DOING)
                .await?;
            outcome = Reconciled::Rewound { from: total.offset, to: 0 };
        }
    }
    Ok(outcome)
}

/// Takes back the batches above `offset`; answers with the totals of those that are left.
async fn rewind(
    tx: &mut Tx,
    entity: &EntityId,
    total: &LayerTotals,
    offset: u64,
    at: Timestamp,
) -> Result<LayerTotals, LedgerError> {
    let removed = delete_above(tx, entity, total.layer, total.epoch, offset).await?;
    let last = statement(LAST)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(total.layer.as_str())
        .bind(signed(total.epoch.0))
        .fetch_optional(&mut *tx, DOING)
        .await?;
    let last = last.as_ref().map(read).transpose()?;
    Ok(LayerTotals {
        offset: last.as_ref().map_or(0, |batch| batch.span.to),
        batches: total.batches.saturating_sub(removed),
        counts: last.as_ref().map_or_else(Counts::default, |batch| batch.totals),
        checksum: last.as_ref().map_or_else(Checksum::default, |batch| batch.total_checksum),
        updated_at: at,
        ..*total
    })
}

async fn delete_above(
    tx: &mut Tx,
    entity: &EntityId,
    layer: Layer,
    epoch: Epoch,
    offset: u64,
) -> Result<u64, LedgerError> {
    let done = statement(REWIND)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(layer.as_str())
        .bind(signed(epoch.0))
        .bind(signed(offset))
        .execute(&mut *tx, DOING)
        .await?;
    Ok(done)
}

/// One row for the stretch of which only the lake knows.
fn fill(
    entity: &EntityId,
    total: &LayerTotals,
    lake: &Progress,
    counts: Counts,
    checksum: Checksum,
    at: Timestamp,
) -> BatchRow {
    let span = Span { epoch: lake.epoch, after: total.offset, to: lake.offset };
    BatchRow {
        id: BatchId::of(total.layer, entity, &span),
        layer: total.layer,
        entity: entity.clone(),
        span,
        run: None,
        applied_at: at,
        published_at: None,
        counts,
        rows: RowsWritten::default(),
        bytes: 0,
        version: None,
        checksum,
        totals: lake.totals,
        total_checksum: lake.checksum,
        from_lake: true,
    }
}

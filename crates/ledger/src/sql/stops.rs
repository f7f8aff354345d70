//! Layers that have stopped.

use alluvium_model::{EntityId, Layer};
use jiff::Timestamp;

use super::SqlLedger;
use super::fields::Fields;
use super::statement::{Row, statement};
use crate::port::LayerStop;
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/stop_put.sql");
const END: &str = include_str!("../../queries/stop_end.sql");
const LIST: &str = include_str!("../../queries/stop_list.sql");

pub(super) async fn note(
    ledger: &SqlLedger,
    entity: &EntityId,
    layer: Layer,
    reason: &str,
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "note that a layer stopped";
    statement(PUT)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(layer.as_str())
        .bind(time::text(at))
        .bind(reason)
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(())
}

pub(super) async fn end(
    ledger: &SqlLedger,
    entity: &EntityId,
    layer: Layer,
) -> Result<(), LedgerError> {
    const DOING: &str = "note that a layer works";
    statement(END)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(layer.as_str())
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(())
}

pub(super) async fn list(ledger: &SqlLedger) -> Result<Vec<LayerStop>, LedgerError> {
    statement(LIST)
        .fetch_all(ledger.readers(), "list the layers that stopped")
        .await?
        .iter()
        .map(read)
        .collect()
}

fn read(row: &Row) -> Result<LayerStop, LedgerError> {
    let row = Fields(row);
    Ok(LayerStop {
        entity: row.entity()?,
        layer: row.layer()?,
        stopped_at: row.time("stopped_at")?,
        reason: row.get("reason")?,
    })
}

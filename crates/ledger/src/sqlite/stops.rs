//! Layers that have stopped.

use alluvium_model::{EntityId, Layer};
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use super::SqliteLedger;
use super::failure::failed;
use super::fields::Fields;
use crate::port::LayerStop;
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/sqlite/stop_put.sql");
const END: &str = include_str!("../../queries/sqlite/stop_end.sql");
const LIST: &str = include_str!("../../queries/sqlite/stop_list.sql");

pub(super) async fn note(
    ledger: &SqliteLedger,
    entity: &EntityId,
    layer: Layer,
    reason: &str,
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "note that a layer stopped";
    sqlx::query(PUT)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(layer.as_str())
        .bind(time::text(at))
        .bind(reason)
        .execute(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    Ok(())
}

pub(super) async fn end(
    ledger: &SqliteLedger,
    entity: &EntityId,
    layer: Layer,
) -> Result<(), LedgerError> {
    const DOING: &str = "note that a layer works";
    sqlx::query(END)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(layer.as_str())
        .execute(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    Ok(())
}

pub(super) async fn list(ledger: &SqliteLedger) -> Result<Vec<LayerStop>, LedgerError> {
    sqlx::query(LIST)
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("list the layers that stopped"))?
        .iter()
        .map(read)
        .collect()
}

fn read(row: &SqliteRow) -> Result<LayerStop, LedgerError> {
    let row = Fields(row);
    Ok(LayerStop {
        entity: row.entity()?,
        layer: row.layer()?,
        stopped_at: row.time("stopped_at")?,
        reason: row.get("reason")?,
    })
}

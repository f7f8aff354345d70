//! The outbox of audit events.

use jiff::Timestamp;

use super::failure::failed;
use super::fields::Fields;
use super::{SqliteLedger, Tx, limit};
use crate::event::{NewEvent, OutboxEvent};
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/sqlite/event_put.sql");
const PENDING: &str = include_str!("../../queries/sqlite/event_pending.sql");
const DELIVERED: &str = include_str!("../../queries/sqlite/event_delivered.sql");

/// An event that is there already stays as it is.
pub(super) async fn put(tx: &mut Tx, new: &NewEvent, at: Timestamp) -> Result<(), LedgerError> {
    sqlx::query(PUT)
        .bind(&new.id)
        .bind(new.event.to_string())
        .bind(time::text(at))
        .execute(&mut **tx)
        .await
        .map_err(failed("write an audit event"))?;
    Ok(())
}

pub(super) async fn pending(
    ledger: &SqliteLedger,
    asked: u32,
) -> Result<Vec<OutboxEvent>, LedgerError> {
    sqlx::query(PENDING)
        .bind(limit(asked))
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("list pending events"))?
        .iter()
        .map(|row| {
            let row = Fields(row);
            Ok(OutboxEvent {
                id: row.get("event_id")?,
                event: row.json("event")?,
                created_at: row.time("created_at")?,
            })
        })
        .collect()
}

pub(super) async fn delivered(
    ledger: &SqliteLedger,
    ids: &[String],
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "note delivered events";
    let mut tx = ledger.begin(DOING).await?;
    for id in ids {
        sqlx::query(DELIVERED)
            .bind(id)
            .bind(time::text(at))
            .execute(&mut *tx)
            .await
            .map_err(failed(DOING))?;
    }
    tx.commit().await.map_err(failed(DOING))
}

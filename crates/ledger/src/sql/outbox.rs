//! The outbox of audit events.

use jiff::Timestamp;

use super::fields::Fields;
use super::statement::statement;
use super::{SqlLedger, Tx, limit};
use crate::event::{NewEvent, OutboxEvent};
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/event_put.sql");
const PENDING: &str = include_str!("../../queries/event_pending.sql");
const DELIVERED: &str = include_str!("../../queries/event_delivered.sql");

/// An event that is there already stays as it is.
pub(super) async fn put(tx: &mut Tx, new: &NewEvent, at: Timestamp) -> Result<(), LedgerError> {
    statement(PUT)
        .bind(new.id.as_str())
        .bind(new.event.to_string())
        .bind(time::text(at))
        .execute(&mut *tx, "write an audit event")
        .await?;
    Ok(())
}

pub(super) async fn pending(
    ledger: &SqlLedger,
    asked: u32,
) -> Result<Vec<OutboxEvent>, LedgerError> {
    statement(PENDING)
        .bind(limit(asked))
        .fetch_all(ledger.readers(), "list pending events")
        .await?
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
    ledger: &SqlLedger,
    ids: &[String],
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "note delivered events";
    let mut tx = ledger.begin(DOING).await?;
    for id in ids {
        statement(DELIVERED).bind(id.as_str()).bind(time::text(at)).execute(&mut tx, DOING).await?;
    }
    tx.commit(DOING).await
}

//! Copies of cursor records.

use jiff::Timestamp;

use alluvium_model::{Cursor, CursorRecord, EntityId, FencingToken};

use super::SqlLedger;
use super::fields::{Fields, signed};
use super::statement::{Row, statement};
use crate::port::CursorCopy;
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/cursor_put.sql");
const GET: &str = include_str!("../../queries/cursor_get.sql");
const LIST: &str = include_str!("../../queries/cursor_list.sql");

pub(super) async fn note(
    ledger: &SqlLedger,
    entity: &EntityId,
    record: &CursorRecord,
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "note a cursor";
    statement(PUT)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(signed(record.token.0))
        .bind(signed(record.page))
        .bind(record.cursor.0.to_string())
        .bind(time::text(at))
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(())
}

pub(super) async fn get(
    ledger: &SqlLedger,
    entity: &EntityId,
) -> Result<Option<CursorRecord>, LedgerError> {
    statement(GET)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .fetch_optional(ledger.readers(), "look up a cursor")
        .await?
        .as_ref()
        .map(|row| read(row).map(|copy| copy.record))
        .transpose()
}

pub(super) async fn list(ledger: &SqlLedger) -> Result<Vec<CursorCopy>, LedgerError> {
    statement(LIST).fetch_all(ledger.readers(), "list cursors").await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<CursorCopy, LedgerError> {
    let row = Fields(row);
    Ok(CursorCopy {
        entity: row.entity()?,
        record: CursorRecord {
            token: FencingToken(row.number("token")?),
            page: row.number("page")?,
            cursor: Cursor(row.json("cursor")?),
        },
        noted_at: row.time("noted_at")?,
    })
}

//! Copies of cursor records.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;

use alluvium_model::{Cursor, CursorRecord, EntityId, FencingToken};

use super::SqliteLedger;
use super::failure::failed;
use super::fields::{Fields, signed};
use crate::port::CursorCopy;
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/sqlite/cursor_put.sql");
const GET: &str = include_str!("../../queries/sqlite/cursor_get.sql");
const LIST: &str = include_str!("../../queries/sqlite/cursor_list.sql");

pub(super) async fn note(
    ledger: &SqliteLedger,
    entity: &EntityId,
    record: &CursorRecord,
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "note a cursor";
    sqlx::query(PUT)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(signed(record.token.0))
        .bind(signed(record.page))
        .bind(record.cursor.0.to_string())
        .bind(time::text(at))
        .execute(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    Ok(())
}

pub(super) async fn get(
    ledger: &SqliteLedger,
    entity: &EntityId,
) -> Result<Option<CursorRecord>, LedgerError> {
    sqlx::query(GET)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .fetch_optional(&ledger.readers)
        .await
        .map_err(failed("look up a cursor"))?
        .as_ref()
        .map(|row| read(row).map(|copy| copy.record))
        .transpose()
}

pub(super) async fn list(ledger: &SqliteLedger) -> Result<Vec<CursorCopy>, LedgerError> {
    sqlx::query(LIST)
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("list cursors"))?
        .iter()
        .map(read)
        .collect()
}

fn read(row: &SqliteRow) -> Result<CursorCopy, LedgerError> {
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

//! What tells this ledger from every other one.

use uuid::Uuid;

use super::SqlLedger;
use super::fields::Fields;
use super::statement::statement;
use crate::LedgerError;

const PUT: &str = include_str!("../../queries/id_put.sql");
const GET: &str = include_str!("../../queries/id_get.sql");

const DOING: &str = "tell its id";

/// Made by whoever asks first.
pub(super) async fn id(ledger: &SqlLedger) -> Result<String, LedgerError> {
    if let Some(id) = find(ledger).await? {
        return Ok(id);
    }
    let made = Uuid::new_v4().simple().to_string();
    statement(PUT).bind(made).execute(ledger.writer(), DOING).await?;
    let found = find(ledger).await?;
    found.ok_or_else(|| LedgerError::Corrupt("its id is gone again".to_owned()))
}

async fn find(ledger: &SqlLedger) -> Result<Option<String>, LedgerError> {
    let row = statement(GET).fetch_optional(ledger.writer(), DOING).await?;
    row.map(|row| Fields(&row).get("id")).transpose()
}

//! Leases.

use std::time::Duration;

use alluvium_model::FencingToken;

use super::SqliteLedger;
use super::failure::failed;
use super::fields::{Fields, signed};
use crate::lease::{Lease, LeaseName};
use crate::{LedgerError, time};

const ACQUIRE: &str = include_str!("../../queries/sqlite/lease_acquire.sql");
const RENEW: &str = include_str!("../../queries/sqlite/lease_renew.sql");
const RELEASE: &str = include_str!("../../queries/sqlite/lease_release.sql");
const LIST: &str = include_str!("../../queries/sqlite/lease_list.sql");

pub(super) async fn acquire(
    ledger: &SqliteLedger,
    name: &LeaseName,
    holder: &str,
    ttl: Duration,
) -> Result<Option<FencingToken>, LedgerError> {
    const DOING: &str = "grant a lease";
    let now = ledger.clock.now();
    let row = sqlx::query(ACQUIRE)
        .bind(name.as_str())
        .bind(holder)
        .bind(now.as_millisecond())
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .fetch_optional(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    row.map(|row| Fields(&row).number("token").map(FencingToken)).transpose()
}

pub(super) async fn renew(
    ledger: &SqliteLedger,
    name: &LeaseName,
    token: FencingToken,
    ttl: Duration,
) -> Result<bool, LedgerError> {
    const DOING: &str = "renew a lease";
    let now = ledger.clock.now();
    let done = sqlx::query(RENEW)
        .bind(name.as_str())
        .bind(signed(token.0))
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .execute(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn release(
    ledger: &SqliteLedger,
    name: &LeaseName,
    token: FencingToken,
) -> Result<bool, LedgerError> {
    const DOING: &str = "take a lease back";
    let done = sqlx::query(RELEASE)
        .bind(name.as_str())
        .bind(signed(token.0))
        .bind(time::text(ledger.clock.now()))
        .execute(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn list(ledger: &SqliteLedger) -> Result<Vec<Lease>, LedgerError> {
    sqlx::query(LIST)
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("list leases"))?
        .iter()
        .map(|row| {
            let row = Fields(row);
            Ok(Lease {
                name: row.get("name")?,
                holder: row.get("holder")?,
                token: FencingToken(row.number("token")?),
                expires_at: row.time("expires_at")?,
            })
        })
        .collect()
}

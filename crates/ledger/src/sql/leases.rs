//! Leases.

use std::time::Duration;

use alluvium_model::FencingToken;

use super::SqlLedger;
use super::fields::{Fields, signed};
use super::statement::statement;
use crate::lease::{Lease, LeaseName};
use crate::{LedgerError, time};

const ACQUIRE: &str = include_str!("../../queries/lease_acquire.sql");
const RENEW: &str = include_str!("../../queries/lease_renew.sql");
const RELEASE: &str = include_str!("../../queries/lease_release.sql");
const LIST: &str = include_str!("../../queries/lease_list.sql");

pub(super) async fn acquire(
    ledger: &SqlLedger,
    name: &LeaseName,
    holder: &str,
    ttl: Duration,
) -> Result<Option<FencingToken>, LedgerError> {
    const DOING: &str = "grant a lease";
    let now = ledger.now(DOING).await?;
    let row = statement(ACQUIRE)
        .bind(name.as_str())
        .bind(holder)
        .bind(now.as_millisecond())
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .fetch_optional(ledger.writer(), DOING)
        .await?;
    row.map(|row| Fields(&row).number("token").map(FencingToken)).transpose()
}

pub(super) async fn renew(
    ledger: &SqlLedger,
    name: &LeaseName,
    token: FencingToken,
    ttl: Duration,
) -> Result<bool, LedgerError> {
    const DOING: &str = "renew a lease";
    let now = ledger.now(DOING).await?;
    let done = statement(RENEW)
        .bind(name.as_str())
        .bind(signed(token.0))
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(done > 0)
}

pub(super) async fn release(
    ledger: &SqlLedger,
    name: &LeaseName,
    token: FencingToken,
) -> Result<bool, LedgerError> {
    const DOING: &str = "take a lease back";
    let now = ledger.now(DOING).await?;
    let done = statement(RELEASE)
        .bind(name.as_str())
        .bind(signed(token.0))
        .bind(time::text(now))
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(done > 0)
}

pub(super) async fn list(ledger: &SqlLedger) -> Result<Vec<Lease>, LedgerError> {
    statement(LIST)
        .fetch_all(ledger.readers(), "list leases")
        .await?
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

//! Leases.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_model::FencingToken;
use jiff::Timestamp;
use sqlx::{Executor, Sqlite};

use super::SqliteLedger;
use super::failure::failed;
use super::fields::Fields;
use crate::lease::{Lease, LeaseName};
use crate::{LedgerError, time};

const ACQUIRE: &str = include_str!("../../queries/sqlite/leases_acquire.sql");
const PROLONG: &str = include_str!("../../queries/sqlite/leases_prolong.sql");
const LIST: &str = include_str!("../../queries/sqlite/lease_list.sql");

/// Leases with the tokens that they are held with.
pub(super) type Held = [(LeaseName, FencingToken)];

pub(super) async fn acquire(
    ledger: &SqliteLedger,
    names: &[LeaseName],
    holder: &str,
    ttl: Duration,
) -> Result<Vec<(LeaseName, FencingToken)>, LedgerError> {
    const DOING: &str = "grant leases";
    let now = ledger.clock.now();
    let rows = sqlx::query(ACQUIRE)
        .bind(json(DOING, names)?)
        .bind(holder)
        .bind(now.as_millisecond())
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .fetch_all(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    let granted = rows.iter().map(|row| {
        let row = Fields(row);
        Ok((LeaseName::read(row.get("name")?), FencingToken(row.number("token")?)))
    });
    granted.collect()
}

/// Prolongs leases, and tells which were. With no time left, they are given back.
pub(super) async fn prolong(
    executor: impl Executor<'_, Database = Sqlite>,
    held: &Held,
    now: Timestamp,
    ttl: Duration,
) -> Result<BTreeSet<LeaseName>, LedgerError> {
    const DOING: &str = "prolong leases";
    let rows: Vec<String> = sqlx::query_scalar(PROLONG)
        .bind(json(DOING, held)?)
        .bind(time::text(now))
        .bind(time::text(time::after(now, ttl)))
        .fetch_all(executor)
        .await
        .map_err(failed(DOING))?;
    Ok(rows.into_iter().map(LeaseName::read).collect())
}

pub(super) async fn release(ledger: &SqliteLedger, held: &Held) -> Result<u64, LedgerError> {
    let writer = ledger.writer("take leases back")?;
    let given = prolong(writer, held, ledger.clock.now(), Duration::ZERO).await?;
    Ok(given.len() as u64)
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

fn json<T: serde::Serialize + ?Sized>(
    doing: &'static str,
    what: &T,
) -> Result<String, LedgerError> {
    serde_json::to_string(what)
        .map_err(|error| LedgerError::Bug { doing, source: sqlx::Error::Encode(Box::new(error)) })
}

//! Workers, and what they ask of each other.

use std::time::Duration;

use alluvium_model::{EntityId, Position};
use sqlx::sqlite::SqliteRow;

use super::failure::failed;
use super::fields::{Fields, signed};
use super::{SqliteLedger, Tx, leases};
use crate::worker::{Beat, Worker};
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/sqlite/worker_put.sql");
const FORGET: &str = include_str!("../../queries/sqlite/worker_forget.sql");
const LIST: &str = include_str!("../../queries/sqlite/worker_list.sql");
const REMOVE: &str = include_str!("../../queries/sqlite/worker_remove.sql");
const WANT: &str = include_str!("../../queries/sqlite/wanted_put.sql");
const WANTED: &str = include_str!("../../queries/sqlite/wanted_list.sql");
const REVISION: &str = include_str!("../../queries/sqlite/metadata_revision.sql");

const DOING: &str = "tell that a worker is alive";
/// Who waits asks again and again; what was asked for longer ago than this is waited for no more.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn beat(
    ledger: &SqliteLedger,
    worker: &Worker,
    held: &leases::Held,
    ttl: Duration,
) -> Result<Beat, LedgerError> {
    let told = serde_json::to_string(worker).map_err(|error| LedgerError::Bug {
        doing: DOING,
        source: sqlx::Error::Encode(Box::new(error)),
    })?;
    let now = ledger.clock.now();
    let mut tx = ledger.begin(DOING).await?;
    let put = sqlx::query(PUT).bind(&worker.id).bind(told);
    put.bind(time::text(time::after(now, ttl))).execute(&mut *tx).await.map_err(failed(DOING))?;
    let forget = sqlx::query(FORGET).bind(time::text(now));
    forget.execute(&mut *tx).await.map_err(failed(DOING))?;
    let prolonged = leases::prolong(&mut *tx, held, now, ttl).await?;
    let lost = held.iter().map(|(name, _)| name).filter(|name| !prolonged.contains(name));
    let beat = Beat {
        lost: lost.cloned().collect(),
        workers: alive(&mut tx, &time::text(now)).await?,
        wanted: wanted(&mut tx, &time::text(time::before(now, PATIENCE))).await?,
        revision: revision(&mut tx).await?,
    };
    tx.commit().await.map_err(failed(DOING))?;
    Ok(beat)
}

pub(super) async fn sign_off(ledger: &SqliteLedger, id: &str) -> Result<(), LedgerError> {
    const DOING: &str = "tell that a worker is gone";
    let removed = sqlx::query(REMOVE).bind(id).execute(ledger.writer(DOING)?).await;
    removed.map(drop).map_err(failed(DOING))
}

pub(super) async fn want(
    ledger: &SqliteLedger,
    entity: &EntityId,
    up_to: Position,
) -> Result<(), LedgerError> {
    const DOING: &str = "ask layers not to linger";
    let asked = sqlx::query(WANT)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(signed(up_to.epoch.0))
        .bind(signed(up_to.offset))
        .bind(time::text(ledger.clock.now()))
        .execute(ledger.writer(DOING)?)
        .await;
    asked.map(drop).map_err(failed(DOING))
}

async fn alive(tx: &mut Tx, now: &str) -> Result<Vec<Worker>, LedgerError> {
    let rows = sqlx::query(LIST).bind(now).fetch_all(&mut **tx).await.map_err(failed(DOING))?;
    let read = |row: &SqliteRow| -> Result<Option<Worker>, LedgerError> {
        let told: &str = Fields(row).get("told")?;
        // One of a newer release may tell what this one does not understand.
        Ok(serde_json::from_str(told).ok())
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}

async fn wanted(tx: &mut Tx, since: &str) -> Result<Vec<(EntityId, Position)>, LedgerError> {
    let rows = sqlx::query(WANTED).bind(since).fetch_all(&mut **tx).await.map_err(failed(DOING))?;
    let read = |row: &SqliteRow| {
        let row = Fields(row);
        let position = Position { epoch: row.epoch()?, offset: row.number("up_to")?, index: 0 };
        Ok((row.entity()?, position))
    };
    rows.iter().map(read).collect()
}

async fn revision(tx: &mut Tx) -> Result<u64, LedgerError> {
    let row = sqlx::query(REVISION).fetch_one(&mut **tx).await.map_err(failed(DOING))?;
    Fields(&row).number("revision")
}

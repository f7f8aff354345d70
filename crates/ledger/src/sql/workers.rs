//! Workers, and what they ask of each other.

use std::time::Duration;

use alluvium_model::{EntityId, Position};
use jiff::Timestamp;

use super::fields::{Fields, signed};
use super::statement::{Row, statement};
use super::{SqlLedger, Tx, leases};
use crate::worker::{Beat, Worker};
use crate::{LedgerError, time};

const PUT: &str = include_str!("../../queries/worker_put.sql");
const FORGET: &str = include_str!("../../queries/worker_forget.sql");
const LIST: &str = include_str!("../../queries/worker_list.sql");
const REMOVE: &str = include_str!("../../queries/worker_remove.sql");
const WANT: &str = include_str!("../../queries/wanted_put.sql");
const WANTED: &str = include_str!("../../queries/wanted_list.sql");
const REVISION: &str = include_str!("../../queries/metadata_revision.sql");

const DOING: &str = "tell that a worker is alive";
/// Who waits asks again and again; what was asked for longer ago than this is waited for no more.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn beat(
    ledger: &SqlLedger,
    worker: &Worker,
    held: &leases::Held,
    ttl: Duration,
) -> Result<Beat, LedgerError> {
    let told = serde_json::to_string(worker).map_err(|error| LedgerError::Bug {
        doing: DOING,
        source: sqlx::Error::Encode(Box::new(error)),
    })?;
    let (mut tx, now) = ledger.begin_at(DOING).await?;
    let until = time::after(now, ttl);
    let put = statement(PUT).bind(worker.id.as_str()).bind(told);
    put.bind(time::text(until)).execute(&mut tx, DOING).await?;
    statement(FORGET).bind(time::text(now)).execute(&mut tx, DOING).await?;
    let prolonged = leases::prolong_many(&mut tx, held, now, until).await?;
    let lost = held.iter().map(|(name, _)| name).filter(|name| !prolonged.contains(name));
    let beat = Beat {
        lost: lost.cloned().collect(),
        workers: alive(&mut tx, now).await?,
        wanted: wanted(&mut tx, time::before(now, PATIENCE)).await?,
        revision: revision(&mut tx).await?,
    };
    tx.commit(DOING).await?;
    Ok(beat)
}

pub(super) async fn sign_off(ledger: &SqlLedger, id: &str) -> Result<(), LedgerError> {
    const DOING: &str = "tell that a worker is gone";
    statement(REMOVE).bind(id).execute(ledger.writer(), DOING).await.map(drop)
}

pub(super) async fn want(
    ledger: &SqlLedger,
    entity: &EntityId,
    up_to: Position,
) -> Result<(), LedgerError> {
    const DOING: &str = "ask layers not to linger";
    let now = ledger.now(DOING).await?;
    let want = statement(WANT)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .bind(signed(up_to.epoch.0))
        .bind(signed(up_to.offset))
        .bind(time::text(now));
    want.execute(ledger.writer(), DOING).await.map(drop)
}

async fn alive(tx: &mut Tx, now: Timestamp) -> Result<Vec<Worker>, LedgerError> {
    let rows = statement(LIST).bind(time::text(now)).fetch_all(&mut *tx, DOING).await?;
    let mut workers = Vec::new();
    for row in &rows {
        let told: &str = Fields(row).get("told")?;
        // One of a newer release may tell what this one does not understand.
        workers.extend(serde_json::from_str::<Worker>(told).ok());
    }
    Ok(workers)
}

async fn wanted(tx: &mut Tx, since: Timestamp) -> Result<Vec<(EntityId, Position)>, LedgerError> {
    let rows = statement(WANTED).bind(time::text(since)).fetch_all(&mut *tx, DOING).await?;
    let read = |row: &Row| {
        let row = Fields(row);
        let position = Position { epoch: row.epoch()?, offset: row.number("up_to")?, index: 0 };
        Ok((row.entity()?, position))
    };
    rows.iter().map(read).collect()
}

async fn revision(tx: &mut Tx) -> Result<u64, LedgerError> {
    let row = statement(REVISION).fetch_optional(&mut *tx, DOING).await?;
    row.map_or(Ok(0), |row| Fields(&row).number("revision"))
}

//! The parts of runs: layers of systems, and entities in layers.

use jiff::Timestamp;
use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use alluvium_model::{Counts, EntityId, Layer, RowsWritten, RunId};

use super::failure::failed;
use super::fields::{Fields, SOURCE, in_order, signed};
use super::{SqliteLedger, Tx};
use crate::run::{EntityStep, RunStatus, RunStep};
use crate::{LedgerError, time};

const ADD_LAYER: &str = include_str!("../../queries/sqlite/layer_add.sql");
const ADD_ENTITY: &str = include_str!("../../queries/sqlite/entity_add.sql");
const NOTE_LAYER: &str = include_str!("../../queries/sqlite/layer_note.sql");
const NOTE_ENTITY: &str = include_str!("../../queries/sqlite/entity_note.sql");
const SUM_SOURCE: &str = include_str!("../../queries/sqlite/layer_sum_source.sql");
const LIST: &str = include_str!("../../queries/sqlite/step_list.sql");

/// What a call's batches add to the parts of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) batches: u64,
    pub(super) counts: Counts,
    pub(super) rows: RowsWritten,
    pub(super) bytes: u64,
}

pub(super) async fn note(ledger: &SqliteLedger, step: EntityStep) -> Result<(), LedgerError> {
    const DOING: &str = "note how an entity fared";
    let layer = step.layer.map_or(SOURCE, Layer::as_str);
    let mut tx = ledger.begin(DOING).await?;
    sqlx::query(NOTE_LAYER)
        .bind(&step.run.0)
        .bind(layer)
        .bind(step.status.as_str())
        .bind(&step.reason)
        .bind(time::text(step.at))
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
    sqlx::query(NOTE_ENTITY)
        .bind(&step.run.0)
        .bind(layer)
        .bind(step.entity.system.as_str())
        .bind(step.entity.entity.as_str())
        .bind(step.status.as_str())
        .bind(&step.reason)
        .bind(time::text(step.at))
        .bind(signed(step.records))
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
    sqlx::query(SUM_SOURCE).bind(&step.run.0).execute(&mut *tx).await.map_err(failed(DOING))?;
    tx.commit().await.map_err(failed(DOING))
}

pub(super) async fn add(
    tx: &mut Tx,
    run: &RunId,
    entity: &EntityId,
    layer: Layer,
    sums: &Sums,
    at: Timestamp,
) -> Result<(), LedgerError> {
    const DOING: &str = "count a run's batches";
    bind(sqlx::query(ADD_LAYER), run, layer, sums, at)
        .execute(&mut **tx)
        .await
        .map_err(failed(DOING))?;
    bind(sqlx::query(ADD_ENTITY), run, layer, sums, at)
        .bind(entity.system.to_string())
        .bind(entity.entity.to_string())
        .execute(&mut **tx)
        .await
        .map_err(failed(DOING))?;
    Ok(())
}

pub(super) async fn list(ledger: &SqliteLedger, run: &RunId) -> Result<Vec<RunStep>, LedgerError> {
    sqlx::query(LIST)
        .bind(&run.0)
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("list the parts of a run"))?
        .iter()
        .map(read)
        .collect()
}

fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    run: &RunId,
    layer: Layer,
    sums: &Sums,
    at: Timestamp,
) -> Query<'q, Sqlite, SqliteArguments> {
    let mut query = query
        .bind(run.0.clone())
        .bind(layer.as_str())
        .bind(time::text(at))
        .bind(signed(sums.batches));
    for number in in_order(&sums.counts) {
        query = query.bind(number);
    }
    let RowsWritten { opened, closed, rewritten } = sums.rows;
    for number in [opened, closed, rewritten, sums.bytes] {
        query = query.bind(signed(number));
    }
    query
}

fn read(row: &SqliteRow) -> Result<RunStep, LedgerError> {
    let row = Fields(row);
    let of_entity = row.get::<Option<&str>>("entity")?.is_some();
    Ok(RunStep {
        run: RunId(row.get("run_id")?),
        entity: if of_entity { Some(row.entity()?) } else { None },
        layer: row.layer_or_source()?,
        status: row.word("status", RunStatus::parse)?,
        reason: row.get("reason")?,
        started_at: row.time("started_at")?,
        ended_at: row.time_if_any("ended_at")?,
        batches: row.number("batches")?,
        counts: row.counts("")?,
        rows: row.rows()?,
        bytes: row.number("bytes")?,
    })
}

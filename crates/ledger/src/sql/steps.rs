//! The parts of runs: layers of systems, and entities in layers.

use jiff::Timestamp;

use alluvium_model::{Counts, EntityId, Layer, RowsWritten, RunId};

use super::fields::{Fields, SOURCE, in_order, signed};
use super::statement::{Row, Statement, statement};
use super::{SqlLedger, Tx};
use crate::run::{EntityStep, RunStatus, RunStep};
use crate::{LedgerError, time};

const ADD_LAYER: &str = include_str!("../../queries/layer_add.sql");
const ADD_ENTITY: &str = include_str!("../../queries/entity_add.sql");
const NOTE_LAYER: &str = include_str!("../../queries/layer_note.sql");
const NOTE_ENTITY: &str = include_str!("../../queries/entity_note.sql");
const SUM_SOURCE: &str = include_str!("../../queries/layer_sum_source.sql");
const LIST: &str = include_str!("../../queries/step_list.sql");

/// What a call's batches add to the parts of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) batches: u64,
    pub(super) counts: Counts,
    pub(super) rows: RowsWritten,
    pub(super) bytes: u64,
}

pub(super) async fn note(ledger: &SqlLedger, step: EntityStep) -> Result<(), LedgerError> {
    const DOING: &str = "note how an entity fared";
    let layer = step.layer.map_or(SOURCE, Layer::as_str);
    let mut tx = ledger.begin(DOING).await?;
    statement(NOTE_LAYER)
        .bind(step.run.0.as_str())
        .bind(layer)
        .bind(step.status.as_str())
        .bind(step.reason.as_deref())
        .bind(time::text(step.at))
        .execute(&mut tx, DOING)
        .await?;
    statement(NOTE_ENTITY)
        .bind(step.run.0.as_str())
        .bind(layer)
        .bind(step.entity.system.as_str())
        .bind(step.entity.entity.as_str())
        .bind(step.status.as_str())
        .bind(step.reason.as_deref())
        .bind(time::text(step.at))
        .bind(signed(step.records))
        .execute(&mut tx, DOING)
        .await?;
    statement(SUM_SOURCE).bind(step.run.0.as_str()).execute(&mut tx, DOING).await?;
    tx.commit(DOING).await
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
    bind(statement(ADD_LAYER), run, layer, sums, at).execute(&mut *tx, DOING).await?;
    bind(statement(ADD_ENTITY), run, layer, sums, at)
        .bind(entity.system.as_str())
        .bind(entity.entity.as_str())
        .execute(&mut *tx, DOING)
        .await?;
    Ok(())
}

pub(super) async fn list(ledger: &SqlLedger, run: &RunId) -> Result<Vec<RunStep>, LedgerError> {
    statement(LIST)
        .bind(run.0.as_str())
        .fetch_all(ledger.readers(), "list the parts of a run")
        .await?
        .iter()
        .map(read)
        .collect()
}

fn bind(query: Statement, run: &RunId, layer: Layer, sums: &Sums, at: Timestamp) -> Statement {
    let mut query = query
        .bind(run.0.as_str())
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

fn read(row: &Row) -> Result<RunStep, LedgerError> {
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

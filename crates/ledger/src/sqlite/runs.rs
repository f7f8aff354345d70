//! Runs.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use uuid::{Builder, Uuid};

use alluvium_model::RunId;

use super::failure::failed;
use super::fields::{Fields, signed};
use super::{SqliteLedger, limit, outbox};
use crate::event::run_finished;
use crate::run::{EntityCounts, NewRun, RunEnd, RunFilter, RunRow, RunStatus};
use crate::{LedgerError, time};

const OPEN: &str = include_str!("../../queries/sqlite/run_open.sql");
const FINISH: &str = include_str!("../../queries/sqlite/run_finish.sql");
const LIST: &str = include_str!("../../queries/sqlite/run_list.sql");
const GET: &str = include_str!("../../queries/sqlite/run_get.sql");
const INTERRUPT: &str = include_str!("../../queries/sqlite/run_interrupt.sql");
const CLOSE_PARTS: [&str; 2] = [
    include_str!("../../queries/sqlite/layers_close.sql"),
    include_str!("../../queries/sqlite/entities_close.sql"),
];
const INTERRUPT_PARTS: [&str; 2] = [
    include_str!("../../queries/sqlite/layers_interrupt.sql"),
    include_str!("../../queries/sqlite/entities_interrupt.sql"),
];

pub(super) async fn open(ledger: &SqliteLedger, run: NewRun) -> Result<RunId, LedgerError> {
    const DOING: &str = "open a run";
    let id = new_id(run.started_at);
    sqlx::query(OPEN)
        .bind(&id.0)
        .bind(run.system.as_str())
        .bind(&run.trigger)
        .bind(time::text(run.started_at))
        .bind(&run.traceparent)
        .bind(&run.worker)
        .execute(ledger.writer(DOING)?)
        .await
        .map_err(failed(DOING))?;
    Ok(id)
}

pub(super) async fn finish(
    ledger: &SqliteLedger,
    run: &RunId,
    end: RunEnd,
) -> Result<(), LedgerError> {
    const DOING: &str = "end a run";
    let ended_at = time::text(end.ended_at);
    let mut tx = ledger.begin(DOING).await?;
    let row = sqlx::query(FINISH)
        .bind(&run.0)
        .bind(end.status.as_str())
        .bind(&end.reason)
        .bind(&ended_at)
        .bind(signed(end.entities.succeeded))
        .bind(signed(end.entities.failed))
        .bind(signed(end.entities.skipped))
        .bind(signed(end.polled))
        .bind(signed(end.published))
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed(DOING))?;
    let Some(row) = row else { return Ok(()) };
    for close in CLOSE_PARTS {
        sqlx::query(close)
            .bind(&run.0)
            .bind(end.status.as_str())
            .bind(&ended_at)
            .execute(&mut *tx)
            .await
            .map_err(failed(DOING))?;
    }
    let row = Fields(&row);
    let event = run_finished(run, row.get("system")?, row.get("trigger")?, &end);
    outbox::put(&mut tx, &event, end.ended_at).await?;
    tx.commit().await.map_err(failed(DOING))
}

pub(super) async fn list(
    ledger: &SqliteLedger,
    filter: &RunFilter,
) -> Result<Vec<RunRow>, LedgerError> {
    sqlx::query(LIST)
        .bind(filter.system.as_ref().map(|system| system.as_str()))
        .bind(filter.status.map(RunStatus::as_str))
        .bind(limit(filter.limit))
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("list runs"))?
        .iter()
        .map(read)
        .collect()
}

pub(super) async fn get(ledger: &SqliteLedger, id: &RunId) -> Result<Option<RunRow>, LedgerError> {
    sqlx::query(GET)
        .bind(&id.0)
        .fetch_optional(&ledger.readers)
        .await
        .map_err(failed("look up a run"))?
        .as_ref()
        .map(read)
        .transpose()
}

pub(super) async fn interrupt(ledger: &SqliteLedger, now: Timestamp) -> Result<u64, LedgerError> {
    const DOING: &str = "mark interrupted runs";
    let mut tx = ledger.begin(DOING).await?;
    let interrupted = sqlx::query(INTERRUPT)
        .bind(time::text(now))
        .bind(time::text(ledger.clock.now()))
        .execute(&mut *tx)
        .await
        .map_err(failed(DOING))?;
    for statement in INTERRUPT_PARTS {
        sqlx::query(statement)
            .bind(time::text(now))
            .execute(&mut *tx)
            .await
            .map_err(failed(DOING))?;
    }
    tx.commit().await.map_err(failed(DOING))?;
    Ok(interrupted.rows_affected())
}

fn read(row: &SqliteRow) -> Result<RunRow, LedgerError> {
    let row = Fields(row);
    Ok(RunRow {
        id: RunId(row.get("run_id")?),
        system: row.parsed("system")?,
        trigger: row.get("trigger")?,
        status: row.word("status", RunStatus::parse)?,
        reason: row.get("reason")?,
        started_at: row.time("started_at")?,
        ended_at: row.time_if_any("ended_at")?,
        traceparent: row.get("traceparent")?,
        entities: EntityCounts {
            succeeded: row.number("entities_succeeded")?,
            failed: row.number("entities_failed")?,
            skipped: row.number("entities_skipped")?,
        },
        polled: row.number("polled")?,
        published: row.number("published")?,
    })
}

/// A UUID of version 7: milliseconds, then the rest of the microseconds, then randomness, so that
/// ids sort by time.
fn new_id(at: Timestamp) -> RunId {
    let micros = u64::try_from(at.as_microsecond()).unwrap_or_default();
    let mut rest = [0; 10];
    rest.copy_from_slice(&Uuid::new_v4().as_bytes()[6..]);
    let [high, low] = u16::try_from(micros % 1000).unwrap_or_default().to_be_bytes();
    (rest[0], rest[1]) = (high, low);
    RunId(Builder::from_unix_timestamp_millis(micros / 1000, &rest).into_uuid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_runs_sort_by_their_start_to_the_microsecond() {
        let at = |micros: i64| Timestamp::from_microsecond(1_800_000_000_000_000 + micros).unwrap();
        let ids: Vec<String> = [0i64, 1, 2, 999, 1000, 1001].map(|m| new_id(at(m)).0).into();
        assert!(ids.is_sorted(), "{ids:?}");
        assert_ne!(new_id(at(0)), new_id(at(0)));
    }
}

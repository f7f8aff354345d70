//! Runs.

use jiff::Timestamp;
use uuid::{Builder, Uuid};

use alluvium_model::RunId;

use super::fields::{Fields, signed};
use super::statement::{Row, statement};
use super::{SqlLedger, limit, outbox};
use crate::event::run_finished;
use crate::run::{EntityCounts, NewRun, RunEnd, RunFilter, RunRow, RunStatus};
use crate::{LedgerError, time};

const OPEN: &str = include_str!("../../queries/run_open.sql");
const FINISH: &str = include_str!("../../queries/run_finish.sql");
const LIST: &str = include_str!("../../queries/run_list.sql");
const GET: &str = include_str!("../../queries/run_get.sql");
const INTERRUPT: &str = include_str!("../../queries/run_interrupt.sql");
const CLOSE_PARTS: [&str; 2] = [
    include_str!("../../queries/layers_close.sql"),
    include_str!("../../queries/entities_close.sql"),
];
const INTERRUPT_PARTS: [&str; 2] = [
    include_str!("../../queries/layers_interrupt.sql"),
    include_str!("../../queries/entities_interrupt.sql"),
];

pub(super) async fn open(ledger: &SqlLedger, run: NewRun) -> Result<RunId, LedgerError> {
    const DOING: &str = "open a run";
    let id = new_id(run.started_at);
    statement(OPEN)
        .bind(id.0.as_str())
        .bind(run.system.as_str())
        .bind(run.trigger.as_str())
        .bind(time::text(run.started_at))
        .bind(run.traceparent)
        .bind(run.worker)
        .execute(ledger.writer(), DOING)
        .await?;
    Ok(id)
}

pub(super) async fn finish(
    ledger: &SqlLedger,
    run: &RunId,
    end: RunEnd,
) -> Result<(), LedgerError> {
    const DOING: &str = "end a run";
    let ended_at = time::text(end.ended_at);
    let mut tx = ledger.begin(DOING).await?;
    let row = statement(FINISH)
        .bind(run.0.as_str())
        .bind(end.status.as_str())
        .bind(end.reason.as_deref())
        .bind(ended_at.as_str())
        .bind(signed(end.entities.succeeded))
        .bind(signed(end.entities.failed))
        .bind(signed(end.entities.skipped))
        .bind(signed(end.polled))
        .bind(signed(end.published))
        .fetch_optional(&mut tx, DOING)
        .await?;
    let Some(row) = row else { return Ok(()) };
    for close in CLOSE_PARTS {
        statement(close)
            .bind(run.0.as_str())
            .bind(end.status.as_str())
            .bind(ended_at.as_str())
            .execute(&mut tx, DOING)
            .await?;
    }
    let row = Fields(&row);
    let event = run_finished(run, row.get("system")?, row.get("trigger")?, &end);
    outbox::put(&mut tx, &event, end.ended_at).await?;
    tx.commit(DOING).await
}

pub(super) async fn list(
    ledger: &SqlLedger,
    filter: &RunFilter,
) -> Result<Vec<RunRow>, LedgerError> {
    statement(LIST)
        .bind(filter.system.as_ref().map(|system| system.as_str()))
        .bind(filter.status.map(RunStatus::as_str))
        .bind(limit(filter.limit))
        .fetch_all(ledger.readers(), "list runs")
        .await?
        .iter()
        .map(read)
        .collect()
}

pub(super) async fn get(ledger: &SqlLedger, id: &RunId) -> Result<Option<RunRow>, LedgerError> {
    statement(GET)
        .bind(id.0.as_str())
        .fetch_optional(ledger.readers(), "look up a run")
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

pub(super) async fn interrupt(ledger: &SqlLedger, now: Timestamp) -> Result<u64, LedgerError> {
    const DOING: &str = "mark interrupted runs";
    let alive_at = time::text(ledger.now(DOING).await?);
    let mut tx = ledger.begin(DOING).await?;
    let interrupt = statement(INTERRUPT).bind(time::text(now)).bind(alive_at);
    let found = interrupt.execute(&mut tx, DOING).await?;
    for sql in INTERRUPT_PARTS {
        statement(sql).bind(time::text(now)).execute(&mut tx, DOING).await?;
    }
    tx.commit(DOING).await?;
    Ok(found)
}

fn read(row: &Row) -> Result<RunRow, LedgerError> {
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

//! Forgetting.

use jiff::Timestamp;

use super::SqlLedger;
use super::fields::signed;
use super::statement::{Statement, statement};
use crate::retention::{Retained, Retention};
use crate::{LedgerError, time};

const RUNS: &str = include_str!("../../queries/retain_runs.sql");
const BATCHES: &str = include_str!("../../queries/retain_batches.sql");
const QUARANTINE: &str = include_str!("../../queries/retain_quarantine.sql");
const EVENTS: &str = include_str!("../../queries/retain_events.sql");
const METADATA: &str = include_str!("../../queries/retain_metadata.sql");

/// Table by table, each in its own transaction, so that writers need not wait for all of it.
pub(super) async fn retain(
    ledger: &SqlLedger,
    policy: &Retention,
    now: Timestamp,
) -> Result<Retained, LedgerError> {
    let ago = |age| time::text(time::before(now, age));
    let mut done = Retained::default();
    let runs = statement(RUNS).bind(ago(policy.runs_age)).bind(signed(policy.runs_rows));
    done.runs = run(ledger, runs).await?;
    let batches =
        statement(BATCHES).bind(ago(policy.batches_age)).bind(signed(policy.batches_rows));
    done.batches = run(ledger, batches).await?;
    let quarantine = statement(QUARANTINE)
        .bind(ago(policy.resolved_age))
        .bind(ago(policy.quarantine_age))
        .bind(signed(policy.quarantine_rows))
        .bind(signed(policy.quarantine_bytes));
    done.quarantine = run(ledger, quarantine).await?;
    let events = statement(EVENTS)
        .bind(ago(policy.delivered_age))
        .bind(ago(policy.events_age))
        .bind(signed(policy.events_rows));
    done.events = run(ledger, events).await?;
    let metadata =
        statement(METADATA).bind(ago(policy.metadata_age)).bind(signed(policy.metadata_rows));
    done.metadata = run(ledger, metadata).await?;
    Ok(done)
}

async fn run(ledger: &SqlLedger, forgetting: Statement) -> Result<u64, LedgerError> {
    const DOING: &str = "forget what is old";
    let mut tx = ledger.database.begin_long(DOING).await?;
    let forgotten = forgetting.execute(&mut tx, DOING).await?;
    tx.commit(DOING).await?;
    Ok(forgotten)
}

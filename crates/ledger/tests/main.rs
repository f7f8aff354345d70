//! The contract suite against each database, and what is particular to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step ends the test")]

mod postgres;
mod sqlite;

use std::sync::Arc;

use alluvium_ledger::{Ledger, LedgerReader, NewRun, RunFilter, SqlLedger};
use alluvium_model::Layer;
use alluvium_model::clock::ManualClock;
use futures::TryStreamExt;
use jiff::Timestamp;

/// Takes a ledger back to the first release's tables.
const TO_THE_FIRST: &str = "DROP TABLE layer_stop; DROP TABLE worker; DROP TABLE wanted; \
    DROP TABLE metadata_revision; DROP TABLE ledger_id; ALTER TABLE system_run DROP COLUMN worker; \
    DELETE FROM _sqlx_migrations WHERE version > 1;";

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()))
}

fn new_run(seconds: i64) -> NewRun {
    NewRun {
        system: "shop".parse().unwrap(),
        trigger: "manual".to_owned(),
        started_at: Timestamp::from_second(1_800_000_000 + seconds).unwrap(),
        traceparent: None,
        worker: None,
    }
}

/// Whether it has what was written before, and the tables that came since.
async fn is_up_to_date(ledger: &SqlLedger) {
    assert_eq!(ledger.runs(&RunFilter::default()).await.unwrap().len(), 1);
    let (entity, at) = ("shop.orders".parse().unwrap(), Timestamp::UNIX_EPOCH);
    ledger.note_stop(&entity, Layer::Raw, "it was told to\0", at).await.unwrap();
    let reasons: Vec<String> =
        ledger.stops().await.unwrap().into_iter().map(|stop| stop.reason).collect();
    assert_eq!(reasons, ["it was told to\u{fffd}"], "PostgreSQL holds no NUL");
}

/// The ids of the runs.
async fn runs(reader: &mut LedgerReader) -> Vec<String> {
    let mut rows = reader.rows("system_run", &["polled", "run_id"], Some(10));
    let mut ids = Vec::new();
    while let Some(row) = rows.try_next().await.unwrap() {
        assert_eq!(row.number(0).unwrap(), Some(0));
        ids.push(row.text(1).unwrap().unwrap().to_owned());
    }
    ids
}

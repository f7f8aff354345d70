//! The contract suite against SQLite, and what is particular to a file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium_ledger::contract::{self, DatabaseTime, Fixture, Given};
use alluvium_ledger::{Ledger, LedgerError, LedgerTables, RunFilter, SqlLedger};
use alluvium_model::clock::ManualClock;
use alluvium_model::{Clock, SystemSpec};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use crate::{TO_THE_FIRST, clock, is_up_to_date, new_run, runs};

async fn open(path: &Path) -> SqlLedger {
    SqlLedger::open(path, clock()).await.unwrap()
}

struct Files {
    folder: TempDir,
    next: Mutex<u32>,
}

impl Files {
    fn path(&self) -> PathBuf {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        self.folder.path().join(format!("{next}.db"))
    }
}

struct Hands(Arc<ManualClock>);

#[async_trait]
impl DatabaseTime for Hands {
    async fn pass(&self, by: Duration) {
        self.0.advance(by);
    }
}

#[async_trait]
impl Fixture for Files {
    async fn given(&self) -> Given {
        let (clock, path) = (clock(), self.path());
        let open = async || Arc::new(SqlLedger::open(&path, clock.clone()).await.unwrap());
        Given { ledger: open().await, other: open().await, time: Box::new(Hands(clock)) }
    }
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let files = Files { folder: TempDir::new().unwrap(), next: Mutex::default() };
    Box::pin(contract::all(&files)).await;
}

/// A clock by which much time passes between two looks.
#[derive(Debug)]
struct Running(Arc<ManualClock>);

impl Clock for Running {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn instant(&self) -> Instant {
        self.0.advance(Duration::from_secs(1));
        self.0.instant()
    }
}

/// Files of processes whose time runs.
struct Hurried(Files);

#[async_trait]
impl Fixture for Hurried {
    async fn given(&self) -> Given {
        let (clock, path) = (clock(), self.0.path());
        let running = Arc::new(Running(clock.clone()));
        let open = async || Arc::new(SqlLedger::open(&path, running.clone()).await.unwrap());
        Given { ledger: open().await, other: open().await, time: Box::new(Hands(clock)) }
    }
}

#[tokio::test]
async fn who_waits_for_a_file_gets_its_turn_while_another_process_writes_for_long() {
    let files = Files { folder: TempDir::new().unwrap(), next: Mutex::default() };
    Box::pin(contract::in_turns(&Hurried(files))).await;
}

#[tokio::test]
async fn an_older_file_is_brought_up_to_date() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open(&path).await;
    ledger.open_run(new_run(0)).await.unwrap();
    ledger.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(TO_THE_FIRST).execute(&pool).await.unwrap();
    pool.close().await;
    is_up_to_date(&SqlLedger::open(&path, clock()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_open_and_write_the_same_file_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let ledgers = futures::future::join_all((0..4).map(|_| open(&path))).await;
    let runs = ledgers.iter().enumerate().flat_map(|(number, ledger)| {
        (0..10).map(move |n| ledger.open_run(new_run(10 * i64::try_from(number).unwrap() + n)))
    });
    for run in futures::future::join_all(runs).await {
        run.unwrap();
    }
    let seen = ledgers[3].runs(&RunFilter::default()).await.unwrap();
    assert_eq!(seen.len(), 40);
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_writes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let tables = LedgerTables::at(&path);
    assert!(tables.connect().await.unwrap().is_none(), "a file that is not there was opened");
    assert!(!path.exists());
    let ledger = open(&path).await;
    let mut reader = tables.connect().await.unwrap().unwrap();
    assert_eq!(runs(&mut reader).await, [""; 0]);
    let run = ledger.open_run(new_run(0)).await.unwrap();
    assert_eq!(runs(&mut reader).await, [run.0.as_str()]);
    drop(reader);
    ledger.close().await;
    let mut later = tables.connect().await.unwrap().unwrap();
    assert_eq!(runs(&mut later).await, [run.0.as_str()], "nobody else has it open");
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let first = open(&path).await;
    let run = first.open_run(new_run(0)).await.unwrap();
    // No orderly end: the pool is dropped as a killed process would leave it.
    drop(first);
    let second = open(&path).await;
    assert_eq!(second.interrupt_open_runs(clock().now()).await.unwrap(), 1);
    assert!(second.run(&run).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_told_apart() {
    let folder = TempDir::new().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, vec![b'x'; 8192]).unwrap();
    let error = SqlLedger::open(&garbage, clock()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt(_)), "{error:?}");

    let newer = folder.path().join("newer.db");
    open(&newer).await.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&newer);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let statement = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
                     execution_time) VALUES (999, 'future', 1, x'00', 0)";
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
    let error = SqlLedger::open(&newer, clock()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Foreign(_)), "{error:?}");
    assert!(error.to_string().contains("migration 999 is not known"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_apart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = open(&path).await;
    ledger.limit_pages(80).await.unwrap();
    let mut outcome = Ok(());
    for seconds in 0..10_000 {
        if let Err(error) = ledger.open_run(new_run(seconds)).await {
            outcome = Err(error);
            break;
        }
    }
    let error = outcome.unwrap_err();
    assert!(matches!(error, LedgerError::Full { .. }), "{error:?}");
    assert!(!ledger.runs(&RunFilter::default()).await.unwrap().is_empty(), "it still reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_as_such_for_as_long_as_it_is_full_and_forgotten_after_it() {
    let folder = TempDir::new().unwrap();
    let ledger = open(&folder.path().join("ledger.db")).await;
    let mut systems = Vec::new();
    let mut fill = async || {
        for number in 0..2_000 {
            systems.push(system(number));
            ledger.store_metadata(&systems, &[], clock().now()).await?;
        }
        Ok(())
    };
    ledger.limit_pages(80).await.unwrap();
    let error: LedgerError = fill().await.unwrap_err();
    assert!(matches!(error, LedgerError::Full { .. }), "{error:?}");
    // The limit is the connection's own: where it is gone, there is room.
    let known = ledger.metadata().await.unwrap().len();
    systems.push(system(9_999));
    ledger.store_metadata(&systems, &[], clock().now()).await.unwrap();
    assert!(ledger.metadata().await.unwrap().len() > known);
}

/// A system that takes some room.
fn system(number: u32) -> SystemSpec {
    let description = "wide ".repeat(200);
    let spec = json!({"name": format!("s{number}"), "type": "rest", "description": description});
    serde_json::from_value(spec).unwrap()
}

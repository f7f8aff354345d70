//! The contract suite against PostgreSQL, and what is particular to a server.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use alluvium_ledger::contract::{self, DatabaseTime, Fixture, Given};
use alluvium_ledger::{
    ColumnKind, Ledger, LedgerError, LedgerTables, RunFilter, Server, SqlLedger, Worker,
};
use alluvium_model::error::chain;
use alluvium_model::{Clock, Remedy, Secret, SystemClock};
use alluvium_testkit::{Certificates, PostgresServer};
use async_trait::async_trait;
use futures::future::join_all;
use tempfile::TempDir;

use crate::{TO_THE_FIRST, clock, is_up_to_date, new_run, runs};

const CANARY: &str = "canary-5e1f";
const LEASE: Duration = Duration::from_secs(10);
/// So long a server may take to answer again.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Result<SqlLedger, LedgerError> {
    SqlLedger::open(Server::new(url, None), clock()).await
}

/// A database for each ledger.
struct Databases {
    server: Arc<PostgresServer>,
    next: AtomicU32,
}

/// A server's clock cannot be moved: what it is held against is.
struct Backdating(Arc<PostgresServer>, String);

#[async_trait]
impl DatabaseTime for Backdating {
    async fn pass(&self, by: Duration) {
        for (table, column) in
            [("lease", "expires_at"), ("worker", "expires_at"), ("wanted", "asked_at")]
        {
            let moved = format!(
                "UPDATE {table} SET {column} = to_char(({column}::timestamptz - interval '{} ms') \
                 AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
                by.as_millis()
            );
            self.0.sql(&self.1, &moved);
        }
    }
}

#[async_trait]
impl Fixture for Databases {
    async fn given(&self) -> Given {
        let name = format!("ledger{}", self.next.fetch_add(1, Ordering::Relaxed));
        let url = self.server.database(&name);
        let open = async || Arc::new(open(&url).await.unwrap());
        let time = Backdating(Arc::clone(&self.server), name);
        Given { ledger: open().await, other: open().await, time: Box::new(time) }
    }
}

#[tokio::test]
async fn postgresql_keeps_the_contract() {
    let Some(server) = PostgresServer::start() else { return };
    let databases = Databases { server: Arc::new(server), next: AtomicU32::default() };
    Box::pin(contract::all(&databases)).await;
    Box::pin(contract::in_turns(&databases)).await;
}

#[tokio::test]
async fn the_tables_are_made_once_are_those_of_sqlite_and_go_only_forward() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.url();
    let opened = join_all((0..4).map(|_| open(&url))).await;
    let ledgers: Vec<SqlLedger> = opened.into_iter().map(Result::unwrap).collect();
    let run = ledgers[0].open_run(new_run(0)).await.unwrap();

    let tables = LedgerTables::at(Server::new(&url, None));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ledger.db");
    SqlLedger::open(&file, clock()).await.unwrap().close().await;
    assert_eq!(described(&tables).await, described(&LedgerTables::at(&file)).await);
    let mut reader = tables.connect().await.unwrap().unwrap();
    assert_eq!(runs(&mut reader).await, [run.0.as_str()]);

    server.sql("alluvium", TO_THE_FIRST);
    is_up_to_date(&open(&url).await.unwrap()).await;

    server.sql("alluvium", "UPDATE _sqlx_migrations SET version = 999 WHERE version = 2");
    let error = open(&url).await.unwrap_err();
    assert!(matches!(error, LedgerError::Foreign(_)), "{error:?}");
    assert!(error.to_string().contains("migration 999 is not known"), "{error}");
}

/// All tables with their columns.
async fn described(tables: &LedgerTables) -> Vec<(String, Vec<(String, ColumnKind)>)> {
    let mut reader = tables.connect().await.unwrap().unwrap();
    let mut described = Vec::new();
    for table in reader.tables().await.unwrap() {
        let columns = reader.columns(&table).await.unwrap();
        described.push((table, columns));
    }
    assert!(described.len() > 10, "{described:?}");
    described
}

/// Tries as long as the error says that trying helps; the failures are counted.
async fn until_it_answers(ledger: &SqlLedger) -> u32 {
    let deadline = SystemClock.instant() + PATIENCE;
    let mut failures = 0;
    while let Err(error) = ledger.open_run(new_run(0)).await {
        assert!(matches!(error.remedy(), Remedy::Retry), "{error:?}");
        assert!(SystemClock.instant() < deadline, "{error:?}");
        failures += 1;
    }
    failures
}

#[tokio::test]
async fn a_server_that_ends_or_hangs_is_waited_for_and_used_again() {
    let Some(mut server) = PostgresServer::start() else { return };
    let place =
        Server { statement_time: Duration::from_secs(1), ..Server::new(server.url(), None) };
    let ledger = SqlLedger::open(place, clock()).await.unwrap();
    until_it_answers(&ledger).await;

    server.server.kill();
    let error = ledger.open_run(new_run(1)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    assert!(matches!(error.remedy(), Remedy::Retry), "{error:?}");
    server.server.resume();
    until_it_answers(&ledger).await;

    server.server.freeze();
    let error = ledger.open_run(new_run(2)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    server.server.thaw();
    until_it_answers(&ledger).await;
    assert!(ledger.runs(&RunFilter::default()).await.unwrap().len() >= 3);
}

#[tokio::test]
async fn a_worker_that_hangs_within_a_transaction_does_not_keep_others_from_writing() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.url();
    let (stopped, other) = (open(&url).await.unwrap(), open(&url).await.unwrap());
    let eyes = sqlx::PgPool::connect(&url).await.unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    let told = |id: &str| Worker { id: id.to_owned(), ..Worker::default() };
    let (it, us) = (told("stopped"), told("other"));
    // It goes on until it is the one writer, and then never again, as a process that is stopped.
    let mut beat = std::pin::pin!(stopped.beat(&it, &[], LEASE));
    let deadline = SystemClock.instant() + PATIENCE;
    while sqlx::query_scalar::<_, i64>(locked).fetch_one(&eyes).await.unwrap() == 0 {
        if futures::poll!(&mut beat).is_ready() {
            beat.set(stopped.beat(&it, &[], LEASE));
        }
        assert!(SystemClock.instant() < deadline, "it never was the one writer");
    }
    // Long before a statement that takes too long would be given up.
    let waited = tokio::time::timeout(Server::new("", None).statement_time / 2, async {
        while let Err(error) = other.beat(&us, &[], LEASE).await {
            assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
        }
    });
    waited.await.expect("others wait for who hangs");
    assert!(beat.await.is_err(), "who wakes has lost its turn");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_without_the_password() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("alluvium", "CREATE ROLE guest LOGIN PASSWORD 'right'");
    server.sql("alluvium", "CREATE SCHEMA guest AUTHORIZATION guest");
    let rules = "host all alluvium 127.0.0.1/32 trust\nhost all guest 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.server.folder().join("data/pg_hba.conf"), rules).unwrap();
    server.sql("alluvium", "SELECT pg_reload_conf()");
    let url = server.url().replace("alluvium@", "guest@");
    let with = |url: &str, password: &str| Server::new(url, Some(Secret::new(password)));

    // The right one opens, once the server has read its rules.
    let deadline = SystemClock.instant() + PATIENCE;
    let ledger = loop {
        match SqlLedger::open(with(&url, "right"), clock()).await {
            Ok(ledger) => break ledger,
            Err(error) => assert!(SystemClock.instant() < deadline, "{error:?}"),
        }
    };
    ledger.open_run(new_run(0)).await.unwrap();
    assert!(!format!("{ledger:?}").contains("right"), "{ledger:?}");

    let inside = url.replace("guest@", &format!("guest:{CANARY}@"));
    let nobody = url.replace("guest@", "nobody@");
    for place in [
        with(&url, CANARY),
        with(&inside, CANARY),
        Server::new(&inside, None),
        with(&nobody, CANARY),
        with(&format!("{url}_missing"), "right"),
    ] {
        let error = SqlLedger::open(place.clone(), clock()).await.unwrap_err();
        assert!(matches!(error, LedgerError::Refused { .. }), "{error:?}");
        assert!(matches!(error.remedy(), Remedy::Operator(_)), "{error:?}");
        let read = LedgerTables::at(place.clone()).connect().await.unwrap_err();
        let said = format!("{error:?} {} {place:?} {read:?} {}", chain(&error), chain(&read));
        assert!(!said.contains(CANARY), "{said}");
    }
    let wrong = format!("postgres://guest:{CANARY}@127.0.0.1:99999/x");
    let error = SqlLedger::open(Server::new(wrong, None), clock()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Address(_)), "{error:?}");
    assert!(!format!("{error:?} {error}").contains(CANARY), "{error:?}");
}

/// Lets the server speak TLS with its certificate.
fn speak_tls(server: &PostgresServer, certificates: &Certificates) {
    let data = server.server.folder().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    for (from, to) in [
        (certificates.certificate("server"), "server.crt"),
        (certificates.key("server"), "server.key"),
    ] {
        std::fs::copy(from, data.join(to)).unwrap();
        chown(data.join(to), Some(owner.uid()), Some(owner.gid())).unwrap();
        std::fs::set_permissions(data.join(to), Permissions::from_mode(0o600)).unwrap();
    }
    server.sql("alluvium", "ALTER SYSTEM SET ssl = on");
    server.sql("alluvium", "SELECT pg_reload_conf()");
}

#[tokio::test]
async fn the_certificate_of_a_server_is_checked() {
    let Some(server) = PostgresServer::start() else { return };
    let Some(certificates) = Certificates::make() else { return };
    speak_tls(&server, &certificates);
    let place = |ca: &str| {
        let root = certificates.certificate(ca);
        let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), root.display());
        Server::new(url, None)
    };
    let deadline = SystemClock.instant() + PATIENCE;
    let ledger = loop {
        match SqlLedger::open(place("ca"), clock()).await {
            Ok(ledger) => break ledger,
            Err(error) => assert!(SystemClock.instant() < deadline, "{error:?}"),
        }
    };
    ledger.open_run(new_run(0)).await.unwrap();
    let encrypted = "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'alluvium'";
    assert_eq!(server.sql("alluvium", encrypted).trim(), "t");
    let error = SqlLedger::open(place("other"), clock()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Refused { .. }), "{error:?}");
}

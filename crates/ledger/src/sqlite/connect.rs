//! Opening the file.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, SqliteConnection, SqlitePool};

use alluvium_model::Clock;

use super::SqliteLedger;
use super::failure::{failed, not_migrated};
use crate::LedgerError;

/// Version, name and statements. A migration that was released never changes; new ones follow it.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "first", include_str!("../../migrations/sqlite/0001_first.sql")),
    (2, "layer_stop", include_str!("../../migrations/sqlite/0002_layer_stop.sql")),
    (3, "worker", include_str!("../../migrations/sqlite/0003_worker.sql")),
];

/// How long a writer waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// Two processes that create the file at the same time meet in the first migration; who comes
/// second finds it done when it looks again.
const MIGRATION_TRIES: u32 = 5;

impl SqliteLedger {
    /// Opens the ledger at `path`, creates it if it is not there, and brings its tables up to date.
    /// Other processes may have it open.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let options = options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let writer = pool(1, options.clone()).await?;
        migrate(&writer).await?;
        // Readers cannot write by mistake: `query_only` holds whatever the statement says.
        let readers = pool(READERS, options.pragma("query_only", "on")).await?;
        Ok(Self { clock, readers, writer: Some(writer) })
    }

    /// Opens a ledger that is there, to read only. Whatever would write is refused.
    pub async fn open_read_only(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let readers = pool(READERS, options(path).read_only(true)).await?;
        let applied: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&readers)
            .await
            .map_err(failed("tell its version"))?;
        let ours = MIGRATIONS.iter().map(|migration| migration.0).max();
        if applied != ours {
            let (theirs, ours) = (applied.unwrap_or_default(), ours.unwrap_or_default());
            return Err(LedgerError::Foreign(format!(
                "its tables are of version {theirs}, this release reads version {ours}"
            )));
        }
        Ok(Self { clock, readers, writer: None })
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).foreign_keys(true)
}

async fn pool(size: u32, options: SqliteConnectOptions) -> Result<SqlitePool, LedgerError> {
    SqlitePoolOptions::new()
        .max_connections(size)
        .after_release(|connection, _| Box::pin(is_usable(connection)))
        .connect_with(options)
        .await
        .map_err(failed("open its file"))
}

/// On a full disk SQLite ends a transaction by itself, which the library does not notice: it takes
/// the connection to be within one for ever, and no other can begin on it.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // The answer comes after what was dropped unfinished has been rolled back.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn migrate(writer: &SqlitePool) -> Result<(), LedgerError> {
    let migrator = migrator();
    let mut tries = 1;
    loop {
        match migrator.run(writer).await {
            Ok(()) => return Ok(()),
            Err(
                sqlx::migrate::MigrateError::Execute(_)
                | sqlx::migrate::MigrateError::ExecuteMigration(..),
            ) if tries < MIGRATION_TRIES => tries += 1,
            Err(error) => return Err(not_migrated(error)),
        }
    }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, Cow::Borrowed(*name), kind, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

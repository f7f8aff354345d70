//! Opening a file of SQLite: one writing connection, a few reading ones, a write-ahead log. Several
//! processes may have the same file open.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use super::database::Database;
use super::failure::{failed, not_migrated};
use super::schema;
use crate::LedgerError;

/// How long a writer waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// Two processes that create the file at the same time meet where it gets its write-ahead log, for
/// which SQLite lets nobody wait. So often it is tried, and so long after each other.
const OPENING_TRIES: u32 = 10;
const OPENING_PAUSE: Duration = Duration::from_millis(100);
/// They meet once more in the first migration; who comes
/// second finds it done when it looks again.
const MIGRATION_TRIES: u32 = 5;

/// Opens the file, creates it if it is not there, and brings its tables up to date.
pub(super) async fn open(path: &Path) -> Result<Database, LedgerError> {
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let writer = writer(options.clone()).await?;
    migrate(&writer).await?;
    // Readers cannot write by mistake: `query_only` holds whatever the statement says.
    let readers = pool(READERS, options.pragma("query_only", "on")).await?;
    Ok(Database::Sqlite { readers, writer })
}

/// A connection that cannot write, to a file that is there.
pub(super) async fn reader(
    path: &Path,
    doing: &'static str,
) -> Result<SqliteConnection, LedgerError> {
    let options = options(path).read_only(true).disable_statement_logging();
    options.connect().await.map_err(failed(doing))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).foreign_keys(true)
}

async fn writer(options: SqliteConnectOptions) -> Result<SqlitePool, LedgerError> {
    let mut tries = 1;
    loop {
        match pool(1, options.clone()).await {
            Err(LedgerError::Unavailable { .. }) if tries < OPENING_TRIES => tries += 1,
            opened => return opened,
        }
        tokio::time::sleep(OPENING_PAUSE).await;
    }
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
    let migrator = schema::sqlite();
    let mut tries = 1;
    loop {
        match migrator.run(writer).await {
            Ok(()) => return Ok(()),
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))
                if tries < MIGRATION_TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(not_migrated(error)),
        }
    }
}

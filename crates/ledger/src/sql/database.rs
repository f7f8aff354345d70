//! The database behind a ledger, and its transactions.
//!
//! Either engine has one writing transaction at a time: SQLite by its nature, PostgreSQL by a lock
//! that each of ours takes first. So what a transaction reads holds until it commits, numbers are
//! seen in the order in which they were given, and nothing of it need be thought of twice. What one
//! statement does alone, such as granting a lease, waits for nobody but who is at the same row.

use std::time::Duration;

use alluvium_model::Clock;
use jiff::Timestamp;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

use super::failure::failed;
use super::statement::{On, statement, within};
use crate::{LedgerError, Place};

const LOCK: &str = include_str!("../../queries/postgres/writer_lock.sql");
const NOW: &str = include_str!("../../queries/postgres/now.sql");
const UNLIMITED: &str = include_str!("../../queries/postgres/unlimited.sql");
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Whoever waits for a file of SQLite looks every tenth of a second whether it is free.
const PAUSE: Duration = Duration::from_millis(150);

/// What has no limit on the server ends here all the same: a server that is gone says nothing.
const AT_MOST: Duration = Duration::from_secs(60 * 60);

/// The database behind a ledger.
#[derive(Debug)]
pub(super) enum Database {
    /// A file: one writing connection, a few reading ones.
    Sqlite { readers: SqlitePool, writer: SqlitePool },
    /// A server, and how long it may take to answer.
    Postgres { pool: PgPool, patience: Duration },
}

impl Database {
    /// Opens what is at `place`, and brings its tables up to date.
    pub(super) async fn open(place: &Place) -> Result<Self, LedgerError> {
        match place {
            Place::File(path) => super::sqlite::open(path).await,
            Place::Server(server) => super::postgres::open(server).await,
        }
    }

    /// For statements that only read.
    pub(super) fn readers(&self) -> On<'_> {
        match self {
            Self::Sqlite { readers, .. } => On::SqlitePool(readers),
            Self::Postgres { pool, patience } => On::PostgresPool(pool, *patience),
        }
    }

    /// For a statement that writes alone.
    pub(super) fn writer(&self) -> On<'_> {
        match self {
            Self::Sqlite { writer, .. } => On::SqlitePool(writer),
            Self::Postgres { pool, patience } => On::PostgresPool(pool, *patience),
        }
    }

    /// A transaction that is the one writer from its beginning.
    pub(super) async fn begin(&self, doing: &'static str) -> Result<Tx, LedgerError> {
        match self {
            Self::Sqlite { writer, .. } => begin_sqlite(writer, doing).await,
            Self::Postgres { pool, patience } => {
                let mut tx = begin_postgres(pool, *patience, doing).await?;
                statement(LOCK).execute(&mut tx, doing).await?;
                Ok(tx)
            }
        }
    }

    /// A transaction of one statement that may take its time, and keeps nobody waiting but for its
    /// rows.
    pub(super) async fn begin_long(&self, doing: &'static str) -> Result<Tx, LedgerError> {
        match self {
            Self::Sqlite { writer, .. } => begin_sqlite(writer, doing).await,
            Self::Postgres { pool, patience } => {
                begin_postgres(pool, *patience, doing).await?.without_limit(doing).await
            }
        }
    }

    /// Lets others have a turn, for who writes one transaction after the other for long. A server has
    /// them wait in a line; a file is written by whoever finds it free, and one who takes it up again
    /// at once leaves no moment for that.
    pub(super) async fn give_way(&self) {
        if let Self::Sqlite { .. } = self {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A transaction that sees one state of all tables, however long it reads.
    pub(super) async fn snapshot(&self, doing: &'static str) -> Result<Tx, LedgerError> {
        match self {
            Self::Sqlite { readers, .. } => {
                Ok(Tx::Sqlite(readers.begin().await.map_err(failed(doing))?))
            }
            Self::Postgres { pool, patience } => {
                let tx = within(*patience, Box::pin(pool.begin_with(SNAPSHOT)))
                    .await
                    .map_err(failed(doing))?;
                Tx::Postgres(tx, *patience).without_limit(doing).await
            }
        }
    }

    /// The time by which leases are granted: the server's, which all its clients share. SQLite has
    /// none that would be more right than ours. It has passed when it is used; a lease ends the
    /// earlier for it, never the later.
    pub(super) async fn now<'a>(
        &'a self,
        on: impl Into<On<'a>>,
        clock: &dyn Clock,
        doing: &'static str,
    ) -> Result<Timestamp, LedgerError> {
        let Self::Postgres { .. } = self else { return Ok(clock.now()) };
        let row = statement(NOW).fetch_optional(on, doing).await?;
        let micros = row.as_ref().map(|row| row.get::<i64, _>("micros"));
        let micros = micros.transpose().map_err(failed(doing))?.unwrap_or_default();
        Timestamp::from_microsecond(micros)
            .map_err(|_| LedgerError::Corrupt(format!("its clock tells {micros}")))
    }

    /// Waits until all connections are closed.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            // One that a dead server holds need not be waited for: it ends with the process.
            Self::Postgres { pool, patience } => {
                tokio::time::timeout(*patience, pool.close()).await.ok();
            }
        }
    }
}

/// A writer from its beginning, so that it need not become one while another process writes, which
/// SQLite refuses.
async fn begin_sqlite(writer: &SqlitePool, doing: &'static str) -> Result<Tx, LedgerError> {
    Ok(Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(doing))?))
}

async fn begin_postgres(
    pool: &PgPool,
    patience: Duration,
    doing: &'static str,
) -> Result<Tx, LedgerError> {
    let tx = within(patience, Box::pin(pool.begin())).await.map_err(failed(doing))?;
    Ok(Tx::Postgres(tx, patience))
}

/// A transaction. Dropped, it is rolled back.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>, Duration),
}

impl Tx {
    pub(super) async fn commit(self, doing: &'static str) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx, limit) => within(limit, tx.commit()).await,
        }
        .map_err(failed(doing))
    }

    async fn without_limit(mut self, doing: &'static str) -> Result<Self, LedgerError> {
        statement(UNLIMITED).execute(&mut self, doing).await?;
        if let Self::Postgres(_, limit) = &mut self {
            *limit = AT_MOST;
        }
        Ok(self)
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        match tx {
            Tx::Sqlite(tx) => On::SqliteConnection(tx),
            Tx::Postgres(tx, limit) => On::PostgresConnection(tx, *limit),
        }
    }
}

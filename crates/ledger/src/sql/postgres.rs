//! Opening a database of a PostgreSQL server.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgConnection, PgPool, Row};

use super::database::Database;
use super::failure::{failed, not_migrated};
use super::schema;
use super::statement::within;
use crate::LedgerError;
use crate::place::Server;

/// How long who needs a connection waits for one, also for a server that is just starting.
const CONNECT: Duration = Duration::from_secs(10);
const IDLE: &str = include_str!("../../queries/postgres/idle.sql");
/// Who asks the server knows us by this name.
const NAME: &str = "alluvium";

/// Connects, and brings the tables up to date.
pub(super) async fn open(server: &Server) -> Result<Database, LedgerError> {
    let options = options(server)?;
    migrate(server, options.clone()).await?;
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let options = options.options([
        ("statement_timeout", milliseconds(server.statement_time)),
        // Who hangs within a transaction loses it, so that others can write.
        ("idle_in_transaction_session_timeout", milliseconds(server.hang_time)),
    ]);
    let pool = pool(server, server.max_connections, options).await?;
    // The server gives up first, and says why.
    Ok(Database::Postgres { pool, patience: server.statement_time * 2 })
}

/// A connection that cannot write.
pub(super) async fn reader(
    server: &Server,
    doing: &'static str,
) -> Result<PgConnection, LedgerError> {
    let options = options(server)?.options([("default_transaction_read_only", "on")]);
    let options = options.disable_statement_logging();
    within(connect_time(server), options.connect()).await.map_err(failed(doing))
}

fn options(server: &Server) -> Result<PgConnectOptions, LedgerError> {
    let options: PgConnectOptions = server
        .url
        .expose()
        .parse()
        .map_err(|error: sqlx::Error| LedgerError::Address(error.to_string()))?;
    let options = options.application_name(NAME);
    Ok(match &server.password {
        Some(password) => options.password(password.expose()),
        None => options,
    })
}

async fn pool(
    server: &Server,
    size: u32,
    options: PgConnectOptions,
) -> Result<PgPool, LedgerError> {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(connect_time(server))
        // In place of the library's own test, which asks only whether the server answers.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_idle(connection)))
        .connect_with(options)
        .await
        .map_err(failed("reach its server"))
}

/// On a connection of its own, since it may take longer than any other statement. Of two processes
/// one waits until the other is done.
async fn migrate(server: &Server, options: PgConnectOptions) -> Result<(), LedgerError> {
    let pool = pool(server, 1, options).await?;
    let migrated = schema::postgres().run(&pool).await.map_err(not_migrated);
    pool.close().await;
    migrated
}

/// Whether a connection is in no transaction. Who gave up while one began has left it open, which
/// the library does not notice: what is written next would never be committed.
async fn is_idle(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    connection.fetch_one(IDLE).await?.try_get(0)
}

fn connect_time(server: &Server) -> Duration {
    server.statement_time.min(CONNECT)
}

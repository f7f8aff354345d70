//! Opens the database, read-only, and says what its errors mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_model::SourceError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection as Handle};

use crate::settings::SqliteConnection;

/// Where the database is.
pub(crate) struct Database {
    path: PathBuf,
    options: SqliteConnectOptions,
}

impl Database {
    pub(crate) fn new(connection: &SqliteConnection) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(&connection.path)
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(Duration::from_millis(connection.busy_timeout_ms.min(600_000)))
            .pragma("query_only", "1")
            .disable_statement_logging();
        Self { path: connection.path.clone(), options }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A handle for one poll. Opening is cheap, and a file that was replaced is noticed.
    pub(crate) async fn open(&self) -> Result<Handle, SourceError> {
        let mut handle = self.options.connect().await.map_err(|e| self.meaning(e))?;
        // The file is only looked into when it is asked something.
        let version = sqlx::query("PRAGMA schema_version").execute(&mut handle).await;
        version.map_err(|e| self.meaning(e))?;
        Ok(handle)
    }

    /// Closes a handle; what it read is safe already.
    pub(crate) async fn close(handle: Handle) {
        drop(handle.close().await);
    }

    /// The error by what mends it.
    pub(crate) fn meaning(&self, error: sqlx::Error) -> SourceError {
        let path = self.path.display();
        let sqlx::Error::Database(database) = &error else {
            return SourceError::Unavailable(format!("{path}: {error}"));
        };
        let code = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
        let what = database.message();
        match code & 0xff {
            1 => SourceError::Misconfigured(format!("{path}: {what}")),
            3 | 23 => SourceError::Refused(format!("{path}: {what}")),
            5 | 6 => SourceError::Unavailable(format!("{path} is locked by a writer: {what}")),
            11 => SourceError::BadAnswer(format!("{path} is damaged: {what}")),
            14 => SourceError::Misconfigured(format!(
                "{path} is not there or may not be read: {what}"
            )),
            26 => SourceError::Misconfigured(format!("{path} is not an SQLite database")),
            _ => SourceError::Unavailable(format!("{path}: {what} (code {code})")),
        }
    }
}

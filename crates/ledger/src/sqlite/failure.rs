//! What SQLite's errors mean for whoever called.

use sqlx::migrate::MigrateError;

use crate::LedgerError;

/// Result codes of SQLite, without their extension.
const READONLY: i32 = 8;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const IOERR: i32 = 10;
/// The shared memory of the write-ahead log could not grow: there is no room for it.
const IOERR_SHMSIZE: i32 = IOERR | 19 << 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;

/// Turns a database's error into ours, in the context of what was to be done.
pub(super) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> LedgerError {
    move |source| classify(doing, source)
}

/// Turns an error of the migrations into ours.
pub(super) fn not_migrated(error: MigrateError) -> LedgerError {
    const DOING: &str = "bring its tables up to date";
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            classify(DOING, source)
        }
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            LedgerError::Foreign(format!("its migration {version} is not known here"))
        }
        other => LedgerError::Foreign(other.to_string()),
    }
}

fn classify(doing: &'static str, source: sqlx::Error) -> LedgerError {
    match &source {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
            match code & 0xff {
                IOERR if code == IOERR_SHMSIZE => LedgerError::Full { doing, source },
                BUSY | LOCKED | IOERR | CANTOPEN => LedgerError::Unavailable { doing, source },
                FULL => LedgerError::Full { doing, source },
                READONLY => LedgerError::ReadOnly { doing },
                CORRUPT | NOTADB => LedgerError::Corrupt(error.message().to_owned()),
                _ => LedgerError::Bug { doing, source },
            }
        }
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            LedgerError::Full { doing, source }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => LedgerError::Unavailable { doing, source },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            LedgerError::Corrupt(source.to_string())
        }
        _ => LedgerError::Bug { doing, source },
    }
}

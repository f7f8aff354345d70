//! What the databases' errors mean for whoever called.

use std::io::ErrorKind;

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

use crate::LedgerError;

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

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Unavailable,
    Full,
    ReadOnly,
    Refused,
    Corrupt,
    Bug,
}

fn classify(doing: &'static str, source: sqlx::Error) -> LedgerError {
    match meaning(&source) {
        Meaning::Unavailable => LedgerError::Unavailable { doing, source },
        Meaning::Full => LedgerError::Full { doing, source },
        Meaning::ReadOnly => LedgerError::ReadOnly { doing },
        Meaning::Refused => LedgerError::Refused { doing, source },
        Meaning::Corrupt => LedgerError::Corrupt(said(&source)),
        Meaning::Bug => LedgerError::Bug { doing, source },
    }
}

fn meaning(error: &sqlx::Error) -> Meaning {
    use sqlx::Error as E;
    match error {
        E::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => of_state(error.code()),
            None => of_code(error.as_ref()),
        },
        E::Io(error) if error.kind() == ErrorKind::StorageFull => Meaning::Full,
        // The library tells so of a certificate that does not fit.
        E::Io(error) if error.kind() == ErrorKind::InvalidData => Meaning::Refused,
        E::Tls(_) => Meaning::Refused,
        E::Io(_)
        | E::Protocol(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed
        | E::BeginFailed => Meaning::Unavailable,
        E::ColumnDecode { .. } | E::Decode(_) => Meaning::Corrupt,
        _ => Meaning::Bug,
    }
}

fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

/// Result codes of SQLite, without their extension.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    /// The shared memory of the write-ahead log could not grow: there is no room for it.
    pub(super) const IOERR_SHMSIZE: i32 = IOERR | 19 << 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

fn of_code(error: &dyn DatabaseError) -> Meaning {
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    match code & 0xff {
        code::IOERR if code == code::IOERR_SHMSIZE => Meaning::Full,
        code::BUSY | code::LOCKED | code::IOERR | code::CANTOPEN => Meaning::Unavailable,
        code::FULL => Meaning::Full,
        code::READONLY => Meaning::ReadOnly,
        code::CORRUPT | code::NOTADB => Meaning::Corrupt,
        _ => Meaning::Bug,
    }
}

/// By PostgreSQL's SQLSTATE, whose first two characters are its class.
fn of_state(state: &str) -> Meaning {
    match state {
        // A full disk.
        "53100" => Meaning::Full,
        // A server that only follows another one.
        "25006" => Meaning::ReadOnly,
        // A user, a password, a database or a right that is not there.
        "28000" | "28P01" | "3D000" | "3F000" | "42501" => Meaning::Refused,
        // A page that does not read.
        "XX001" | "XX002" => Meaning::Corrupt,
        // A lock or a transaction that was waited for too long, or lost.
        "25P02" | "25P03" | "55P03" | "57014" => Meaning::Unavailable,
        // Connections, a serialization or a deadlock, resources, a server that ends or begins, its
        // disks.
        _ if ["08", "40", "53", "57", "58"].iter().any(|class| state.starts_with(class)) => {
            Meaning::Unavailable
        }
        _ => Meaning::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_postgresql_means_what_mends_it() {
        for (states, meaning) in [
            ("08006 40P01 40001 53300 57P01 57P03 57014 25P03", Meaning::Unavailable),
            ("53100", Meaning::Full),
            ("25006", Meaning::ReadOnly),
            ("28P01 28000 3D000 42501", Meaning::Refused),
            ("XX001", Meaning::Corrupt),
            ("23505 42601 XX000", Meaning::Bug),
        ] {
            for state in states.split(' ') {
                assert_eq!(of_state(state), meaning, "{state}");
            }
        }
    }
}

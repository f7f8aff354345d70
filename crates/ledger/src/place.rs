//! Where a ledger stands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_model::Secret;

/// Where a ledger stands: which of its databases, and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In an SQLite file.
    File(PathBuf),
    /// In a database of a PostgreSQL server.
    Server(Server),
}

/// A database of a PostgreSQL server, and how much is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `postgres://user@host:5432/database?sslmode=verify-full`. The tables stand in the user's
    /// first schema, which is the ledger's own.
    pub url: Secret,
    /// The user's password, unless the server asks for none.
    pub password: Option<Secret>,
    /// So many connections at the same time; who finds none waits for one.
    pub max_connections: u32,
    /// A statement that takes longer is given up, by the server and by us.
    pub statement_time: Duration,
    /// A worker that hangs in the middle of a transaction loses it after so long. Until then it keeps
    /// the others from writing, and so from prolonging their leases: it is to be much less than these.
    pub hang_time: Duration,
}

impl Server {
    /// The database at `url`, with a password or none, in a few connections.
    pub fn new(url: impl Into<String>, password: Option<Secret>) -> Self {
        Self {
            url: Secret::new(url),
            password,
            max_connections: 8,
            statement_time: Duration::from_secs(30),
            hang_time: Duration::from_secs(1),
        }
    }
}

impl From<Server> for Place {
    fn from(server: Server) -> Self {
        Self::Server(server)
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

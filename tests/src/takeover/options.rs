//! What a run is asked for.

use std::time::Duration;

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of the first load, and so keys of the index.
    pub rows: u64,
    /// Changes of each batch after it; no more than there are rows.
    pub changes: u64,
    /// How long a worker that is gone keeps its work, in seconds.
    pub lease: u64,
    /// So many seconds after that another one must have its work.
    pub limit: u64,
    /// Says nothing until the end.
    pub quiet: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rows: 1_000_000, changes: 10_000, lease: 10, limit: 20, quiet: false }
    }
}

impl Options {
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        if self.changes == 0 || self.changes > self.rows {
            return Err("`--changes` is 1 at least, and `--rows` at most".to_owned());
        }
        if self.lease == 0 {
            return Err("`--lease` is 1 at least".to_owned());
        }
        Ok(())
    }

    /// How long a worker that is gone keeps its work.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }

    /// So long a takeover may take.
    pub(crate) fn most(&self) -> Duration {
        Duration::from_secs(self.lease + self.limit)
    }

    /// After so many seconds what is waited for does not come any more.
    pub(crate) fn patience(&self) -> u64 {
        300 + self.rows / 5_000
    }
}

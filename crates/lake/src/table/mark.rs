//! Which version of which table: two tables, or one that was set back and went another way, have
//! versions of the same number.

use serde::{Deserialize, Serialize};

use super::{Table, entry, log};
use crate::LakeError;

/// A version of a table, told from the version of the same number of any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The version.
    pub version: i64,
    /// A hash of its log entry: no two entries are the same. `None` where the entry is gone.
    entry: Option<String>,
}

impl Mark {
    /// The mark of the version that has this log entry.
    pub fn of(version: i64, entry: &[u8]) -> Self {
        Self::hashed(version, Some(entry::hash(entry)))
    }

    fn hashed(version: i64, entry: Option<u128>) -> Self {
        Self { version, entry: entry.map(|hash| format!("{hash:032x}")) }
    }

    /// Whether both are the same version of the same table. Of one whose entry is gone nobody knows.
    pub fn is(&self, other: &Self) -> bool {
        self == other && self.entry.is_some()
    }
}

impl Table {
    /// Which version of which table this handle is at.
    pub fn mark(&self) -> Mark {
        Mark::hashed(self.state.version, self.state.entry)
    }

    /// Whether anybody has committed since.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] if the log is no longer the one that was read, for another table
    /// stands there: it is to be opened anew.
    pub async fn is_behind(&self) -> Result<bool, LakeError> {
        let (lake, path, state) = (&self.lake, &self.path, &self.state);
        if !log::is_there(lake, path, state.version + 1).await? {
            return Ok(false);
        }
        let there = log::hash_at(lake, path, state.version).await?;
        match there.is_some() && there == state.entry {
            true => Ok(true),
            false => Err(LakeError::Unavailable {
                what: format!("following {path} from version {}", state.version),
                source: "its log is not the one that was read before; open it anew".into(),
            }),
        }
    }
}

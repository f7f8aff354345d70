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

/// How a table's log stands to the version that a handle is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It ends with that version.
    Same,
    /// It goes on behind it: [`Table::step`] follows.
    Behind,
    /// It does not have that version, or no longer: the entry was cleaned away, or another table
    /// stands there. Nothing can be followed, and the table is to be opened anew.
    Other,
}

impl Table {
    /// Which version of which table this handle is at.
    pub fn mark(&self) -> Mark {
        Mark::hashed(self.state.version, self.state.entry)
    }

    /// Looks how the log stands to that version, of which it asks for the entry and the next one.
    pub async fn look(&self) -> Result<Standing, LakeError> {
        let (lake, path, state) = (&self.lake, &self.path, &self.state);
        let is_next_there = log::is_there(lake, path, state.version + 1).await?;
        // Also where nothing seems to have come: of a log that was cleaned from there on the next
        // entry is gone as well, and of another table it may never have been.
        let there = log::hash_at(lake, path, state.version).await?;
        Ok(match there.is_some() && there == state.entry {
            false => Standing::Other,
            true if is_next_there => Standing::Behind,
            true => Standing::Same,
        })
    }
}

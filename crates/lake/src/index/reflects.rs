//! What an index was made for: a version of one table, and the columns of its rows.

use fjall::PersistMode;
use serde::{Deserialize, Serialize};

use super::error::IndexError;
use super::store::KeyIndex;
use crate::table::Mark;

/// Under what it stands.
pub(super) const STATE: &str = "state";
/// The layout of entries; an index of another layout is rebuilt.
const FORMAT: u32 = 4;

/// What an index reflects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflects {
    /// The version of the table.
    pub mark: Mark,
    /// The columns that entries have at most, in words.
    pub columns: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    mark: Mark,
    columns: String,
}

impl Reflects {
    pub(super) fn write(self) -> Result<Vec<u8>, IndexError> {
        let Self { mark, columns } = self;
        let stored = Stored { format: FORMAT, mark, columns };
        serde_json::to_vec(&stored).map_err(|_| IndexError::Damaged)
    }
}

impl KeyIndex {
    /// What the index reflects; `None` if it was not finished, or is of another layout.
    pub fn reflects(&self) -> Result<Option<Reflects>, IndexError> {
        let Some(bytes) = self.meta.get(STATE)? else { return Ok(None) };
        let stored: Option<Stored> = serde_json::from_slice(&bytes).ok();
        let stored = stored.filter(|stored| stored.format == FORMAT);
        Ok(stored.map(|Stored { mark, columns, .. }| Reflects { mark, columns }))
    }

    /// Says that the index reflects another version too, which differs from the one that it reflects
    /// in no row: in columns at most that were added, and are null in all of them.
    pub fn adopt(&self, mark: &Mark, columns: &str) -> Result<(), IndexError> {
        self.update().finish(mark, columns)
    }

    /// Forgets what the index reflects: it is rebuilt before it is used again. That is durable: what
    /// comes then may go past the journal, and is not to outlive this.
    pub fn distrust(&self) -> Result<(), IndexError> {
        if self.meta.contains_key(STATE)? {
            self.meta.remove(STATE)?;
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

/// Whether `columns` are those of before, with others after them.
pub fn continues(before: &str, columns: &str) -> bool {
    columns.strip_prefix(before).is_some_and(|more| more.is_empty() || more.starts_with(','))
}

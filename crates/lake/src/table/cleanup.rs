//! Log entries and checkpoints that nobody needs any more.

use chrono::{DateTime, Utc};
use object_store::path::Path;

use super::log::{self, Listing};
use super::{Table, checkpoint};
use crate::LakeError;

/// What was removed from the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCleaned {
    /// How many objects.
    pub removed: u64,
    /// Whether more could be removed.
    pub more: bool,
}

impl Table {
    /// Removes entries and checkpoints before the newest checkpoint that was written before
    /// `before_ms`, in milliseconds since 1970; at most `limit`, the oldest first. The versions
    /// from that checkpoint on stay readable. Nothing goes that is newer than the last checkpoint
    /// but one, each of ours and sound: a damaged one costs nothing, and what the newest commit
    /// said of itself is always still told by a checkpoint.
    pub async fn clean_log(&self, before_ms: i64, limit: usize) -> Result<LogCleaned, LakeError> {
        let listing = log::list(&self.lake, &self.path).await?;
        let before = self.lake.written_before(before_ms);
        if !listing.may_shrink(before) {
            return Ok(LogCleaned::default());
        }
        let Some(safe) = self.last_but_one(&listing).await? else {
            return Ok(LogCleaned::default());
        };
        let old_enough = listing.checkpoints.range(..=safe).rev();
        let floor = old_enough.filter(|(_, at)| **at <= before).map(|(v, _)| *v);
        let mut doomed = Vec::new();
        for floor in floor {
            if checkpoint::read(&self.lake, &self.path, floor).await.is_ok_and(|c| c.is_ours) {
                doomed = self.before(&listing, floor);
                break;
            }
        }
        let more = doomed.len() > limit;
        doomed.truncate(limit);
        let removed = doomed.len() as u64;
        self.lake.delete_all(doomed).await?;
        Ok(LogCleaned { removed, more })
    }

    /// The last sound checkpoint of ours but one.
    async fn last_but_one(&self, listing: &Listing) -> Result<Option<i64>, LakeError> {
        let mut sound = 0;
        for version in listing.checkpoints.keys().rev() {
            match checkpoint::read(&self.lake, &self.path, *version).await {
                Ok(read) if read.is_ours => sound += 1,
                Ok(_) | Err(LakeError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
            if sound == 2 {
                return Ok(Some(*version));
            }
        }
        Ok(None)
    }

    /// What stands in the log before a version, oldest first.
    fn before(&self, listing: &Listing, floor: i64) -> Vec<Path> {
        let mut doomed: Vec<(i64, Path)> = Vec::new();
        for (version, _) in listing.entries.range(..floor) {
            doomed.push((*version, log::entry_path(&self.path, *version)));
        }
        for (version, _) in listing.checkpoints.range(..floor) {
            doomed.push((*version, checkpoint::path(&self.path, *version)));
        }
        doomed.sort_unstable();
        doomed.into_iter().map(|(_, path)| path).collect()
    }
}

impl Listing {
    /// Whether there is anything before a checkpoint that is old enough.
    fn may_shrink(&self, before: DateTime<Utc>) -> bool {
        let floor = self.checkpoints.iter().rev().find(|(_, at)| **at <= before);
        let first = self.entries.keys().chain(self.checkpoints.keys()).min();
        floor.map(|(version, _)| version) > first
    }
}

//! Upkeep: what a layer does so that what it has landed stays cheap to read and to add to.

use std::ops::AddAssign;

use serde::Serialize;

/// How much upkeep a layer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// What is due, as far as a short step goes; what takes long is begun beside it.
    Step,
    /// All there is to do, to the end.
    All,
}

/// What upkeep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Maintained {
    /// Compactions that were committed.
    pub compactions: u64,
    /// Compactions that were given up, because the table had changed meanwhile.
    pub dropped: u64,
    /// Data files that were put together.
    pub files_read: u64,
    /// Data files that they became.
    pub files_written: u64,
    /// Rows that moved.
    pub rows_moved: u64,
    /// Versions removed, for they ended longer ago than history is kept.
    pub versions_removed: u64,
    /// Bytes of data files read.
    pub bytes_read: u64,
    /// Bytes written: data, deletion vectors, log and checkpoints.
    pub bytes_written: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Entries of the key index looked at.
    pub entries_swept: u64,
    /// Objects removed: log entries, checkpoints, files that nothing refers to.
    pub objects_removed: u64,
}

impl Maintained {
    /// Whether nothing was done at all.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Maintained {
    fn add_assign(&mut self, other: Self) {
        self.compactions += other.compactions;
        self.dropped += other.dropped;
        self.files_read += other.files_read;
        self.files_written += other.files_written;
        self.rows_moved += other.rows_moved;
        self.versions_removed += other.versions_removed;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.checkpoints += other.checkpoints;
        self.entries_swept += other.entries_swept;
        self.objects_removed += other.objects_removed;
    }
}

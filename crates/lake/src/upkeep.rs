//! Upkeep of a table by its writer: what is due, begun beside the writer and brought in by it, a
//! step at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use object_store::path::Path;
use tokio::task::JoinHandle;

use crate::LakeError;
use crate::table::{Compacted, CompactionPolicy, Garbage, Table};

/// So many objects are looked at in one step of collecting garbage, and removed in one of cleaning.
const OBJECTS: usize = 2_000;

/// When what is done.
#[derive(Debug, Clone, PartialEq)]
pub struct UpkeepPolicy {
    /// When files are put together.
    pub compaction: CompactionPolicy,
    /// A checkpoint is written after so many commits.
    pub checkpoint_every: u64,
    /// Log entries and checkpoints are kept for so long, and with them the versions that can be
    /// asked for.
    pub keep_log: Duration,
    /// Files that no version refers to are kept for so long, for those who still read them.
    pub keep_garbage: Duration,
    /// How often the log and the files are looked through.
    pub look_every: Duration,
    /// From so many small files on, a batch waits for the compaction that is under way.
    pub most_files: usize,
}

impl Default for UpkeepPolicy {
    fn default() -> Self {
        Self {
            compaction: CompactionPolicy::default(),
            checkpoint_every: 100,
            keep_log: Duration::from_secs(30 * 86_400),
            keep_garbage: Duration::from_secs(86_400),
            look_every: Duration::from_secs(3_600),
            most_files: 100,
        }
    }
}

/// The upkeep of one table.
#[derive(Debug)]
pub struct TableUpkeep {
    policy: UpkeepPolicy,
    compaction: Option<JoinHandle<Result<Compacted, LakeError>>>,
    /// The partition of the last one.
    last: Option<bool>,
    cleaning: Look,
    collecting: Look,
    /// Where collecting garbage goes on.
    after: Option<Path>,
}

/// Something that is looked through from time to time.
#[derive(Debug, Default)]
struct Look {
    last: Option<Instant>,
    is_on: bool,
}

/// What was done for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogKept {
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were removed.
    pub removed: u64,
}

impl TableUpkeep {
    /// Nothing is under way yet.
    pub fn new(policy: UpkeepPolicy) -> Self {
        let (cleaning, collecting) = (Look::default(), Look::default());
        Self { policy, compaction: None, last: None, cleaning, collecting, after: None }
    }

    /// When what is done.
    pub fn policy(&self) -> &UpkeepPolicy {
        &self.policy
    }

    /// Whether a compaction is being prepared.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// The compaction that was prepared beside the writer, to be committed; begins one if none is
    /// under way. Waits for it if asked to, or if there are too many files.
    pub async fn compacted(
        &mut self,
        table: &Table,
        wait: bool,
    ) -> Result<Option<Compacted>, LakeError> {
        if self.compaction.is_none() && !self.begin_compaction(table)? {
            return Ok(None);
        }
        let enough = self.policy.compaction.enough();
        let small = table.files().filter(|file| file.size < enough).count();
        let wait = wait || small > self.policy.most_files;
        let is_ready = self.compaction.as_ref().is_some_and(|task| wait || task.is_finished());
        match self.compaction.take_if(|_| is_ready) {
            Some(task) => task.await.map_err(LakeError::lost)?.map(Some),
            None => Ok(None),
        }
    }

    /// Begins to prepare a compaction if none is under way. False if there is nothing to put
    /// together.
    pub fn begin_compaction(&mut self, table: &Table) -> Result<bool, LakeError> {
        if self.compaction.is_none() {
            let chosen = table.choose_compaction(&self.policy.compaction, self.last)?;
            let Some(chosen) = chosen else { return Ok(false) };
            self.last = chosen.current();
            self.compaction = Some(tokio::spawn(chosen.prepare()));
        }
        Ok(true)
    }

    /// Writes a checkpoint and removes what the log need not keep, as far as due; all of it if
    /// `all`.
    pub async fn keep_log(&mut self, table: &mut Table, all: bool) -> Result<LogKept, LakeError> {
        let mut kept = LogKept::default();
        let due = if all { 1 } else { self.policy.checkpoint_every.max(1) };
        if table.commits_since_checkpoint() >= due {
            let written = table.write_checkpoint(ago(table, self.policy.keep_garbage)).await?;
            (kept.checkpoints, kept.bytes) = (1, written.bytes);
        }
        if self.cleaning.is_due(table, self.policy.look_every, all) {
            loop {
                let cleaned = table.clean_log(ago(table, self.policy.keep_log), OBJECTS).await?;
                kept.removed += cleaned.removed;
                self.cleaning.looked(table, cleaned.more);
                if !(all && cleaned.more) {
                    break;
                }
            }
        }
        Ok(kept)
    }

    /// Whether garbage is to be collected now: then [`collect`](Self::collect) is to be called.
    /// Not while a new file is being prepared: nothing refers to it yet.
    pub fn is_garbage_due(&self, table: &Table, all: bool) -> bool {
        self.compaction.is_none() && self.collecting.is_due(table, self.policy.look_every, all)
    }

    /// Removes some files that nothing refers to. `keep` are the objects to keep in the folder
    /// `beside`. Returns how many, and whether there is more to look at.
    pub async fn collect(
        &mut self,
        table: &mut Table,
        beside: &str,
        keep: &BTreeSet<Path>,
    ) -> Result<(u64, bool), LakeError> {
        let before_ms = ago(table, self.policy.keep_garbage);
        let after = self.after.take();
        let garbage = Garbage { before_ms, after: after.as_ref(), limit: OBJECTS, beside, keep };
        let removed = table.remove_garbage(&garbage).await?;
        self.collecting.looked(table, removed.next.is_some());
        self.after = removed.next;
        Ok((removed.removed, self.after.is_some()))
    }
}

impl Drop for TableUpkeep {
    fn drop(&mut self) {
        if let Some(task) = &self.compaction {
            task.abort();
        }
    }
}

impl Look {
    fn is_due(&self, table: &Table, every: Duration, at_once: bool) -> bool {
        let clock = table.clock();
        self.is_on || at_once || self.last.is_none_or(|last| clock.since(last) >= every)
    }

    fn looked(&mut self, table: &Table, more: bool) {
        self.is_on = more;
        self.last = Some(table.clock().instant());
    }
}

/// So long ago, in milliseconds since 1970.
fn ago(table: &Table, time: Duration) -> i64 {
    let now = table.clock().now().as_millisecond();
    now.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

//! Upkeep of a table by its writer: what is due, begun beside the writer and brought in by it, a
//! step at a time.

use std::time::{Duration, Instant};

use object_store::path::Path;
use tokio::task::JoinHandle;

use crate::LakeError;
use crate::table::{CheckpointWritten, Compacted, CompactionPolicy, Garbage, Table};

/// So many objects are looked at in one step of collecting garbage, and removed in one of cleaning.
const OBJECTS: usize = 2_000;
/// A checkpoint is put off until there are as many commits as it has lines in so many.
const LINES_PER_COMMIT: u64 = 256;
/// But not more than so many times as many commits as are meant to be.
const PUT_OFF: u64 = 10;

/// When what is done.
#[derive(Debug, Clone, PartialEq)]
pub struct UpkeepPolicy {
    /// When files are put together.
    pub compaction: CompactionPolicy,
    /// A checkpoint is written after so many commits; after more where it has very many lines.
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
    checkpoint: Option<JoinHandle<Result<CheckpointWritten, LakeError>>>,
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
        Self {
            policy,
            compaction: None,
            last: None,
            checkpoint: None,
            cleaning: Look::default(),
            collecting: Look::default(),
            after: None,
        }
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

    /// Has a checkpoint written beside the writer and removes what the log need not keep, as far as
    /// due; all of it, and now, if `all`.
    pub async fn keep_log(&mut self, table: &mut Table, all: bool) -> Result<LogKept, LakeError> {
        let mut kept = LogKept::default();
        let is_ready = self.checkpoint.as_ref().is_some_and(|task| all || task.is_finished());
        if let Some(task) = self.checkpoint.take_if(|_| is_ready) {
            kept.checkpoint(table, &task.await.map_err(LakeError::lost)??);
        }
        if self.checkpoint.is_none() && self.is_checkpoint_due(table, all) {
            let draft = table.draft_checkpoint(ago(table, self.policy.keep_garbage))?;
            match all {
                true => kept.checkpoint(table, &draft.write().await?),
                false => self.checkpoint = Some(tokio::spawn(draft.write())),
            }
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

    fn is_checkpoint_due(&self, table: &Table, all: bool) -> bool {
        let every = self.policy.checkpoint_every.max(1);
        let most = every.saturating_mul(PUT_OFF);
        let worth = (table.checkpoint_lines() / LINES_PER_COMMIT).clamp(every, most);
        table.commits_since_checkpoint() >= if all { 1 } else { worth }
    }

    /// Whether garbage is to be collected now: then [`collect`](Self::collect) is to be called.
    /// Not while a new file is being prepared: nothing refers to it yet.
    pub fn is_garbage_due(&mut self, table: &Table, all: bool) -> bool {
        self.compaction.is_none() && self.collecting.is_due(table, self.policy.look_every, all)
    }

    /// Removes some files that nothing refers to. `keep` tells which objects in the folder `beside`
    /// stay. Returns how many, and whether there is more to look at.
    pub async fn collect(
        &mut self,
        table: &mut Table,
        beside: &str,
        keep: &(dyn Fn(&Path) -> bool + Sync),
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
        if let Some(task) = &self.checkpoint {
            task.abort();
        }
    }
}

impl LogKept {
    fn checkpoint(&mut self, table: &mut Table, written: &CheckpointWritten) {
        table.checkpointed(written);
        self.checkpoints += 1;
        self.bytes += written.bytes;
    }
}

impl Look {
    fn is_due(&mut self, table: &Table, every: Duration, at_once: bool) -> bool {
        let clock = table.clock();
        // Of a table that others write too, the writer before has looked not long ago.
        if self.last.is_none() && table.is_shared() {
            self.last = Some(clock.instant());
        }
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

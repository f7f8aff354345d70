//! Commits: data, deletions and progress in one atomic step.

use std::collections::{BTreeMap, HashMap};

use deltalake::kernel::{Add, DeletionVectorDescriptor, Remove};
use object_store::PutPayload;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde_json::Value;

use super::deletion::{self, DeletionFile};
use super::entry::Draft;
use super::{DataFile, FileId, StagedFile, Table};
use crate::LakeError;
use crate::store::Created;

/// What one commit changes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Files that become part of the table.
    pub add: Vec<StagedFile>,
    /// Rows to delete, by file, beside those deleted before. A file whose rows are all deleted is
    /// no longer part of the table.
    pub delete: BTreeMap<FileId, RoaringTreemap>,
    /// What [`Table::txn`] answers from now on. Stored, not enforced: the caller compares.
    pub txns: Vec<(String, i64)>,
    /// What the commit says of itself, for [`Table::commit_info`]; null says nothing.
    pub info: Value,
    /// What is done, for people who read the log: `MERGE`, `WRITE`, …
    pub operation: &'static str,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is part of the table, and durable.
    Written {
        /// The table's version now.
        version: i64,
        /// What the added files are called, in their order.
        added: Vec<FileId>,
        /// Bytes written in all: data, deletion vectors and log.
        bytes: u64,
    },
    /// Another commit came first. Nothing was changed; open the table anew, and plan again.
    Conflict,
}

/// What a commit does to the files that were there.
#[derive(Default)]
struct Deletions {
    /// The deleted rows of each file touched, those deleted before among them.
    vectors: BTreeMap<FileId, RoaringTreemap>,
    /// Files of which nothing is left.
    emptied: Vec<FileId>,
}

impl Table {
    /// Commits. `Written` means durable. After an error it is not known whether the entry stands in
    /// the log: this handle then refuses to commit, and of the table opened anew
    /// [`txn`](Self::txn) and [`version`](Self::version) tell.
    pub async fn commit(&mut self, commit: Commit) -> Result<CommitOutcome, LakeError> {
        self.check_committable()?;
        let deletions = self.merge_deletions(&commit.delete)?;
        let file = match deletions.vectors.is_empty() {
            true => None,
            false => Some(deletion::encode(&deletions.vectors)?),
        };
        let synced = self.write_beside(&commit.add, file.as_ref()).await?;
        self.lake.sync_all(&synced).await?;
        let entry = self.draft(&commit, &deletions, file.as_ref())?;
        let bytes = entry.len() as u64
            + commit.add.iter().map(|added| added.size).sum::<u64>()
            + file.as_ref().map_or(0, |file| file.bytes.len() as u64);
        if self.append(&entry).await? == Created::AlreadyThere {
            return Ok(CommitOutcome::Conflict);
        }
        let descriptors = file.map(|file| file.descriptors).unwrap_or_default();
        let added = self.take_over(commit, deletions, descriptors)?;
        Ok(CommitOutcome::Written { version: self.state.version, added, bytes })
    }

    /// Adds the new deletions to the old ones. A row that is not there or is deleted already shows
    /// that the caller's picture of the table is wrong: nothing may be built on it.
    fn merge_deletions(
        &self,
        delete: &BTreeMap<FileId, RoaringTreemap>,
    ) -> Result<Deletions, LakeError> {
        let wrong = |id: &FileId, what: &str| {
            Err(LakeError::Bug(format!("{}: {what} (file {id} of this handle)", self.path)))
        };
        let mut deletions = Deletions::default();
        for (id, rows) in delete.iter().filter(|(_, rows)| !rows.is_empty()) {
            let Some(file) = self.file(*id) else {
                return wrong(id, "rows to delete of a file that is not part of the table");
            };
            if rows.max() >= Some(file.rows) {
                return wrong(id, "a row to delete that its file does not have");
            }
            if !rows.is_disjoint(&file.deleted) {
                return wrong(id, "a row to delete that is deleted already");
            }
            let all = &file.deleted | rows;
            if all.len() == file.rows {
                deletions.emptied.push(*id);
            } else if self.deletion_vectors {
                deletions.vectors.insert(*id, all);
            } else {
                return wrong(id, "rows to delete in a table without deletion vectors");
            }
        }
        Ok(deletions)
    }

    /// Writes the deletion vectors, and says which files have to be durable before the entry.
    pub(super) async fn write_beside(
        &self,
        add: &[StagedFile],
        file: Option<&DeletionFile>,
    ) -> Result<Vec<Path>, LakeError> {
        let mut paths = Vec::with_capacity(add.len() + 1);
        for added in add {
            paths.push(self.path_of(&added.path)?);
        }
        if let Some(file) = file {
            let path = self.path_of(&file.path)?;
            self.lake.put_unsynced(&path, PutPayload::from(file.bytes.clone())).await?;
            paths.push(path);
        }
        Ok(paths)
    }

    fn draft(
        &self,
        commit: &Commit,
        deletions: &Deletions,
        file: Option<&DeletionFile>,
    ) -> Result<Vec<u8>, LakeError> {
        let now = self.lake.clock().now().as_millisecond();
        let mut draft = Draft::new(commit.operation, now);
        draft.inform(commit.info.clone());
        for (app_id, version) in &commit.txns {
            draft.txn(app_id, *version, now)?;
        }
        for id in deletions.emptied.iter().chain(deletions.vectors.keys()) {
            if let Some(file) = self.file(*id) {
                draft.remove(self.remove_action(file, now))?;
            }
        }
        for (id, vector) in file.iter().flat_map(|file| &file.descriptors) {
            if let Some(file) = self.file(*id) {
                draft.add(self.add_action(file, Some(vector.clone())))?;
            }
        }
        for staged in &commit.add {
            draft.add(self.add_action(&as_file(FileId(0), staged, now), None))?;
        }
        draft.finish()
    }

    pub(super) fn remove_action(&self, file: &DataFile, now_ms: i64) -> Remove {
        Remove {
            path: file.path.clone(),
            data_change: true,
            deletion_timestamp: Some(now_ms),
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values(file.current)),
            size: Some(file.size.cast_signed()),
            deletion_vector: file.deletion_vector.clone(),
            ..Remove::default()
        }
    }

    pub(super) fn add_action(
        &self,
        file: &DataFile,
        vector: Option<DeletionVectorDescriptor>,
    ) -> Add {
        Add {
            path: file.path.clone(),
            partition_values: self.partition_values(file.current),
            size: file.size.cast_signed(),
            modification_time: file.written_at_ms,
            data_change: true,
            stats: Some(file.stats.clone()),
            deletion_vector: vector,
            ..Add::default()
        }
    }

    fn partition_values(&self, current: Option<bool>) -> HashMap<String, Option<String>> {
        let value = current.map(|value| value.to_string());
        self.partition_by.iter().map(|column| (column.clone(), value.clone())).collect()
    }

    /// Brings the state to what was committed, and says what the added files are called.
    fn take_over(
        &mut self,
        commit: Commit,
        deletions: Deletions,
        mut descriptors: BTreeMap<FileId, DeletionVectorDescriptor>,
    ) -> Result<Vec<FileId>, LakeError> {
        let now = self.lake.clock().now().as_millisecond();
        let touched = deletions.emptied.iter().chain(deletions.vectors.keys());
        let replaced: Vec<Remove> = touched
            .filter_map(|id| self.file(*id).map(|file| self.remove_action(file, now)))
            .collect();
        let state = &mut self.state;
        state.txns.extend(commit.txns);
        if !commit.info.is_null() {
            state.info = Some(commit.info);
        }
        for id in deletions.emptied {
            if let Some(path) = state.files.get(&id).map(|file| file.path.clone()) {
                state.remove(&path);
            }
        }
        replaced.into_iter().try_for_each(|remove| state.bury(remove))?;
        for (id, deleted) in deletions.vectors {
            if let Some(file) = state.files.get_mut(&id) {
                file.deleted = deleted;
                file.deletion_vector = descriptors.remove(&id);
            }
        }
        let mut added = Vec::with_capacity(commit.add.len());
        for staged in &commit.add {
            let id = state.next_id();
            state.insert(as_file(id, staged, now));
            added.push(id);
        }
        Ok(added)
    }
}

pub(super) fn as_file(id: FileId, staged: &StagedFile, now_ms: i64) -> DataFile {
    DataFile {
        id,
        path: staged.path.clone(),
        rows: staged.rows,
        size: staged.size,
        current: staged.current,
        deleted: RoaringTreemap::new(),
        deletion_vector: None,
        written_at_ms: now_ms,
        stats: staged.stats.clone(),
    }
}

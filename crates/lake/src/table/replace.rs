//! A table that takes another one's place: its files are copied, and one commit makes them the
//! table. Whoever reads sees all of the old one or all of the new one.

use std::collections::BTreeSet;

use deltalake::kernel::Add;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::entry::Draft;
use super::state::{DataFile, State, join};
use super::{Table, deletion, log, owner};
use crate::store::Created;
use crate::{Lake, LakeError};

/// How many files are copied at once.
const PARALLEL_COPIES: usize = 8;

/// A table ready to take the place of another: all that it consists of stands there already, durably,
/// and is part of nothing. Given up, it leaves orphans behind, which do no harm.
#[derive(Debug)]
pub struct Replacement {
    table: Table,
    target: Path,
    copied: u64,
}

impl Replacement {
    /// Copies the files of `table` to `target`: data, deletion vectors, and what stands in the
    /// folders `beside` of the table. May be done again, however far it came before. `progress` is
    /// told how many of how many files have been copied.
    pub async fn prepare(
        table: Table,
        target: &Path,
        beside: &[&str],
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Self, LakeError> {
        let files = files_of(&table, beside).await?;
        let total = files.len() as u64;
        let mut copies = stream::iter(files.iter().map(|file| copy(&table, target, file)))
            .buffer_unordered(PARALLEL_COPIES);
        let mut copied = 0;
        while copies.try_next().await?.is_some() {
            copied += 1;
            progress(copied, total);
        }
        drop(copies);
        Ok(Self { table, target: target.clone(), copied })
    }

    /// How many files were copied.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    /// Makes the target the table, in one commit: all files of what was there removed, all of the
    /// new one added, its columns, its progress and what it says of itself taken over, and `txns`
    /// besides. Returns the target's version.
    ///
    /// Where nothing is there, or nothing that could be gone on with, it becomes a new table; a log
    /// that cannot be read is moved to the folder `_aside` of the table first.
    pub async fn commit(self, txns: &[(String, i64)]) -> Result<i64, LakeError> {
        let lake = &self.table.lake;
        let before = match log::load_entries(lake, &self.target, log::Torn::SetAside).await {
            Ok(before) => before.filter(|before| before.protocol.is_same(self.protocol())),
            Err(LakeError::Corrupt(how) | LakeError::Mismatch(how)) => {
                tracing::warn!(table = %self.target, how, "the table is replaced by a new one");
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(before) = &before {
            owner::admit(lake, &self.target, before)?;
        }
        if before.is_none() {
            lake.guard(|| format!("replacing {}", self.target))?;
            set_log_aside(lake, &self.target).await?;
        }
        let version = before.as_ref().map_or(0, |before| before.version + 1);
        let entry = self.entry(before.as_ref(), txns)?;
        match log::append(lake, &self.target, version, &entry).await? {
            Created::Written => Ok(version),
            Created::AlreadyThere => Err(LakeError::Unavailable {
                what: format!("replacing {}", self.target),
                source: "another writer committed meanwhile".into(),
            }),
        }
    }

    fn protocol(&self) -> &super::entry::Protocol {
        &self.table.state.protocol
    }

    fn entry(&self, before: Option<&State>, txns: &[(String, i64)]) -> Result<Vec<u8>, LakeError> {
        let (table, state) = (&self.table, &self.table.state);
        let now = table.lake.clock().now().as_millisecond();
        let mut draft = Draft::new("REBUILD", now);
        draft.inform(state.info.clone().unwrap_or_default());
        for (app_id, version) in state.txns.iter().map(|(id, v)| (id, *v)) {
            if !txns.iter().any(|(other, _)| other == app_id) {
                draft.txn(app_id, version, now)?;
            }
        }
        for (app_id, version) in txns {
            draft.txn(app_id, *version, now)?;
        }
        let mut metadata = state.metadata.clone();
        match before {
            None => {
                draft.protocol(&state.protocol)?;
                draft.metadata(&metadata)?;
            }
            Some(before) => {
                metadata = metadata.in_place_of(&before.metadata);
                if metadata != before.metadata {
                    draft.metadata(&metadata)?;
                }
            }
        }
        let gone = before.into_iter().flat_map(|before| before.files.values());
        for file in gone.filter(|file| table.file_by_path(&file.path).is_none()) {
            draft.remove(table.remove_action(file, now))?;
        }
        for file in table.files() {
            let add = table.add_action(file, file.deletion_vector.clone());
            draft.add(Add { modification_time: now, ..add })?;
        }
        draft.finish()
    }
}

/// All that a table consists of, relative to it.
async fn files_of(table: &Table, beside: &[&str]) -> Result<Vec<String>, LakeError> {
    let mut files: Vec<String> = table.files().map(|file| file.path.clone()).collect();
    files.extend(vectors_of(table.files())?);
    for folder in beside {
        for object in table.lake.list(&join(&table.path, folder)?).await? {
            let parts = object.location.prefix_match(&table.path);
            let parts = parts.into_iter().flatten();
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            files.push(parts.join("/"));
        }
    }
    Ok(files)
}

fn vectors_of<'f>(
    files: impl Iterator<Item = &'f DataFile>,
) -> Result<BTreeSet<String>, LakeError> {
    files.filter_map(|file| file.deletion_vector.as_ref()).map(deletion::path_of).collect()
}

async fn copy(table: &Table, target: &Path, relative: &str) -> Result<(), LakeError> {
    let (from, to) = (join(&table.path, relative)?, join(target, relative)?);
    let copied = table.lake.store().copy(&from, &to).await;
    copied.map_err(|e| LakeError::store(format!("copying {from} to {to}"), e))
}

/// Moves what stands in a log out of it, the oldest first: what is left of it, should this break
/// off, is never a table of an earlier time.
async fn set_log_aside(lake: &Lake, table: &Path) -> Result<(), LakeError> {
    let now = lake.clock().now().as_millisecond();
    let aside = table.clone().join("_aside").join(now.to_string());
    for object in lake.list(&log::folder(table)).await? {
        let from = object.location;
        let to = aside.clone().join(from.filename().unwrap_or_default());
        let moved = lake.store().rename(&from, &to).await;
        moved.map_err(|e| LakeError::store(format!("moving {from} aside"), e))?;
    }
    Ok(())
}

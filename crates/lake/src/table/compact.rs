//! Compaction: several files become one, without their deleted rows.
//!
//! It is prepared beside the writer, from files as they were, and committed by it: rows that were
//! deleted meanwhile are deleted in the new file by the same commit. Rows keep their order, so that
//! whoever knows where a row stood can tell where it stands.

use std::collections::BTreeMap;

use deltalake::kernel::{Add, Remove};
use roaring::RoaringTreemap;
use xxhash_rust::xxh3::xxh3_64;

use super::entry::Draft;
use super::rewrite::{self, Rewrite};
use super::{DataFile, FileId, StagedFile, Table, deletion};
use crate::LakeError;
use crate::store::Created;

/// When files are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// No larger file is aimed at, in bytes; one of a third of it is large enough to be left alone.
    pub target_bytes: u64,
    /// So many files of like size become one.
    pub fan_in: usize,
    /// A file is written anew when more than about this many of 100 rows are deleted. The threshold
    /// of each file differs by up to a fifth of it, so that they do not all come at once.
    pub deleted_percent: u64,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self { target_bytes: 128_000_000, fan_in: 10, deleted_percent: 25 }
    }
}

/// Smaller files count as being of this size.
const SMALLEST: u64 = 32 << 10;
/// From this size on, a file is worth being written anew alone.
const LARGE: u64 = 128 << 10;
/// No more rows than this go into one file, so that a row's number stays small.
const MOST_ROWS: u64 = 1 << 30;

/// Files that are to become one. Cheap: nothing has been read.
#[derive(Debug)]
pub struct Compaction {
    rewrite: Rewrite,
}

/// Files that have become one, which no commit names yet.
#[derive(Debug)]
pub struct Compacted {
    current: Option<bool>,
    inputs: Vec<Input>,
    /// `None` if all rows were deleted.
    output: Option<StagedFile>,
    /// Bytes that were read.
    pub bytes_read: u64,
}

/// A file as it was when it was read.
#[derive(Debug, Clone)]
struct Input {
    path: String,
    rows: u64,
    deleted: RoaringTreemap,
    /// Where its first row stands in the new file.
    base: u64,
}

/// Where the rows of a file have gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The file, relative to the table.
    pub from: String,
    /// Where its first row that moved stands in the new file; the others follow it.
    pub base: u64,
    /// How many moved.
    pub rows: u64,
    /// Its rows that did not move, for they were deleted before.
    pub left: RoaringTreemap,
}

/// What became of committing a compaction.
#[derive(Debug, Clone, PartialEq)]
pub enum CompactionOutcome {
    /// The new file stands in the place of the others.
    Done {
        /// The table's version now.
        version: i64,
        /// The new file, relative to the table; `None` if nothing was left of the others.
        to: Option<String>,
        /// Where the rows have gone.
        moved: Vec<Moved>,
        /// Bytes written in all: data, deletion vectors and log.
        bytes: u64,
    },
    /// The table has changed in a way that the compaction does not fit: it is given up, and the new
    /// file is an orphan.
    Dropped,
}

impl Table {
    /// Chooses files to put together, those of another partition than `last` first, so that none
    /// waits for ever; `None` if all is well.
    pub fn choose_compaction(
        &self,
        policy: &CompactionPolicy,
        last: Option<bool>,
    ) -> Result<Option<Compaction>, LakeError> {
        let mut partitions = [Some(true), Some(false), None];
        partitions.sort_by_key(|partition| *partition == last);
        for current in partitions {
            let files: Vec<&DataFile> = self.files().filter(|f| f.current == current).collect();
            let chosen = policy.much_deleted(&files).or_else(|| policy.of_like_size(&files));
            if let Some(chosen) = chosen {
                return Ok(Some(Compaction { rewrite: Rewrite::of(self, current, &chosen)? }));
            }
        }
        Ok(None)
    }

    /// Puts the new file in the place of those that it was made of. After an error this handle
    /// refuses to commit, as after a [`commit`](Self::commit) that broke off.
    pub async fn commit_compaction(
        &mut self,
        compacted: Compacted,
    ) -> Result<CompactionOutcome, LakeError> {
        self.check_committable()?;
        let Some((deleted, output)) = self.deleted_meanwhile(&compacted) else {
            return Ok(CompactionOutcome::Dropped);
        };
        if compacted.inputs.iter().all(|input| self.file_by_path(&input.path).is_none()) {
            return Ok(CompactionOutcome::Dropped);
        }
        let vectors = match deleted.is_empty() {
            true => None,
            false => Some(deletion::encode(&BTreeMap::from([(FileId(0), deleted.clone())]))?),
        };
        let added: Vec<StagedFile> = output.clone().into_iter().collect();
        let synced = self.write_beside(&added, vectors.as_ref()).await?;
        self.lake.sync_all(&synced).await?;

        let now = self.lake.clock().now().as_millisecond();
        let mut draft = Draft::new("OPTIMIZE", now);
        let gone: Vec<Remove> = compacted
            .inputs
            .iter()
            .filter_map(|input| self.file_by_path(&input.path))
            .map(|file| Remove { data_change: false, ..self.remove_action(file, now) })
            .collect();
        for remove in &gone {
            draft.remove(remove.clone())?;
        }
        let new = output.map(|staged| {
            let mut file = super::commit::as_file(FileId(0), &staged, now);
            file.deletion_vector =
                vectors.iter().find_map(|v| v.descriptors.get(&FileId(0)).cloned());
            file.deleted = deleted;
            file
        });
        if let Some(file) = &new {
            let add = self.add_action(file, file.deletion_vector.clone());
            draft.add(Add { data_change: false, ..add })?;
        }
        let entry = draft.finish()?;
        let bytes = entry.len() as u64
            + new.as_ref().map_or(0, |file| file.size)
            + vectors.map_or(0, |file| file.bytes.len() as u64);
        if self.append(&entry).await? == Created::AlreadyThere {
            return Ok(CompactionOutcome::Dropped);
        }
        for remove in gone {
            self.state.remove(&remove.path);
            self.state.bury(remove)?;
        }
        let to = new.as_ref().map(|file| file.path.clone());
        if let Some(file) = new {
            let id = self.state.next_id();
            self.state.insert(DataFile { id, ..file });
        }
        let moved = compacted.inputs.into_iter().map(Input::into_moved).collect();
        Ok(CompactionOutcome::Done { version: self.state.version, to, moved, bytes })
    }

    /// Which rows of the new file were deleted since it was prepared, and the file, unless all of
    /// them were. `None` if the files are no longer those that were read.
    fn deleted_meanwhile(
        &self,
        compacted: &Compacted,
    ) -> Option<(RoaringTreemap, Option<StagedFile>)> {
        let mut deleted = RoaringTreemap::new();
        for input in &compacted.inputs {
            match self.file_by_path(&input.path) {
                // What is not there any more lost all its rows, and nothing else: a table that was
                // replaced has other files.
                None if !self.state.gone.contains_key(&input.path) => return None,
                None => drop(deleted.insert_range(input.base..input.base + input.live())),
                Some(file) => {
                    let same = file.rows == input.rows
                        && file.current == compacted.current
                        && input.deleted.is_subset(&file.deleted);
                    if !same {
                        return None;
                    }
                    let new = &file.deleted - &input.deleted;
                    deleted.extend(new.iter().map(|row| input.place(row)));
                }
            }
        }
        let output = compacted.output.clone().filter(|file| deleted.len() < file.rows);
        if output.is_none() {
            deleted.clear();
        }
        Some((deleted, output))
    }
}

impl Compaction {
    /// The partition that the files are of.
    pub fn current(&self) -> Option<bool> {
        self.rewrite.current
    }

    /// Reads the files and writes the new one, durably. May run beside the writer. If no commit
    /// follows, the new file stays an orphan, which does no harm.
    pub async fn prepare(self) -> Result<Compacted, LakeError> {
        let (mut inputs, mut base) = (Vec::new(), 0);
        for file in &self.rewrite.inputs {
            let (path, deleted) = (file.path.clone(), file.deleted.clone());
            let input = Input { path, rows: file.rows, deleted, base };
            base += input.live();
            inputs.push(input);
        }
        let bytes_read = self.rewrite.inputs.iter().map(|file| file.size).sum();
        let current = self.rewrite.current;
        let output = if base == 0 { None } else { Some(rewrite::write(self.rewrite, base).await?) };
        Ok(Compacted { current, inputs, output, bytes_read })
    }
}

impl Compacted {
    /// How many files were read.
    pub fn files(&self) -> usize {
        self.inputs.len()
    }

    /// How many rows were moved.
    pub fn rows(&self) -> u64 {
        self.inputs.iter().map(Input::live).sum()
    }
}

impl Input {
    fn live(&self) -> u64 {
        self.rows - self.deleted.len()
    }

    /// Where a row that is not among those deleted before stands in the new file.
    fn place(&self, row: u64) -> u64 {
        self.base + row - self.deleted.rank(row)
    }

    fn into_moved(self) -> Moved {
        let rows = self.live();
        Moved { from: self.path, base: self.base, rows, left: self.deleted }
    }
}

impl CompactionPolicy {
    /// Files much of which is deleted, as many as fit into one; those of which most is deleted
    /// first.
    fn much_deleted<'f>(&self, files: &[&'f DataFile]) -> Option<Vec<&'f DataFile>> {
        let mut much: Vec<&DataFile> = files.iter().copied().filter(|f| self.is_much(f)).collect();
        much.sort_by_key(|file| (std::cmp::Reverse(share_deleted(file)), file.id));
        // Small files alone are not worth a commit.
        let is_large = much.iter().any(|file| file.size >= LARGE);
        self.as_many_as_fit(&much, if is_large { 1 } else { (self.fan_in / 2).max(1) })
    }

    /// Files of like size, so many that they are worth it.
    fn of_like_size<'f>(&self, files: &[&'f DataFile]) -> Option<Vec<&'f DataFile>> {
        let mut tiers: BTreeMap<u32, Vec<&DataFile>> = BTreeMap::new();
        for file in files.iter().filter(|file| live_bytes(file) < self.enough()) {
            tiers.entry(self.tier(file)).or_default().push(file);
        }
        let mut full = tiers.values().filter(|tier| tier.len() >= self.fan_in.max(2));
        full.find_map(|tier| self.as_many_as_fit(tier, 2))
    }

    /// The first of the files up to the size aimed at, by id.
    fn as_many_as_fit<'f>(
        &self,
        files: &[&'f DataFile],
        least: usize,
    ) -> Option<Vec<&'f DataFile>> {
        let (mut bytes, mut rows) = (0, 0);
        let mut chosen: Vec<&DataFile> = Vec::new();
        for file in files.iter().take(self.fan_in.max(2) * 4) {
            bytes += live_bytes(file);
            rows += file.rows - file.deleted.len();
            if chosen.len() >= least && (bytes > self.target_bytes || rows > MOST_ROWS) {
                break;
            }
            chosen.push(file);
        }
        chosen.sort_by_key(|file| file.id);
        (chosen.len() >= least).then_some(chosen)
    }

    /// So large that a file is left alone, in bytes.
    pub(crate) fn enough(&self) -> u64 {
        self.target_bytes / 3
    }

    fn is_much(&self, file: &DataFile) -> bool {
        // Between -20 and +20 of 100, from the name alone: the same at every start.
        let stagger = xxh3_64(file.path.as_bytes()) % 41;
        let threshold = self.deleted_percent * (80 + stagger);
        share_deleted(file) > threshold
    }

    fn tier(&self, file: &DataFile) -> u32 {
        let base = self.fan_in.max(2) as u64;
        (live_bytes(file).max(SMALLEST) / SMALLEST).ilog(base)
    }
}

/// How much of a file is not deleted, in bytes.
fn live_bytes(file: &DataFile) -> u64 {
    let live = u128::from(file.rows - file.deleted.len());
    let bytes = u128::from(file.size) * live / u128::from(file.rows.max(1));
    u64::try_from(bytes).unwrap_or(file.size)
}

/// Of 10,000 rows, how many are deleted.
fn share_deleted(file: &DataFile) -> u64 {
    file.deleted.len() * 10_000 / file.rows.max(1)
}

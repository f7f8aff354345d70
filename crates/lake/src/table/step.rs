//! A table's past, commit by commit, for who follows its rows: where they came, and where they went.

use std::collections::BTreeMap;

use deltalake::kernel::{Add, Remove};
use roaring::RoaringTreemap;

use super::entry::Entry;
use super::state::State;
use super::{DataFile, FileId, Moved, Table, deletion, log, schema};
use crate::LakeError;

/// What one commit did to the rows.
#[derive(Debug)]
pub enum Step {
    /// Rows came, and others were deleted.
    Changed {
        /// The files that came.
        added: Vec<FileId>,
        /// The rows that were deleted, by the path of their file; of a file that is gone, all that
        /// it had left.
        deleted: BTreeMap<String, RoaringTreemap>,
        /// The files of which nothing is left, as they were.
        emptied: Vec<DataFile>,
    },
    /// A compaction moved rows, and changed none.
    Moved {
        /// The new file, relative to the table; `None` if nothing was left of the others.
        to: Option<String>,
        /// Where the rows have gone.
        moved: Vec<Moved>,
    },
    /// The table was given other columns, and nothing else.
    Columns,
    /// Another program wrote it, or rows came back: it cannot be followed.
    Unknown,
}

impl Table {
    /// The table as it was at an earlier version, with the columns of then; `None` if the log does
    /// not reach back so far.
    pub async fn back_to(&self, version: i64) -> Result<Option<Table>, LakeError> {
        let Some(state) = log::load_at(&self.lake, &self.path, version).await? else {
            return Ok(None);
        };
        Ok(Some(Table {
            lake: self.lake.clone(),
            path: self.path.clone(),
            schema: schema::of(&state.metadata)?,
            partition_by: self.partition_by.clone(),
            deletion_vectors: self.deletion_vectors,
            stats: self.stats.clone(),
            state,
            doubtful: false,
        }))
    }

    /// The same with the columns that another handle of the table has: those that a file lacks are
    /// null in its rows.
    #[must_use]
    pub fn with_columns_of(self, other: &Table) -> Table {
        Table { schema: other.schema.clone(), ..self }
    }

    /// Takes over the next commit, and tells what it did; `None` if there is none. The columns stay
    /// as they are. After an error this handle is of no use: which rows the commit deleted may be
    /// unread, and the table is to be opened anew.
    pub async fn step(&mut self) -> Result<Option<Step>, LakeError> {
        let version = self.state.version + 1;
        let Some(entry) = log::entry_at(&self.lake, &self.path, version).await? else {
            return Ok(None);
        };
        let touched = Touched::of(&self.state, &entry);
        self.state.apply(version, entry)?;
        deletion::read_all(&self.lake, &self.path, &mut self.state).await?;
        Ok(Some(touched.became(self)))
    }
}

/// The files that an entry names, as they were before it.
struct Touched {
    is_ours: bool,
    is_of_columns: bool,
    is_compaction: bool,
    /// In the order of the entry.
    removed: Vec<DataFile>,
    added: Vec<(String, Option<DataFile>)>,
}

impl Touched {
    fn of(state: &State, entry: &Entry) -> Self {
        let before =
            |path: &String| state.by_path.get(path).and_then(|id| state.files.get(id)).cloned();
        let is_new = |add: &Add| !add.data_change && !state.by_path.contains_key(&add.path);
        let goes = |remove: &Remove| !remove.data_change;
        Self {
            is_ours: entry.is_ours,
            is_of_columns: entry.metadata.is_some(),
            is_compaction: !entry.removes.is_empty()
                && entry.adds.len() <= 1
                && entry.adds.iter().all(is_new)
                && entry.removes.iter().all(goes),
            removed: entry.removes.iter().filter_map(|remove| before(&remove.path)).collect(),
            added: entry.adds.iter().map(|add| (add.path.clone(), before(&add.path))).collect(),
        }
    }

    fn became(self, table: &Table) -> Step {
        let has_files = !(self.removed.is_empty() && self.added.is_empty());
        let step = match (self.is_ours, self.is_of_columns, self.is_compaction) {
            (true, true, _) => (!has_files).then_some(Step::Columns),
            (true, false, true) => self.moved(table),
            (true, false, false) => self.changed(table),
            (false, ..) => None,
        };
        step.unwrap_or(Step::Unknown)
    }

    fn changed(self, table: &Table) -> Option<Step> {
        let (mut added, mut deleted, mut emptied) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (path, before) in self.added {
            let now = table.file_by_path(&path)?;
            let Some(before) = before else {
                added.push(now.id);
                continue;
            };
            if before.rows != now.rows || !before.deleted.is_subset(&now.deleted) {
                return None;
            }
            deleted.insert(path, &now.deleted - &before.deleted);
        }
        for file in self.removed {
            if table.file_by_path(&file.path).is_none() {
                let mut rows = RoaringTreemap::new();
                rows.insert_range(0..file.rows);
                deleted.insert(file.path.clone(), rows - &file.deleted);
                emptied.push(file);
            }
        }
        Some(Step::Changed { added, deleted, emptied })
    }

    fn moved(self, table: &Table) -> Option<Step> {
        let to = self.added.into_iter().next().map(|(path, _)| path);
        let holes = match &to {
            Some(path) => table.file_by_path(path)?.deleted.clone(),
            None => RoaringTreemap::new(),
        };
        let mut next = 0;
        let moved = self.removed.iter().map(|file| moved(file, &holes, &mut next));
        let moved = moved.collect::<Option<Vec<_>>>()?;
        let is_whole = match &to {
            Some(path) => {
                let rows = table.file_by_path(path)?.rows;
                next <= rows && holes.range_cardinality(next..rows) == rows - next
            }
            None => next == 0,
        };
        is_whole.then_some(Step::Moved { to, moved })
    }
}

/// Where the rows of a file went, of which the next one stands at `next` of the new file. That one's
/// `holes` are rows that were deleted while it was made: which ones of the file they were does not
/// matter, as long as each row that lives finds its place.
fn moved(file: &DataFile, holes: &RoaringTreemap, next: &mut u64) -> Option<Moved> {
    let mut left = RoaringTreemap::new();
    let mut base = None;
    for row in 0..file.rows {
        let is_hole = holes.contains(*next);
        if file.deleted.contains(row) {
            if !is_hole {
                left.insert(row);
                continue;
            }
        } else if is_hole {
            if base.is_some() {
                return None;
            }
            // Of a file before this one, which had nothing left and is not named.
            while holes.contains(*next) {
                *next += 1;
            }
        }
        base.get_or_insert(*next);
        *next += 1;
    }
    let base = base.unwrap_or(*next);
    Some(Moved { from: file.path.clone(), base, rows: file.rows - left.len(), left })
}

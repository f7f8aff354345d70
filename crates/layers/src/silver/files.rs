//! Numbers and names: the index calls files, runs and batches by number.

use std::collections::{BTreeMap, HashMap};

use alluvium_lake::index::{FileMove, IndexError, KeyIndex, Sweep, Swept};
use alluvium_lake::table::{Mark, Moved};
use alluvium_lake::{FileId, Table};
use alluvium_model::StageError;

/// The table's files by their numbers in the index, and where the rows of others have gone.
#[derive(Debug)]
pub(super) struct FileNumbers {
    paths: HashMap<u32, String>,
    moves: HashMap<u32, FileMove>,
    /// Moves that lead to files that are gone.
    dead: Vec<u32>,
    sweep: Sweep,
}

/// Rows of files: where each stands now, and the number and the row that the index names.
pub(super) type RowsByFile = BTreeMap<FileId, Vec<(u64, (u32, u32))>>;

impl FileNumbers {
    /// Reads the numbers of the table's files from the index.
    pub(super) fn load(index: &KeyIndex, table: &Table) -> Result<Self, IndexError> {
        let (paths, moves) = (index.names()?, index.moves()?);
        let sweep = Sweep::load(index)?;
        let mut numbers = Self { paths, moves, dead: Vec::new(), sweep };
        numbers.keep_only(table);
        Ok(numbers)
    }

    /// Where rows that the index names stand now, ascending; each once.
    pub(super) fn by_file(
        &self,
        table: &Table,
        named: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<RowsByFile, StageError> {
        let mut found = RowsByFile::new();
        let (mut last, mut place): (Option<u32>, Option<(FileId, Option<&FileMove>)>) =
            (None, None);
        for (number, row) in named {
            if last != Some(number) {
                (last, place) = (Some(number), self.place_of(table, number));
            }
            let gone = || {
                StageError::Bug(format!(
                    "the key index names row {row} of file {number}, which is not there"
                ))
            };
            let (file, moved) = place.ok_or_else(gone)?;
            let now = moved.map_or(Some(row), |moved| moved.place(row)).ok_or_else(gone)?;
            found.entry(file).or_default().push((u64::from(now), (number, row)));
        }
        for rows in found.values_mut() {
            rows.sort_unstable();
            rows.dedup();
        }
        Ok(found)
    }

    /// Where a row that the index names stands now: the path of its file, and the row.
    pub(super) fn place(&self, number: u32, row: u32) -> Option<(&str, u32)> {
        let moved = self.moves.get(&number);
        let path = self.paths.get(&moved.map_or(number, |moved| moved.to))?;
        let row = moved.map_or(Some(row), |moved| moved.place(row))?;
        Some((path, row))
    }

    fn place_of(&self, table: &Table, number: u32) -> Option<(FileId, Option<&FileMove>)> {
        let moved = self.moves.get(&number);
        let path = self.paths.get(&moved.map_or(number, |moved| moved.to))?;
        Some((table.file_by_path(path)?.id, moved))
    }

    /// Takes over a new file's number.
    pub(super) fn add(&mut self, number: u32, path: String) {
        self.paths.insert(number, path);
    }

    /// Forgets files that are no longer part of the table, and moves that lead to them.
    pub(super) fn keep_only(&mut self, table: &Table) {
        self.paths.retain(|_, path| table.file_by_path(path).is_some());
        let paths = &self.paths;
        let gone = self.moves.extract_if(|_, moved| !paths.contains_key(&moved.to));
        self.dead.extend(gone.map(|(file, _)| file));
    }

    /// Notes what a batch's entries name, for the sweep under way.
    pub(super) fn uses(&mut self, names: &Names<'_>) {
        self.sweep.uses(names.known.keys().copied());
    }

    /// How many files are led to others.
    pub(super) fn moves(&self) -> usize {
        self.moves.len()
    }

    /// Takes over that the rows of some files have gone to the one at `to`, if anything was left of
    /// them, and makes it the index's state together with the table's `mark`.
    pub(super) fn move_rows(
        &mut self,
        index: &KeyIndex,
        to: Option<&str>,
        moved: Vec<Moved>,
        mark: &Mark,
        fingerprint: &str,
    ) -> Result<(), IndexError> {
        let target = index.next_name()?;
        let mut update = index.update();
        let numbers: HashMap<String, u32> =
            self.paths.iter().map(|(number, path)| (path.clone(), *number)).collect();
        if let Some(path) = to {
            update.name(target, path);
            self.paths.insert(target, path.to_owned());
        }
        for moved in moved {
            let Some(number) = numbers.get(&moved.from).copied() else { continue };
            let step = as_move(&moved, target, self.sweep.pass()).ok_or(IndexError::Damaged)?;
            self.paths.remove(&number);
            update.forget_name(number);
            for before in self.moves.values_mut().filter(|before| before.to == number) {
                *before = before.then(&step);
            }
            self.moves.insert(number, step);
        }
        for (number, moved) in self.moves.iter().filter(|(_, moved)| moved.to == target) {
            match to {
                Some(_) => update.moved(*number, moved),
                None => self.dead.push(*number),
            }
        }
        if to.is_none() {
            self.moves.retain(|_, moved| moved.to != target);
        }
        self.dead.drain(..).for_each(|file| update.forget_move(file));
        update.finish(mark, fingerprint)
    }

    /// A step of the sweep, which is begun if asked to. `None` if none is under way.
    pub(super) fn sweep(
        &mut self,
        index: &KeyIndex,
        begin: bool,
        limit: usize,
    ) -> Result<Option<Swept>, IndexError> {
        if begin {
            self.sweep.begin(index)?;
        }
        if !self.sweep.is_on() {
            return Ok(None);
        }
        let paths = &self.paths;
        // Whatever it is called: other programs give files other names.
        let is_kept = |number: u32| paths.contains_key(&number);
        let swept = self.sweep.step(index, &self.moves, limit, &is_kept)?;
        swept.forgotten.iter().for_each(|file| drop(self.moves.remove(file)));
        Ok(Some(swept))
    }
}

/// A move with the index's numbers; `None` if they are too large for it.
fn as_move(moved: &Moved, to: u32, pass: u32) -> Option<FileMove> {
    Some(FileMove {
        to,
        base: u32::try_from(moved.base).ok()?,
        rows: u32::try_from(moved.rows).ok()?,
        left: moved.left.iter().map(|row| u32::try_from(row).ok()).collect::<Option<_>>()?,
        pass,
    })
}

/// Gives numbers to the names that a batch brings, and names back for the numbers that it meets.
pub(super) struct Names<'i> {
    index: &'i KeyIndex,
    next: u32,
    new: Vec<(u32, String)>,
    numbers: HashMap<String, u32>,
    known: HashMap<u32, String>,
}

impl<'i> Names<'i> {
    pub(super) fn new(index: &'i KeyIndex) -> Result<Self, IndexError> {
        Ok(Self {
            next: index.next_name()?,
            index,
            new: Vec::new(),
            numbers: HashMap::new(),
            known: HashMap::new(),
        })
    }

    /// The number of a name of this batch.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        self.new.push((number, name.to_owned()));
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The name with a number.
    pub(super) fn name(&mut self, number: u32) -> Result<&str, IndexError> {
        if !self.known.contains_key(&number) {
            let name = match self.new.iter().find(|(n, _)| *n == number) {
                Some((_, name)) => name.clone(),
                None => self.index.name(number)?,
            };
            self.known.insert(number, name);
        }
        self.known.get(&number).map(String::as_str).ok_or(IndexError::Damaged)
    }

    /// The names that are new.
    pub(super) fn new_names(&self) -> &[(u32, String)] {
        &self.new
    }
}

//! Numbers and names: the index calls files, runs and batches by number.

use std::collections::HashMap;

use alluvium_lake::index::{IndexError, KeyIndex};
use alluvium_lake::{FileId, Table};
use alluvium_model::StageError;

/// The table's files by their numbers in the index.
#[derive(Debug, Default)]
pub(super) struct FileNumbers {
    paths: HashMap<u32, String>,
}

impl FileNumbers {
    /// Reads the numbers of the table's files from the index.
    pub(super) fn load(index: &KeyIndex, table: &Table) -> Result<Self, IndexError> {
        let mut paths = index.names()?;
        paths.retain(|_, path| table.file_by_path(path).is_some());
        Ok(Self { paths })
    }

    /// The file with a number.
    pub(super) fn file(&self, table: &Table, number: u32) -> Result<FileId, StageError> {
        self.paths
            .get(&number)
            .and_then(|path| table.file_by_path(path))
            .map(|file| file.id)
            .ok_or_else(|| {
                StageError::Bug(format!("the key index names file {number}, which is not there"))
            })
    }

    /// Takes over a new file's number.
    pub(super) fn add(&mut self, number: u32, path: String) {
        self.paths.insert(number, path);
    }

    /// Forgets files that are no longer part of the table.
    pub(super) fn keep_only(&mut self, table: &Table) {
        self.paths.retain(|_, path| table.file_by_path(path).is_some());
    }
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

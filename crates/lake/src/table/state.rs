//! What a table is at one version: its files and what the log says beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use deltalake::kernel::{Add, DeletionVectorDescriptor, Remove};
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deletion;
use super::entry::{Entry, Protocol, TableMetadata};
use super::tombstone::Tombstone;
use crate::LakeError;

/// A file of a table, as one handle calls it. Another handle may call it otherwise: what lasts is
/// the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub u32);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A Parquet file of a table.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// What this handle calls it.
    pub id: FileId,
    /// Where it stands, relative to the table.
    pub path: String,
    /// How many rows it holds, deleted ones among them.
    pub rows: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The value of the partition column, where the table has one.
    pub current: Option<bool>,
    /// Which of its rows, counted from 0, are deleted.
    pub deleted: RoaringTreemap,
    /// Where that is written.
    pub deletion_vector: Option<DeletionVectorDescriptor>,
    /// When it was written, in milliseconds since 1970.
    pub written_at_ms: i64,
    /// What its log entry says of the values, as JSON.
    pub stats: String,
}

/// The table at one version.
#[derive(Debug)]
pub(super) struct State {
    pub(super) version: i64,
    /// A hash of the version's entry, where it is known.
    pub(super) entry: Option<u128>,
    pub(super) protocol: Protocol,
    pub(super) metadata: TableMetadata,
    pub(super) txns: HashMap<String, i64>,
    pub(super) info: Option<Value>,
    pub(super) files: BTreeMap<FileId, DataFile>,
    pub(super) by_path: HashMap<String, FileId>,
    /// Files whose deletion vector has not been read yet.
    pub(super) unread: BTreeSet<FileId>,
    /// What no version refers to any more, by where it stands: data files and files of deletion
    /// vectors, each with the last action that removed it.
    pub(super) gone: HashMap<String, Arc<Tombstone>>,
    /// The version of the newest checkpoint; -1 if there is none.
    pub(super) checkpoint: i64,
    next: u32,
}

/// What of a file's statistics is needed here.
#[derive(Deserialize)]
struct RowCount {
    #[serde(rename = "numRecords")]
    rows: u64,
}

impl State {
    /// The state before any entry. It is a table only once it has a protocol and metadata.
    pub(super) fn empty() -> Self {
        Self {
            version: -1,
            entry: None,
            protocol: Protocol::default(),
            metadata: TableMetadata::default(),
            txns: HashMap::new(),
            info: None,
            files: BTreeMap::new(),
            by_path: HashMap::new(),
            unread: BTreeSet::new(),
            gone: HashMap::new(),
            checkpoint: -1,
            next: 0,
        }
    }

    /// Takes over what the entry at `version` says. Deletion vectors are only noted.
    pub(super) fn apply(&mut self, version: i64, entry: Entry) -> Result<(), LakeError> {
        let mut gone: HashSet<String> = entry.removes.iter().map(|r| r.path.clone()).collect();
        for add in entry.adds {
            gone.remove(&add.path);
            self.put(add)?;
        }
        for path in gone {
            self.remove(&path);
        }
        entry.removes.into_iter().try_for_each(|remove| self.bury(remove))?;
        self.txns.extend(entry.txns);
        if let Some(protocol) = entry.protocol {
            self.protocol = protocol;
        }
        if let Some(metadata) = entry.metadata {
            self.metadata = metadata;
        }
        if entry.info.is_some() {
            self.info = entry.info;
        }
        self.reached(version, entry.hash);
        Ok(())
    }

    /// Notes which version this is now, by a hash of its entry.
    pub(super) fn reached(&mut self, version: i64, entry: u128) {
        (self.version, self.entry) = (version, Some(entry));
    }

    /// Adds a file, or takes over its new deletion vector if it is there.
    fn put(&mut self, add: Add) -> Result<(), LakeError> {
        let id = match self.by_path.get(&add.path) {
            Some(id) => *id,
            None => self.next_id(),
        };
        self.unread.insert(id);
        self.insert(DataFile {
            id,
            rows: rows_of(&add)?,
            size: u64::try_from(add.size).unwrap_or(0),
            current: partition_value(&add)?,
            deleted: RoaringTreemap::new(),
            deletion_vector: add.deletion_vector,
            written_at_ms: add.modification_time,
            stats: add.stats.unwrap_or_default(),
            path: add.path,
        });
        Ok(())
    }

    /// Remembers what an action removed: the file, unless it stays under another deletion vector,
    /// and the vector's own file.
    pub(super) fn bury(&mut self, remove: Remove) -> Result<(), LakeError> {
        let vector = remove.deletion_vector.as_ref().map(deletion::path_of).transpose();
        // What no path can be told of, no file is kept for.
        let vector = vector.ok().flatten();
        let file = (!self.by_path.contains_key(&remove.path)).then(|| remove.path.clone());
        let mut paths = vector.into_iter().chain(file).peekable();
        if paths.peek().is_none() {
            // It stays, and has its first vector.
            return Ok(());
        }
        let tombstone = Arc::new(Tombstone::of(remove)?);
        for path in paths {
            // A checkpoint tells of them in no order, and one file has the vectors of many.
            let known = self.gone.get(&path);
            if known.is_none_or(|known| known.at_ms <= tombstone.at_ms) {
                self.gone.insert(path, Arc::clone(&tombstone));
            }
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, file: DataFile) {
        self.gone.remove(&file.path);
        self.by_path.insert(file.path.clone(), file.id);
        self.files.insert(file.id, file);
    }

    pub(super) fn remove(&mut self, path: &str) {
        if let Some(id) = self.by_path.remove(path) {
            self.files.remove(&id);
            self.unread.remove(&id);
        }
    }

    pub(super) fn next_id(&mut self) -> FileId {
        let id = FileId(self.next);
        self.next += 1;
        id
    }

    /// Gives the files ids in the order of their paths, as at the end of a first load.
    pub(super) fn number_by_path(&mut self) {
        let mut files: Vec<DataFile> = std::mem::take(&mut self.files).into_values().collect();
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let unread = std::mem::take(&mut self.unread);
        (self.next, self.by_path) = (0, HashMap::new());
        for mut file in files {
            let before = std::mem::replace(&mut file.id, self.next_id());
            if unread.contains(&before) {
                self.unread.insert(file.id);
            }
            self.insert(file);
        }
    }

    /// That the table has exactly the features we mean, no fewer and no more.
    pub(super) fn check_protocol(
        &self,
        path: &Path,
        deletion_vectors: bool,
    ) -> Result<(), LakeError> {
        let meant = Protocol::meant(deletion_vectors);
        if self.protocol.is_same(&meant) {
            return Ok(());
        }
        Err(LakeError::Mismatch(format!(
            "{path} has the protocol {}, and not {}: another program changed it",
            self.protocol, meant
        )))
    }
}

/// The path in the lake of what stands at `relative` in the table at `table`.
pub(super) fn join(table: &Path, relative: &str) -> Result<Path, LakeError> {
    Path::parse(format!("{table}/{relative}"))
        .map_err(|e| LakeError::Corrupt(format!("{table} refers to `{relative}`: {e}")))
}

fn rows_of(add: &Add) -> Result<u64, LakeError> {
    let stats = add.stats.as_deref().unwrap_or("{}");
    serde_json::from_str(stats).map(|count: RowCount| count.rows).map_err(|_| {
        LakeError::Mismatch(format!(
            "{} was not written by us: its entry has no row count",
            add.path
        ))
    })
}

fn partition_value(add: &Add) -> Result<Option<bool>, LakeError> {
    match add.partition_values.values().next() {
        None => Ok(None),
        Some(Some(text)) if text == "true" => Ok(Some(true)),
        Some(Some(text)) if text == "false" => Ok(Some(false)),
        Some(_) => Err(LakeError::Mismatch(format!(
            "{} was not written by us: its partition value is neither true nor false",
            add.path
        ))),
    }
}

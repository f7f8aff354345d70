//! A log entry: the lines of one commit, written and read.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use deltalake::kernel::{Action, Add, Remove, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::{TableSpec, schema};
use crate::{Lake, LakeError};

/// Where in `commitInfo` our own words stand.
const OURS: &str = "alluvium";
/// Where in `commitInfo` the number of further lines stands: a torn entry is known by it, even one
/// that was torn between lines.
const LINES: &str = "alluviumLines";
const ENGINE: &str = concat!("alluvium/", env!("CARGO_PKG_VERSION"));

/// What an entry says, as far as it concerns us.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) protocol: Option<Protocol>,
    pub(super) metadata: Option<TableMetadata>,
    pub(super) txns: Vec<(String, i64)>,
    pub(super) removes: Vec<Remove>,
    pub(super) adds: Vec<Add>,
    pub(super) info: Option<Value>,
    /// Whether this program wrote it.
    pub(super) is_ours: bool,
    /// Tells it from all others.
    pub(super) hash: u128,
}

/// A hash of an entry's bytes.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// What a reader and a writer of the table must know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    min_reader_version: i32,
    min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reader_features: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer_features: Option<BTreeSet<String>>,
}

/// The table's description in its log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TableMetadata {
    id: String,
    #[serde(default)]
    description: Option<String>,
    format: Value,
    /// The columns, in Delta's own JSON.
    pub(super) schema_string: String,
    /// The partition columns.
    pub(super) partition_columns: Vec<String>,
    #[serde(default)]
    configuration: HashMap<String, String>,
    #[serde(default)]
    created_time: Option<i64>,
}

/// One line, as far as it concerns us. What else a line may say is none of ours.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    add: Option<Add>,
    remove: Option<Remove>,
    txn: Option<Transaction>,
    protocol: Option<Protocol>,
    meta_data: Option<TableMetadata>,
    commit_info: Option<HashMap<String, Value>>,
}

/// An entry to be written.
pub(super) struct Draft {
    info: HashMap<&'static str, Value>,
    lines: Vec<Vec<u8>>,
}

impl Entry {
    /// Reads an entry. `Err` says in what way it is no entry.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut entry = Entry::default();
        let (mut lines, mut expected) = (0u64, None);
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
            lines += 1;
            if let Some(count) = line.commit_info.as_ref().and_then(|info| info.get(LINES)) {
                expected = count.as_u64();
            }
            entry.take(line);
        }
        match (lines, expected) {
            (0, _) => Err("it is empty".to_owned()),
            (_, Some(expected)) if lines != expected + 1 => {
                Err(format!("it has {lines} lines of {}", expected + 1))
            }
            (_, expected) => Ok(Entry { is_ours: expected.is_some(), hash: hash(bytes), ..entry }),
        }
    }

    fn take(&mut self, line: Line) {
        self.adds.extend(line.add);
        self.removes.extend(line.remove);
        self.txns.extend(line.txn.map(|txn| (txn.app_id, txn.version)));
        self.protocol = line.protocol.or(self.protocol.take());
        self.metadata = line.meta_data.or(self.metadata.take());
        let info = line.commit_info.and_then(|mut info| info.remove(OURS));
        self.info = info.or(self.info.take());
    }

    /// The first entry of a table.
    pub(super) fn creation(lake: &Lake, spec: &TableSpec) -> Result<Vec<u8>, LakeError> {
        let now = lake.clock().now().as_millisecond();
        // What commits say of themselves lasts as long as we clean the log: others do not know of it.
        let mut properties = vec![("delta.enableExpiredLogCleanup", "false")];
        if spec.deletion_vectors {
            properties.push(("delta.enableDeletionVectors", "true"));
        }
        let configuration =
            properties.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let metadata = TableMetadata {
            id: Uuid::new_v4().to_string(),
            description: Some(spec.description.clone()),
            format: json!({"provider": "parquet", "options": {}}),
            schema_string: schema::to_json(&spec.schema)?,
            partition_columns: spec.partition_by.map(str::to_owned).into_iter().collect(),
            configuration: configuration.collect(),
            created_time: Some(now),
        };
        let mut draft = Draft::new("CREATE TABLE", now);
        draft.protocol(&Protocol::meant(spec.deletion_vectors))?;
        draft.metadata(&metadata)?;
        draft.finish()
    }

    /// An entry that gives the table other columns.
    pub(super) fn new_metadata(
        lake: &Lake,
        metadata: &TableMetadata,
    ) -> Result<Vec<u8>, LakeError> {
        let mut draft = Draft::new("CHANGE COLUMNS", lake.clock().now().as_millisecond());
        draft.metadata(metadata)?;
        draft.finish()
    }
}

impl TableMetadata {
    /// The same description for the table that `before` describes: it stays that table, with the
    /// name and the age that readers know it by.
    pub(super) fn in_place_of(self, before: &Self) -> Self {
        Self { id: before.id.clone(), created_time: before.created_time, ..self }
    }
}

impl Draft {
    pub(super) fn new(operation: &'static str, now_ms: i64) -> Self {
        let info = HashMap::from([
            ("timestamp", json!(now_ms)),
            ("operation", json!(operation)),
            ("operationParameters", json!({})),
            ("engineInfo", json!(ENGINE)),
            // No two entries are the same bytes: who finds these finds his own.
            ("txnId", json!(Uuid::new_v4())),
        ]);
        Self { info, lines: Vec::new() }
    }

    /// What the commit says of itself; null says nothing.
    pub(super) fn inform(&mut self, info: Value) {
        if !info.is_null() {
            self.info.insert(OURS, info);
        }
    }

    pub(super) fn txn(&mut self, app_id: &str, version: i64, now_ms: i64) -> Result<(), LakeError> {
        self.push(&Action::Txn(Transaction::new_with_last_update(app_id, version, Some(now_ms))))
    }

    pub(super) fn remove(&mut self, remove: Remove) -> Result<(), LakeError> {
        self.push(&Action::Remove(remove))
    }

    pub(super) fn add(&mut self, add: Add) -> Result<(), LakeError> {
        self.push(&Action::Add(add))
    }

    pub(super) fn protocol(&mut self, protocol: &Protocol) -> Result<(), LakeError> {
        self.push(&json!({ "protocol": protocol }))
    }

    pub(super) fn metadata(&mut self, metadata: &TableMetadata) -> Result<(), LakeError> {
        self.push(&json!({ "metaData": metadata }))
    }

    fn push(&mut self, line: &impl Serialize) -> Result<(), LakeError> {
        self.lines.push(line_of(line)?);
        Ok(())
    }

    /// The lines alone, as a checkpoint holds them, and how many they are.
    pub(super) fn into_lines(self) -> (Vec<u8>, usize) {
        (self.lines.join(&b'\n'), self.lines.len())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, LakeError> {
        self.info.insert(LINES, json!(self.lines.len()));
        let mut entry = serde_json::to_vec(&json!({"commitInfo": self.info})).map_err(writing)?;
        for line in self.lines {
            entry.push(b'\n');
            entry.extend(line);
        }
        entry.push(b'\n');
        Ok(entry)
    }
}

/// The line that tells of something that was removed.
pub(super) fn removal(remove: Remove) -> Result<Vec<u8>, LakeError> {
    line_of(&Action::Remove(remove))
}

fn line_of(line: &impl Serialize) -> Result<Vec<u8>, LakeError> {
    serde_json::to_vec(line).map_err(writing)
}

impl Protocol {
    /// The least that says what the table is.
    pub(super) fn meant(deletion_vectors: bool) -> Self {
        if !deletion_vectors {
            return Self { min_reader_version: 1, min_writer_version: 2, ..Self::default() };
        }
        let features = Some(BTreeSet::from([DELETION_VECTORS.to_owned()]));
        Self {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: features.clone(),
            writer_features: features,
        }
    }

    pub(super) fn has_deletion_vectors(&self) -> bool {
        self.reader_features.as_ref().is_some_and(|f| f.contains(DELETION_VECTORS))
    }

    /// No features and an empty set of them are the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let none = BTreeSet::new();
        let all = |p: &Self| {
            (
                p.min_reader_version,
                p.min_writer_version,
                p.reader_features.clone().unwrap_or_else(|| none.clone()),
                p.writer_features.clone().unwrap_or_else(|| none.clone()),
            )
        };
        all(self) == all(other)
    }
}

const DELETION_VECTORS: &str = "deletionVectors";

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.min_reader_version, self.min_writer_version)?;
        let empty = BTreeSet::new();
        for feature in self.writer_features.as_ref().unwrap_or(&empty) {
            write!(f, " {feature}")?;
        }
        Ok(())
    }
}

fn writing(error: serde_json::Error) -> LakeError {
    LakeError::Bug(format!("a log entry cannot be written: {error}"))
}

//! Checkpoints: the whole state in one Parquet file, so that a reader need not read the log from
//! its beginning, and old entries can go.
//!
//! The file is what Delta prescribes, and any reader begins at it. What the newest commit said of
//! itself stands in the file's own metadata: readers do not look there, and it lasts as long as the
//! checkpoint does.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use object_store::PutPayload;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::entry::{Draft, Entry};
use super::tombstone::{Tombstone, Unpacker};
use super::{Table, log};
use crate::store::Blob;
use crate::{Lake, LakeError};

/// The key, in the file's metadata, of what the newest commit said of itself.
const INFO: &str = "alluvium.info";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A checkpoint as it was read.
pub(super) struct Checkpoint {
    pub(super) entry: Entry,
    /// Whether we wrote it: then it holds all that we need.
    pub(super) is_ours: bool,
}

/// A checkpoint that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointWritten {
    /// The version that it is of.
    pub version: i64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A checkpoint that is to be written, of the table as it stood. Writing it may take its time beside
/// the writer.
#[derive(Debug)]
pub struct CheckpointDraft {
    lake: Lake,
    table: Path,
    version: i64,
    info: Value,
    /// The lines of what is there, and of what was removed.
    lines: Vec<u8>,
    tombstones: Vec<Arc<Tombstone>>,
    actions: usize,
    files: usize,
}

impl Table {
    /// Writes a checkpoint of the version that this handle is at. What was removed before
    /// `buried_before_ms`, in milliseconds since 1970, is forgotten, here and in it.
    pub async fn write_checkpoint(
        &mut self,
        buried_before_ms: i64,
    ) -> Result<CheckpointWritten, LakeError> {
        let written = self.draft_checkpoint(buried_before_ms)?.write().await?;
        self.checkpointed(&written);
        Ok(written)
    }

    /// [`write_checkpoint`](Self::write_checkpoint) to be done beside the writer, who then says
    /// that it is [written](Self::checkpointed).
    pub fn draft_checkpoint(
        &mut self,
        buried_before_ms: i64,
    ) -> Result<CheckpointDraft, LakeError> {
        self.forget_buried(buried_before_ms);
        let state = &self.state;
        let mut draft = Draft::new("CHECKPOINT", 0);
        draft.protocol(&state.protocol)?;
        draft.metadata(&state.metadata)?;
        for (app_id, version) in &state.txns {
            draft.txn(app_id, *version, self.lake.clock().now().as_millisecond())?;
        }
        for file in self.files() {
            let add = self.add_action(file, file.deletion_vector.clone());
            draft.add(deltalake::kernel::Add { data_change: false, ..add })?;
        }
        let (lines, actions) = draft.into_lines();
        Ok(CheckpointDraft {
            lake: self.lake.clone(),
            table: self.path.clone(),
            version: state.version,
            info: state.info.clone().unwrap_or_default(),
            lines,
            tombstones: state.gone.values().cloned().collect(),
            actions,
            files: state.files.len(),
        })
    }

    /// Takes over that a checkpoint stands.
    pub fn checkpointed(&mut self, written: &CheckpointWritten) {
        self.state.checkpoint = self.state.checkpoint.max(written.version);
    }

    /// How many commits a reader has to read after the newest checkpoint.
    pub fn commits_since_checkpoint(&self) -> u64 {
        u64::try_from(self.state.version - self.state.checkpoint.max(0)).unwrap_or(0)
    }

    /// How many lines a checkpoint would have, about.
    pub fn checkpoint_lines(&self) -> u64 {
        (self.state.files.len() + self.state.gone.len()) as u64
    }

    /// Forgets what was removed before the time given, in milliseconds since 1970. Who writes no
    /// checkpoints and removes no files needs none of it.
    pub fn forget_buried(&mut self, before_ms: i64) {
        self.state.gone.retain(|_, tombstone| tombstone.at_ms >= Some(before_ms));
    }
}

impl CheckpointDraft {
    /// Writes it, durably.
    pub async fn write(self) -> Result<CheckpointWritten, LakeError> {
        let Self { lake, table, version, info, lines, mut tombstones, mut actions, files } = self;
        let encoded = tokio::task::spawn_blocking(move || {
            // What a file left and what its vector left may be told by one line.
            tombstones.sort_unstable_by(|a, b| a.packed.cmp(&b.packed));
            tombstones.dedup_by(|a, b| a.packed == b.packed);
            actions += tombstones.len();
            encode(&lines, &tombstones, &info).map(|bytes| (bytes, actions))
        });
        let (bytes, actions) = encoded
            .await
            .map_err(LakeError::lost)?
            .map_err(|e| LakeError::Bug(format!("writing a checkpoint: {e}")))?;
        let size = bytes.len() as u64;
        // Others begin with it: whoever is not the writer any more leaves it alone.
        let guard = || lake.guard(|| format!("writing the checkpoint {version} of {table}"));
        guard()?;
        lake.put(&path(&table, version), PutPayload::from(bytes)).await?;
        let hint = json!({
            "version": version, "size": actions, "sizeInBytes": size, "numOfAddFiles": files,
        });
        let hint_path = log::folder(&table).join("_last_checkpoint");
        guard()?;
        lake.put(&hint_path, PutPayload::from(hint.to_string())).await?;
        Ok(CheckpointWritten { version, bytes: size })
    }
}

/// Reads the checkpoint of a version: it holds the very lines that an entry consists of.
pub(super) async fn read(lake: &Lake, table: &Path, version: i64) -> Result<Checkpoint, LakeError> {
    let path = path(table, version);
    let blob = lake.open(&path).await?;
    let read = tokio::task::spawn_blocking(move || decode(blob)).await.map_err(LakeError::lost)?;
    read.and_then(|(lines, info)| {
        let entry = Entry::parse(&lines)?;
        let is_ours = info.is_some();
        let info = info.filter(|info| !info.is_null()).or(entry.info);
        Ok(Checkpoint { entry: Entry { info, ..entry }, is_ours })
    })
    .map_err(|how| LakeError::Corrupt(format!("{path} cannot be read: {how}")))
}

/// Where the checkpoint of a version stands.
pub(super) fn path(table: &Path, version: i64) -> Path {
    log::folder(table).join(format!("{version:020}.checkpoint.parquet"))
}

/// Tombstones go in one by one: all of their lines together may be large.
fn encode(lines: &[u8], tombstones: &[Arc<Tombstone>], info: &Value) -> Result<Vec<u8>, Failure> {
    let schema = schema();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_key_value_metadata(Some(vec![KeyValue::new(INFO.to_owned(), info.to_string())]))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties))?;
    let mut rows = ReaderBuilder::new(schema).build_decoder()?;
    let mut put = |mut lines: &[u8]| -> Result<(), Failure> {
        loop {
            lines = &lines[rows.decode(lines)?..];
            if lines.is_empty() {
                return Ok(());
            }
            // It holds so many rows and no more.
            if let Some(batch) = rows.flush()? {
                writer.write(&batch)?;
            }
        }
    };
    put(lines)?;
    let mut unpacker = Unpacker::new()?;
    for tombstone in tombstones {
        put(&unpacker.line(tombstone)?)?;
    }
    if let Some(batch) = rows.flush()? {
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(bytes)
}

fn decode(blob: Blob) -> Result<(Vec<u8>, Option<Value>), Failure> {
    let mut lines = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut lines);
    let builder = ParquetRecordBatchReaderBuilder::try_new(blob)?;
    let told = builder.metadata().file_metadata().key_value_metadata();
    let told = told.and_then(|told| told.iter().find(|pair| pair.key == INFO));
    let info = told.and_then(|pair| serde_json::from_str(pair.value.as_deref()?).ok());
    for batch in builder.build()? {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    drop(writer);
    Ok((lines, info))
}

/// The columns that Delta prescribes, as far as we fill them.
fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let vector = || {
        group(
            "deletionVector",
            vec![
                text("storageType"),
                text("pathOrInlineDv"),
                int("offset"),
                int("sizeInBytes"),
                long("cardinality"),
            ],
        )
    };
    Arc::new(Schema::new(vec![
        group("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        group(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                long("size"),
                long("modificationTime"),
                flag("dataChange"),
                text("stats"),
                map("tags"),
                vector(),
            ],
        ),
        group(
            "remove",
            vec![
                text("path"),
                long("deletionTimestamp"),
                flag("dataChange"),
                flag("extendedFileMetadata"),
                map("partitionValues"),
                long("size"),
                vector(),
            ],
        ),
        group(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                group("format", vec![text("provider"), map("options")]),
                text("schemaString"),
                list("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        group(
            "protocol",
            vec![
                int("minReaderVersion"),
                int("minWriterVersion"),
                list("readerFeatures"),
                list("writerFeatures"),
            ],
        ),
    ]))
}

fn group(name: &str, fields: Vec<Field>) -> Field {
    Field::new(name, DataType::Struct(Fields::from(fields)), true)
}

fn list(name: &str) -> Field {
    let element = Field::new("element", DataType::Utf8, true);
    Field::new(name, DataType::List(Arc::new(element)), true)
}

fn map(name: &str) -> Field {
    let pair =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let pairs = Field::new("key_value", DataType::Struct(Fields::from(pair)), false);
    Field::new(name, DataType::Map(Arc::new(pairs), false), true)
}

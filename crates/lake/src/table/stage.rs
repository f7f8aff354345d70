//! New files: from rows to Parquet, written beside the table until a commit names them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::PutPayload;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::{Table, stats};
use crate::LakeError;

/// A largest batch fits in one row group.
const ROWS_PER_GROUP: usize = 1 << 18;
/// So many rows are looked at to see whether a column repeats itself.
const SAMPLE: usize = 1024;
/// How long the digests are that rows carry.
const DIGEST: usize = 16;
/// A column whose sample has more values than this gets no dictionary.
const FEW: usize = 128;

/// A file that is written, but not yet part of the table, nor durable before the commit.
#[derive(Debug, Clone)]
pub struct StagedFile {
    /// Where it stands, relative to the table.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// The value of the partition column, where the table has one.
    pub current: Option<bool>,
    /// What its log entry will say of the values, as JSON.
    pub stats: String,
}

impl Table {
    /// Writes rows to a new file beside the table. `batch` holds all columns but that of the
    /// partition, whose value is `current`. If no commit follows, the file stays an orphan, which
    /// does no harm.
    pub async fn stage_file(
        &self,
        batch: &RecordBatch,
        current: Option<bool>,
    ) -> Result<StagedFile, LakeError> {
        self.stage_file_as(self.new_file_name(current), batch, current).await
    }

    /// The same under a name made beforehand by [`Table::new_file_name`].
    pub async fn stage_file_as(
        &self,
        path: String,
        batch: &RecordBatch,
        current: Option<bool>,
    ) -> Result<StagedFile, LakeError> {
        if current.is_some() != self.partition_by.is_some() || batch.num_rows() == 0 {
            return Err(LakeError::Bug(format!(
                "{}: a file of {} rows with the partition value {current:?}",
                self.path,
                batch.num_rows()
            )));
        }
        let batch = self.arrange(batch)?;
        let (columns, vectors) = (self.stats.clone(), self.deletion_vectors);
        let rows = batch.num_rows() as u64;
        let (bytes, stats) = tokio::task::spawn_blocking(move || {
            let stats = stats::of(&batch, &columns, vectors)?;
            let bytes =
                encode(&batch).map_err(|e| LakeError::Bug(format!("writing Parquet: {e}")))?;
            Ok::<_, LakeError>((bytes, stats))
        })
        .await
        .map_err(LakeError::lost)??;
        let size = bytes.len() as u64;
        self.lake.put_unsynced(&self.path_of(&path)?, PutPayload::from(bytes)).await?;
        Ok(StagedFile { path, size, rows, current, stats })
    }

    /// A name that no other file has, relative to the table.
    pub fn new_file_name(&self, current: Option<bool>) -> String {
        let name = format!("part-{}.zstd.parquet", Uuid::new_v4());
        match (&self.partition_by, current) {
            (Some(column), Some(value)) => format!("{column}={value}/{name}"),
            _ => name,
        }
    }

    /// The columns in the table's order, each of the table's own type: nothing is cast.
    fn arrange(&self, batch: &RecordBatch) -> Result<RecordBatch, LakeError> {
        let wrong = |what: String| LakeError::Bug(format!("{}: {what}", self.path));
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in self.schema.fields() {
            if self.partition_by.as_ref() == Some(field.name()) {
                continue;
            }
            let column = batch
                .column_by_name(field.name())
                .ok_or_else(|| wrong(format!("the rows have no column `{}`", field.name())))?;
            if column.data_type() != field.data_type() {
                return Err(wrong(format!(
                    "column `{}` is {} and came as {}",
                    field.name(),
                    field.data_type(),
                    column.data_type()
                )));
            }
            fields.push(Field::new(field.name(), field.data_type().clone(), field.is_nullable()));
            columns.push(Arc::clone(column));
        }
        if columns.len() != batch.num_columns() {
            return Err(wrong("the rows have columns that the table has not".to_owned()));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|e| wrong(e.to_string()))
    }
}

fn encode(batch: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    let mut bytes = Vec::with_capacity(batch.get_array_memory_size() / 4);
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties(batch)?))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(bytes)
}

/// How a file that begins with `batch` is written.
pub(super) fn properties(batch: &RecordBatch) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_enabled(false)
        .set_created_by(concat!("alluvium ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let path = ColumnPath::from(field.name().as_str());
        if repeats_itself(column) {
            properties = properties.set_column_dictionary_enabled(path, true);
        } else if is_digest(column) {
            properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
        }
    }
    Ok(properties.build())
}

/// Whether a column is text of few values, as far as a sample shows: a dictionary costs more than
/// it saves on all others.
fn repeats_itself(column: &ArrayRef) -> bool {
    let step = (column.len() / SAMPLE).max(1);
    match column.data_type() {
        DataType::Utf8 => are_few(column.as_string::<i32>().iter().step_by(step)),
        DataType::LargeUtf8 => are_few(column.as_string::<i64>().iter().step_by(step)),
        DataType::Utf8View => are_few(column.as_string_view().iter().step_by(step)),
        _ => false,
    }
}

/// Whether a column holds digests, as far as a sample shows: nothing packs those.
fn is_digest(column: &ArrayRef) -> bool {
    let step = (column.len() / SAMPLE).max(1);
    let Some(column) = column.as_binary_opt::<i32>() else { return false };
    column.iter().step_by(step).all(|value| value.is_some_and(|value| value.len() == DIGEST))
}

fn are_few<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> bool {
    let mut seen = HashSet::new();
    values.all(|value| {
        seen.insert(value.unwrap_or_default());
        seen.len() <= FEW
    })
}

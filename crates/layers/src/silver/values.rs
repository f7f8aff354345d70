//! The values of planned rows, from wherever they are, as columns.

use std::collections::{BTreeSet, HashMap};

use alluvium_lake::index::{Cells, RowCodec, RowCodecError};
use alluvium_lake::{LakeError, Table};
use alluvium_model::StageError;
use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::batch::Values;
use super::files::FileNumbers;
use super::gather::Incoming;

/// A record batch, and a row in it.
pub(super) type Place = (usize, usize);

/// All values that a batch needs, in a few record batches.
pub(super) struct ValueSources {
    batches: Vec<RecordBatch>,
    /// Rows of the row codec, by the address of their bytes.
    stored: HashMap<usize, Place>,
    /// Rows of files, by file and row.
    files: HashMap<(u32, u32), Place>,
    /// The batch of completed rows.
    completed: Option<usize>,
}

impl ValueSources {
    /// The values that came in.
    pub(super) fn new(incoming: &Incoming) -> Self {
        let batches = incoming.decoded.iter().map(|decoded| decoded.values.clone()).collect();
        Self { batches, stored: HashMap::new(), files: HashMap::new(), completed: None }
    }

    /// Adds the values that `wanted` refers to: stored bytes are decoded, rows of closed versions
    /// read from their files.
    pub(super) async fn load(
        &mut self,
        wanted: &[Values<'_>],
        codec: &RowCodec,
        table: &Table,
        numbers: &FileNumbers,
    ) -> Result<(), StageError> {
        let batch = self.batches.len();
        let mut bytes: Vec<&[u8]> = Vec::new();
        let mut in_files: BTreeSet<(u32, u32)> = BTreeSet::new();
        for values in wanted {
            match *values {
                Values::Stored(row) => {
                    self.stored.entry(row.as_ptr().addr()).or_insert_with(|| {
                        bytes.push(row);
                        (batch, bytes.len() - 1)
                    });
                }
                Values::File(file, row) if !self.files.contains_key(&(file, row)) => {
                    in_files.insert((file, row));
                }
                _ => {}
            }
        }
        if !bytes.is_empty() {
            self.batches.push(codec.read(bytes.iter().copied()).map_err(|e| damaged(&e))?);
        }
        let names: Vec<&str> = codec.schema().fields().iter().map(|f| f.name().as_str()).collect();
        for (id, places) in numbers.by_file(table, in_files)? {
            let rows: Vec<u64> = places.iter().map(|(row, _)| *row).collect();
            let batch = table.read_rows(id, &rows, Some(&names)).await.map_err(lake_error)?;
            for (at, (_, named)) in places.into_iter().enumerate() {
                self.files.insert(named, (self.batches.len(), at));
            }
            self.batches.push(batch);
        }
        Ok(())
    }

    /// Adds the rows that [`Values::Completed`] names.
    pub(super) fn completed(&mut self, batch: RecordBatch) {
        self.completed = Some(self.batches.len());
        self.batches.push(batch);
    }

    /// The batch and the row in it that hold some values.
    pub(super) fn place(&self, values: Values<'_>) -> Option<Place> {
        match values {
            Values::Incoming(message, row) => Some((message as usize, row as usize)),
            Values::Stored(row) => self.stored.get(&row.as_ptr().addr()).copied(),
            Values::File(file, row) => self.files.get(&(file, row)).copied(),
            Values::Completed(row) => self.completed.map(|batch| (batch, row as usize)),
        }
    }

    /// The value columns of rows at `places`.
    pub(super) fn columns(&self, places: &[Place]) -> Result<Vec<ArrayRef>, StageError> {
        let width = self.batches.first().map_or(0, RecordBatch::num_columns);
        (0..width)
            .map(|column| {
                let sources: Vec<&dyn Array> =
                    self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                interleave(&sources, places).map_err(|e| StageError::Bug(e.to_string()))
            })
            .collect()
    }

    /// The column, and the row in it, of a value.
    pub(super) fn cell(&self, column: usize, place: Place) -> (&dyn Array, usize) {
        (self.batches[place.0].column(column).as_ref(), place.1)
    }

    /// Rows whose columns come from different places each, or are null.
    pub(super) fn patched(
        &self,
        schema: &SchemaRef,
        rows: &[&[Option<Place>]],
    ) -> Result<RecordBatch, StageError> {
        let bug = |error: arrow::error::ArrowError| StageError::Bug(error.to_string());
        let column = |at: usize| {
            let null = new_null_array(schema.field(at).data_type(), 1);
            let mut sources: Vec<&dyn Array> =
                self.batches.iter().map(|batch| batch.column(at).as_ref()).collect();
            sources.push(null.as_ref());
            let places: Vec<Place> =
                rows.iter().map(|row| row[at].unwrap_or((sources.len() - 1, 0))).collect();
            interleave(&sources, &places).map_err(bug)
        };
        let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(bug)
    }

    /// All values, to be read row by row: by batch, then by column.
    pub(super) fn typed(&self) -> Result<Vec<Vec<Cells<'_>>>, StageError> {
        let typed = self.batches.iter().map(|batch| Cells::of(batch.columns()));
        typed.collect::<Result<_, _>>().map_err(|error| StageError::Bug(error.to_string()))
    }
}

fn damaged(error: &RowCodecError) -> StageError {
    StageError::Bug(format!("the key index holds values that do not read: {error}"))
}

/// What a layer says of an error of the lake.
pub(crate) fn lake_error(error: LakeError) -> StageError {
    let text = error.detail();
    match error {
        LakeError::Full { .. } => StageError::Full(text),
        LakeError::Corrupt(_) => StageError::Corrupt(text),
        LakeError::Mismatch(_) => StageError::Mismatch(text),
        // A stage knows no such kinds, so the error says it whole.
        LakeError::Refused { .. } | LakeError::Denied { .. } | LakeError::Unfit(_) => {
            StageError::Mismatch(alluvium_model::error::chain(&error))
        }
        LakeError::Bug(_) => StageError::Bug(text),
        LakeError::Fenced(_) => StageError::Fenced(text),
        LakeError::Unavailable { .. } => StageError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_lake_says_once_of_which_kind_it_is() {
        let (what, source) = (|| "reading x".to_owned(), || "it is away".into());
        for error in [
            LakeError::Unavailable { what: what(), source: source() },
            LakeError::Full { what: what(), source: source() },
            LakeError::Refused { what: what(), source: source() },
            LakeError::Denied { what: what(), source: source() },
            LakeError::Corrupt(what()),
            LakeError::Mismatch(what()),
            LakeError::Fenced(what()),
            LakeError::Bug(what()),
        ] {
            let said = lake_error(error).to_string();
            let mut parts: Vec<&str> = said.split(": ").collect();
            assert!(parts.contains(&"reading x"), "{said}");
            let all = parts.len();
            parts.sort_unstable();
            parts.dedup();
            assert_eq!(parts.len(), all, "{said}");
        }
        let away = LakeError::Unavailable { what: what(), source: source() };
        let said = lake_error(away).to_string();
        assert_eq!(said, "the lake is not available: reading x: it is away");
    }
}

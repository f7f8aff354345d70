//! The values of planned rows, from wherever they are, as columns.

use std::collections::{BTreeMap, HashMap};

use alluvium_lake::index::{RowCodec, RowCodecError};
use alluvium_lake::{LakeError, Table};
use alluvium_model::StageError;
use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave;
use arrow::record_batch::RecordBatch;

use super::batch::{BatchPlan, Values};
use super::files::FileNumbers;
use super::gather::Incoming;

/// All values that a batch needs, in a few record batches.
pub(super) struct ValueSources {
    batches: Vec<RecordBatch>,
    /// Rows of the row codec, by the address of their bytes.
    stored: HashMap<usize, usize>,
    stored_batch: usize,
    /// Rows of files: file and row to batch and row.
    files: HashMap<(u32, u32), (usize, usize)>,
}

impl ValueSources {
    /// Collects what `plan` refers to: messages as they are, stored bytes decoded, rows of closed
    /// versions read from their files.
    pub(super) async fn collect(
        incoming: &Incoming,
        plan: &BatchPlan<'_>,
        codec: &RowCodec,
        table: &Table,
        numbers: &FileNumbers,
    ) -> Result<Self, StageError> {
        let mut batches: Vec<RecordBatch> =
            incoming.decoded.iter().map(|decoded| decoded.values.clone()).collect();
        let wanted = || {
            let hidden = plan.hidden.iter().filter_map(|hidden| hidden.values);
            plan.rows.iter().map(|row| row.values).chain(hidden)
        };
        let mut stored = HashMap::new();
        let mut bytes: Vec<&[u8]> = Vec::new();
        let mut in_files: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for values in wanted() {
            match values {
                Values::Incoming(..) => {}
                Values::Stored(row) => {
                    stored.entry(row.as_ptr().addr()).or_insert_with(|| {
                        bytes.push(row);
                        bytes.len() - 1
                    });
                }
                Values::File(file, row) => in_files.entry(file).or_default().push(u64::from(row)),
            }
        }
        let stored_batch = batches.len();
        batches.push(codec.read(bytes.iter().copied()).map_err(|e| damaged(&e))?);

        let names: Vec<&str> = codec.schema().fields().iter().map(|f| f.name().as_str()).collect();
        let mut files = HashMap::new();
        for (file, mut rows) in in_files {
            rows.sort_unstable();
            rows.dedup();
            let id = numbers.file(table, file)?;
            let batch = table.read_rows(id, &rows, Some(&names)).await.map_err(lake_error)?;
            for (at, row) in rows.iter().enumerate() {
                files.insert((file, *row as u32), (batches.len(), at));
            }
            batches.push(batch);
        }
        Ok(Self { batches, stored, stored_batch, files })
    }

    /// The batch and the row in it that hold some values.
    pub(super) fn place(&self, values: Values<'_>) -> Option<(usize, usize)> {
        match values {
            Values::Incoming(message, row) => Some((message as usize, row as usize)),
            Values::Stored(row) => {
                self.stored.get(&row.as_ptr().addr()).map(|at| (self.stored_batch, *at))
            }
            Values::File(file, row) => self.files.get(&(file, row)).copied(),
        }
    }

    /// The value columns of rows at `places`.
    pub(super) fn columns(&self, places: &[(usize, usize)]) -> Result<Vec<ArrayRef>, StageError> {
        let width = self.batches.first().map_or(0, RecordBatch::num_columns);
        (0..width)
            .map(|column| {
                let sources: Vec<&dyn Array> =
                    self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                interleave(&sources, places).map_err(|e| StageError::Bug(e.to_string()))
            })
            .collect()
    }

    /// Appends the row at `place` to `out` as the index keeps it.
    pub(super) fn put(&self, codec: &RowCodec, place: (usize, usize), out: &mut Vec<u8>) {
        codec.put(self.batches[place.0].columns(), place.1, out);
    }
}

fn damaged(error: &RowCodecError) -> StageError {
    StageError::Bug(format!("the key index holds values that do not read: {error}"))
}

/// What a layer says of an error of the lake.
pub(crate) fn lake_error(error: LakeError) -> StageError {
    let text = alluvium_model::error::chain(&error);
    match error {
        LakeError::Full { .. } => StageError::Full(text),
        LakeError::Corrupt(_) => StageError::Corrupt(text),
        LakeError::Mismatch(_) | LakeError::Refused { .. } => StageError::Mismatch(text),
        LakeError::Bug(_) => StageError::Bug(text),
        LakeError::Unavailable { .. } => StageError::Unavailable(text),
    }
}

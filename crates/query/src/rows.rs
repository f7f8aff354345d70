//! The answer to a statement, batch by batch.

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use crate::QueryError;

/// The rows of an answer, computed as they are asked for. Dropping it ends the work.
pub struct Rows {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    left: u64,
    truncated: bool,
}

impl Rows {
    pub(crate) fn new(stream: SendableRecordBatchStream, limit: Option<u64>) -> Self {
        let left = limit.unwrap_or(u64::MAX);
        Self { schema: stream.schema(), stream, left, truncated: false }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows, never none of them; `None` after the last, and when the limit is reached.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        while !self.truncated {
            let Some(batch) = self.stream.next().await.transpose()? else { return Ok(None) };
            let rows = batch.num_rows() as u64;
            if rows == 0 {
                continue;
            }
            self.truncated = rows > self.left;
            let taken = rows.min(self.left);
            self.left -= taken;
            if taken > 0 {
                // No more rows are taken than the batch has, whose count is a usize.
                return Ok(Some(batch.slice(0, taken as usize)));
            }
        }
        Ok(None)
    }

    /// All rows at once. For answers that are known to be small.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Whether the limit kept rows back. Known only once [`next`](Self::next) gave `None`.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

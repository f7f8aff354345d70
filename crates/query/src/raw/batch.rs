//! Raw records as columns: only those that are asked for are made.

use std::sync::Arc;

use alluvium_model::Message;
use arrow::array::{
    ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

pub(super) const POSITION: &str = "position";
const PUBLISHED_AT: &str = "published_at";
const HEADERS: &str = "headers";
const RECORD: &str = "record";

const ROWS: usize = 8_192;
const BYTES: usize = 4 << 20;

/// The columns of every raw table.
pub(super) fn schema() -> SchemaRef {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new(POSITION, DataType::Utf8, false),
        Field::new(PUBLISHED_AT, instant, false),
        Field::new(HEADERS, DataType::Utf8, false),
        Field::new(RECORD, DataType::Utf8, false),
    ]))
}

/// Collects records until there are enough of them.
pub(super) struct RawBatch {
    schema: SchemaRef,
    columns: Vec<Column>,
    headers: String,
    rows: usize,
    bytes: usize,
}

enum Column {
    Position(StringBuilder),
    PublishedAt(TimestampMicrosecondBuilder),
    Headers(StringBuilder),
    Record(StringBuilder),
}

impl RawBatch {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            POSITION => Column::Position(StringBuilder::new()),
            PUBLISHED_AT => {
                Column::PublishedAt(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
            HEADERS => Column::Headers(StringBuilder::new()),
            _ => Column::Record(StringBuilder::new()),
        });
        let columns = columns.collect();
        Self { schema: Arc::clone(schema), columns, headers: String::new(), rows: 0, bytes: 0 }
    }

    /// Prepares for the records of `message`.
    pub(super) fn begin(&mut self, message: &Message) {
        if self.columns.iter().any(|column| matches!(column, Column::Headers(_))) {
            // Text of names and values is always JSON.
            self.headers = serde_json::to_string(&message.headers).unwrap_or_default();
        }
    }

    pub(super) fn push(&mut self, message: &Message, index: u32, line: &[u8]) {
        for column in &mut self.columns {
            match column {
                Column::Position(texts) => texts.append_value(message.position(index).to_string()),
                Column::PublishedAt(times) => times.append_value(message.published_at_us),
                Column::Headers(texts) => texts.append_value(&self.headers),
                Column::Record(texts) => texts.append_value(String::from_utf8_lossy(line)),
            }
        }
        self.rows += 1;
        self.bytes += line.len() + self.headers.len();
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }

    /// The records collected since the last time.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let finish = |column: &mut Column| -> ArrayRef {
            match column {
                Column::PublishedAt(times) => Arc::new(times.finish()),
                Column::Position(texts) | Column::Headers(texts) | Column::Record(texts) => {
                    Arc::new(texts.finish())
                }
            }
        };
        let columns = self.columns.iter_mut().map(finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

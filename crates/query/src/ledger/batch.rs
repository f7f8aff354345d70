//! The ledger's rows as columns.

use std::sync::Arc;

use alluvium_ledger::{LedgerError, LedgerRow};
use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder,
};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;

const ROWS: usize = 4_096;

/// Collects rows until there are enough of them.
pub(super) struct LedgerBatch {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    Number(Int64Builder),
    Bytes(BinaryBuilder),
    Text(StringBuilder),
}

impl LedgerBatch {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: Arc::clone(schema), columns: columns(schema), rows: 0 }
    }

    pub(super) fn push(&mut self, row: &LedgerRow) -> Result<(), LedgerError> {
        for (index, column) in self.columns.iter_mut().enumerate() {
            match column {
                Column::Number(values) => values.append_option(row.number(index)?),
                Column::Bytes(values) => values.append_option(row.bytes(index)?),
                Column::Text(values) => values.append_option(row.text(index)?),
            }
        }
        self.rows += 1;
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS
    }

    /// The rows collected since the last time.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let finish = |column: &mut Column| -> ArrayRef {
            match column {
                Column::Number(values) => Arc::new(values.finish()),
                Column::Bytes(values) => Arc::new(values.finish()),
                Column::Text(values) => Arc::new(values.finish()),
            }
        };
        let columns = self.columns.iter_mut().map(finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

fn columns(schema: &Schema) -> Vec<Column> {
    let column = |kind: &DataType| match kind {
        DataType::Int64 => Column::Number(Int64Builder::new()),
        DataType::Binary => Column::Bytes(BinaryBuilder::new()),
        _ => Column::Text(StringBuilder::new()),
    };
    schema.fields().iter().map(|field| column(field.data_type())).collect()
}

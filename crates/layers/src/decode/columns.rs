//! Cells into columns: one builder per stored column.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::cell::Cell;

enum Builder {
    Bool(BooleanBuilder),
    Long(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Bytes(BinaryBuilder),
}

/// Collects rows of cells as columns.
pub(crate) struct Columns {
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
}

impl Columns {
    /// Builders for `schema`, with room for `rows`.
    pub(crate) fn new(schema: &SchemaRef, rows: usize) -> Self {
        let builders = schema.fields().iter().map(|f| builder(f.data_type(), rows)).collect();
        Self { schema: Arc::clone(schema), builders, rows: 0 }
    }

    /// Appends a row: one cell per column, of the column's type or null.
    pub(crate) fn push(&mut self, cells: &[Cell<'_>]) {
        self.rows += 1;
        for (builder, cell) in self.builders.iter_mut().zip(cells) {
            builder.append(cell);
        }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The rows as one batch.
    pub(crate) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let columns = self.builders.into_iter().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(self.schema, columns, &options)
    }
}

fn builder(kind: &DataType, rows: usize) -> Builder {
    match kind {
        DataType::Boolean => Builder::Bool(BooleanBuilder::with_capacity(rows)),
        DataType::Int64 => Builder::Long(Int64Builder::with_capacity(rows)),
        DataType::Float64 => Builder::Double(Float64Builder::with_capacity(rows)),
        DataType::Decimal128(..) => {
            Builder::Decimal(Decimal128Builder::with_capacity(rows).with_data_type(kind.clone()))
        }
        DataType::Date32 => Builder::Date(Date32Builder::with_capacity(rows)),
        DataType::Timestamp(..) => Builder::Timestamp(
            TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(kind.clone()),
        ),
        DataType::Binary => Builder::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
        _ => Builder::Text(StringBuilder::with_capacity(rows, rows * 16)),
    }
}

impl Builder {
    /// Appends a cell; one of another type counts as null, which reading by column rules out.
    fn append(&mut self, cell: &Cell<'_>) {
        match (self, cell) {
            (Self::Bool(b), Cell::Bool(v)) => b.append_value(*v),
            (Self::Bool(b), _) => b.append_null(),
            (Self::Long(b), Cell::Long(v)) => b.append_value(*v),
            (Self::Long(b), _) => b.append_null(),
            (Self::Double(b), Cell::Double(v)) => b.append_value(*v),
            (Self::Double(b), _) => b.append_null(),
            (Self::Decimal(b), Cell::Decimal(v)) => b.append_value(*v),
            (Self::Decimal(b), _) => b.append_null(),
            (Self::Text(b), Cell::Text(v)) => b.append_value(v),
            (Self::Text(b), Cell::Json(v, _)) => b.append_value(v),
            (Self::Text(b), _) => b.append_null(),
            (Self::Date(b), Cell::Date(v)) => b.append_value(*v),
            (Self::Date(b), _) => b.append_null(),
            (Self::Timestamp(b), Cell::Timestamp(v)) => b.append_value(*v),
            (Self::Timestamp(b), _) => b.append_null(),
            (Self::Bytes(b), Cell::Bytes(v)) => b.append_value(v),
            (Self::Bytes(b), _) => b.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        let mut builder: Box<dyn ArrayBuilder> = match self {
            Self::Bool(b) => Box::new(b),
            Self::Long(b) => Box::new(b),
            Self::Double(b) => Box::new(b),
            Self::Decimal(b) => Box::new(b),
            Self::Text(b) => Box::new(b),
            Self::Date(b) => Box::new(b),
            Self::Timestamp(b) => Box::new(b),
            Self::Bytes(b) => Box::new(b),
        };
        builder.finish()
    }
}

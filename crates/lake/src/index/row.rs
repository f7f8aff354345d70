//! A row's stored values as bytes, and back to columns: what lets a version be closed without
//! reading the table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray,
    BooleanBuilder, Date32Array, Date32Builder, Decimal128Array, Decimal128Builder, Float64Array,
    Float64Builder, Int64Array, Int64Builder, StringArray, StringBuilder,
    TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use super::bytes::{Put, Take};

/// Why rows could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RowCodecError {
    /// The columns hold a type that silver never stores.
    #[error("a column of type {0} cannot be stored")]
    Type(DataType),
    /// The bytes are not a row of these columns.
    #[error("stored values cannot be read")]
    Damaged,
    /// Arrow refused the columns.
    #[error("stored values do not fit their columns")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Writes rows of one schema as bytes and reads them back.
#[derive(Debug, Clone)]
pub struct RowCodec {
    schema: SchemaRef,
}

impl RowCodec {
    /// A codec for rows of `schema`.
    pub fn new(schema: SchemaRef) -> Result<Self, RowCodecError> {
        for field in schema.fields() {
            builder(field.data_type(), 0)?;
        }
        Ok(Self { schema })
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Appends row `row` of `columns` (in the schema's order) to `out`.
    pub fn put(&self, columns: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
        out.put_varint(columns.len() as u64);
        let nulls = out.len();
        out.resize(nulls + columns.len().div_ceil(8), 0);
        for (at, column) in columns.iter().enumerate() {
            if column.is_null(row) {
                out[nulls + at / 8] |= 1 << (at % 8);
                continue;
            }
            match column {
                Cells::Bool(c) => out.push(u8::from(c.value(row))),
                Cells::Long(c) => out.put_signed(c.value(row)),
                Cells::Double(c) => out.extend_from_slice(&c.value(row).to_le_bytes()),
                Cells::Decimal(c) => out.extend_from_slice(&c.value(row).to_le_bytes()),
                Cells::Date(c) => out.put_signed(i64::from(c.value(row))),
                Cells::Timestamp(c) => out.put_signed(c.value(row)),
                Cells::Text(c) => out.put_slice(c.value(row).as_bytes()),
                Cells::Bytes(c) => out.put_slice(c.value(row)),
            }
        }
    }

    /// Rows back to columns. Columns that were added since a row was written are null in it.
    pub fn read<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<RecordBatch, RowCodecError> {
        let count = rows.len();
        let fields = self.schema.fields();
        let mut builders = fields
            .iter()
            .map(|field| builder(field.data_type(), count))
            .collect::<Result<Vec<_>, _>>()?;
        for row in rows {
            let mut take = Take(row);
            // A row written before columns were added has fewer.
            let count = take.varint().and_then(|n| usize::try_from(n).ok());
            let count = count.filter(|n| *n <= fields.len()).ok_or(RowCodecError::Damaged)?;
            let nulls = take.bytes(count.div_ceil(8)).ok_or(RowCodecError::Damaged)?;
            for (at, builder) in builders.iter_mut().enumerate() {
                let null = at >= count || nulls[at / 8] >> (at % 8) & 1 == 1;
                builder.append(if null { None } else { Some(&mut take) })?;
            }
        }
        let columns = builders.into_iter().map(Column::finish).collect();
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// A column whose type has been looked at, to read many rows of it.
#[derive(Debug, Clone, Copy)]
pub enum Cells<'a> {
    /// Booleans.
    Bool(&'a BooleanArray),
    /// Integers.
    Long(&'a Int64Array),
    /// Floating-point numbers.
    Double(&'a Float64Array),
    /// Decimals.
    Decimal(&'a Decimal128Array),
    /// Days.
    Date(&'a Date32Array),
    /// Instants.
    Timestamp(&'a TimestampMicrosecondArray),
    /// Text.
    Text(&'a StringArray),
    /// Bytes.
    Bytes(&'a BinaryArray),
}

impl<'a> Cells<'a> {
    /// The columns of a batch; of a type that silver never stores, an error.
    pub fn of(columns: &'a [ArrayRef]) -> Result<Vec<Self>, RowCodecError> {
        columns.iter().map(Self::column).collect()
    }

    fn column(column: &'a ArrayRef) -> Result<Self, RowCodecError> {
        let kind = column.data_type();
        let cells = match kind {
            DataType::Boolean => column.as_boolean_opt().map(Self::Bool),
            DataType::Int64 => column.as_primitive_opt().map(Self::Long),
            DataType::Float64 => column.as_primitive_opt().map(Self::Double),
            DataType::Decimal128(..) => column.as_primitive_opt().map(Self::Decimal),
            DataType::Date32 => column.as_primitive_opt().map(Self::Date),
            DataType::Timestamp(..) => column.as_primitive_opt().map(Self::Timestamp),
            DataType::Utf8 => column.as_string_opt().map(Self::Text),
            DataType::Binary => column.as_binary_opt().map(Self::Bytes),
            _ => None,
        };
        cells.ok_or_else(|| RowCodecError::Type(kind.clone()))
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(c) => c.is_null(row),
            Self::Long(c) => c.is_null(row),
            Self::Double(c) => c.is_null(row),
            Self::Decimal(c) => c.is_null(row),
            Self::Date(c) => c.is_null(row),
            Self::Timestamp(c) => c.is_null(row),
            Self::Text(c) => c.is_null(row),
            Self::Bytes(c) => c.is_null(row),
        }
    }
}

enum Column {
    Bool(BooleanBuilder),
    Long(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

fn builder(kind: &DataType, rows: usize) -> Result<Column, RowCodecError> {
    Ok(match kind {
        DataType::Boolean => Column::Bool(BooleanBuilder::with_capacity(rows)),
        DataType::Int64 => Column::Long(Int64Builder::with_capacity(rows)),
        DataType::Float64 => Column::Double(Float64Builder::with_capacity(rows)),
        DataType::Decimal128(..) => {
            Column::Decimal(Decimal128Builder::with_capacity(rows).with_data_type(kind.clone()))
        }
        DataType::Date32 => Column::Date(Date32Builder::with_capacity(rows)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Column::Timestamp(
            TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(kind.clone()),
        ),
        DataType::Utf8 => Column::Text(StringBuilder::with_capacity(rows, rows * 16)),
        DataType::Binary => Column::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
        other => return Err(RowCodecError::Type(other.clone())),
    })
}

impl Column {
    /// Appends the next value of `take`, or null.
    fn append(&mut self, take: Option<&mut Take<'_>>) -> Result<(), RowCodecError> {
        let Some(take) = take else {
            self.append_null();
            return Ok(());
        };
        let done = match self {
            Self::Bool(b) => take.byte().map(|v| b.append_value(v == 1)),
            Self::Long(b) => take.signed().map(|v| b.append_value(v)),
            Self::Double(b) => take.array().map(|v| b.append_value(f64::from_le_bytes(v))),
            Self::Decimal(b) => take.array().map(|v| b.append_value(i128::from_le_bytes(v))),
            Self::Date(b) => {
                take.signed().and_then(|v| i32::try_from(v).ok()).map(|v| b.append_value(v))
            }
            Self::Timestamp(b) => take.signed().map(|v| b.append_value(v)),
            Self::Text(b) => {
                let text = take.slice().and_then(|v| std::str::from_utf8(v).ok());
                text.map(|v| b.append_value(v))
            }
            Self::Bytes(b) => take.slice().map(|v| b.append_value(v)),
        };
        done.ok_or(RowCodecError::Damaged)
    }

    fn append_null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::Long(b) => b.append_null(),
            Self::Double(b) => b.append_null(),
            Self::Decimal(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Timestamp(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        let mut builder: Box<dyn ArrayBuilder> = match self {
            Self::Bool(b) => Box::new(b),
            Self::Long(b) => Box::new(b),
            Self::Double(b) => Box::new(b),
            Self::Decimal(b) => Box::new(b),
            Self::Date(b) => Box::new(b),
            Self::Timestamp(b) => Box::new(b),
            Self::Text(b) => Box::new(b),
            Self::Bytes(b) => Box::new(b),
        };
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn rows_read_what_was_written_nulls_and_edges_included() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("l", DataType::Int64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("f", DataType::Float64, true),
            Field::new("b", DataType::Boolean, true),
            Field::new("d", DataType::Decimal128(38, 2), true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
            Arc::new(StringArray::from(vec![Some("æøå"), Some(""), None])),
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::INFINITY), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(
                Decimal128Array::from(vec![Some(i128::from(u64::MAX)), None, Some(-1)])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
        ];
        let codec = RowCodec::new(Arc::clone(&schema)).unwrap();
        let rows: Vec<Vec<u8>> = (0..3)
            .map(|row| {
                let mut out = Vec::new();
                codec.put(&Cells::of(&columns).unwrap(), row, &mut out);
                out
            })
            .collect();
        let read = codec.read(rows.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(read, RecordBatch::try_new(schema, columns).unwrap());
        assert!(codec.read([&rows[0][..3]].into_iter()).is_err());
    }
}

//! The columns of bronze and silver tables, made from an entity's metadata.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_model::metadata::{History, SequenceBy};
use alluvium_model::{Column, ColumnType, EntitySpec, SequenceType};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Microseconds since 1970, UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type in which silver stores a column.
pub fn stored_type(column: &Column) -> DataType {
    match column.kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Byte | ColumnType::Short | ColumnType::Integer | ColumnType::Long => {
            DataType::Int64
        }
        ColumnType::Float | ColumnType::Double => DataType::Float64,
        ColumnType::Decimal => {
            DataType::Decimal128(38, i8::try_from(column.scale.unwrap_or(0)).unwrap_or(0))
        }
        ColumnType::String | ColumnType::Json => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => timestamp_type(),
        ColumnType::Binary => DataType::Binary,
    }
}

/// The columns that silver stores: all that the entity declares but those it is told to ignore.
pub fn stored_columns(entity: &EntitySpec) -> impl Iterator<Item = &Column> {
    entity.columns.iter().filter(|column| column.history != History::Ignore)
}

/// The stored columns as fields. The declared type stands in the field's metadata.
pub fn value_schema(entity: &EntitySpec) -> SchemaRef {
    Arc::new(Schema::new(stored_columns(entity).map(value_field).collect::<Vec<_>>()))
}

fn value_field(column: &Column) -> Field {
    // A delete may carry its key only, so that no column but those of the key is never null.
    let declared = serde_json::to_value(column.kind)
        .ok()
        .and_then(|kind| kind.as_str().map(str::to_owned))
        .unwrap_or_default();
    let mut metadata = HashMap::from([("alluvium.type".to_owned(), declared)]);
    for (name, value) in [
        ("alluvium.length", column.length.map(u64::from)),
        ("alluvium.precision", column.precision.map(u64::from)),
    ] {
        if let Some(value) = value {
            metadata.insert(name.to_owned(), value.to_string());
        }
    }
    Field::new(&column.name, stored_type(column), true).with_metadata(metadata)
}

/// In a field's metadata: the column is not declared; the source brought it.
pub const EVOLVED: &str = "alluvium.evolved";

/// The column that a field of a silver table was made for, as its metadata tell. `None` for our own.
pub fn column_of(field: &Field) -> Option<Column> {
    let told = field.metadata();
    let kind = told.get("alluvium.type")?;
    let kind = serde_json::from_value(serde_json::Value::String(kind.clone())).ok()?;
    let scale = match field.data_type() {
        DataType::Decimal128(_, scale) => u8::try_from(*scale).ok(),
        _ => None,
    };
    Some(Column {
        length: told.get("alluvium.length").and_then(|n| n.parse().ok()),
        precision: told.get("alluvium.precision").and_then(|n| n.parse().ok()),
        scale,
        ..Column::new(field.name(), kind)
    })
}

/// The type of the first part of an entity's sequence.
pub fn first_sequence_type(entity: &EntitySpec) -> SequenceType {
    match entity.sequence_by.first() {
        None => SequenceType::Timestamp,
        Some(SequenceBy::Carried { carried, .. }) => *carried,
        Some(SequenceBy::Column(name)) => {
            entity.column(name).map_or(SequenceType::Timestamp, sequence_type)
        }
    }
}

/// The type of `_valid_from` and `_valid_to`.
pub fn valid_type(entity: &EntitySpec) -> DataType {
    match first_sequence_type(entity) {
        SequenceType::Long => DataType::Int64,
        SequenceType::Timestamp => timestamp_type(),
        SequenceType::Decimal | SequenceType::Lsn | SequenceType::Binlog => {
            DataType::Decimal128(38, alluvium_model::sequence::DECIMAL_SCALE)
        }
    }
}

/// How a column that is a part of a sequence compares.
pub fn sequence_type(column: &Column) -> SequenceType {
    match column.kind {
        ColumnType::Byte | ColumnType::Short | ColumnType::Integer | ColumnType::Long => {
            SequenceType::Long
        }
        ColumnType::Decimal | ColumnType::String | ColumnType::Float | ColumnType::Double => {
            SequenceType::Decimal
        }
        _ => SequenceType::Timestamp,
    }
}

/// The columns of a silver table.
pub fn silver_schema(entity: &EntitySpec) -> SchemaRef {
    let mut fields: Vec<Field> = stored_columns(entity).map(value_field).collect();
    fields.extend([
        Field::new("_key_hash", DataType::Binary, false),
        Field::new("_row_hash", DataType::Binary, false),
        Field::new("_valid_from", valid_type(entity), false),
        Field::new("_valid_to", valid_type(entity), true),
        Field::new("_is_current", DataType::Boolean, false),
        Field::new("_op", DataType::Utf8, false),
        Field::new("_seq", DataType::Utf8, false),
        Field::new("_last_seq", DataType::Utf8, false),
        Field::new("_changed_at", timestamp_type(), true),
        Field::new("_run_id", DataType::Utf8, true),
        Field::new("_batch_id", DataType::Utf8, false),
        Field::new("_position", DataType::Utf8, false),
        Field::new("_ingested_at", timestamp_type(), false),
    ]);
    Arc::new(Schema::new(fields))
}

/// The columns of a bronze table.
pub fn bronze_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("_key", DataType::Utf8, true),
        Field::new("_op", DataType::Utf8, false),
        Field::new("_seq", DataType::Utf8, true),
        Field::new("_changed_at", timestamp_type(), true),
        Field::new("_run_id", DataType::Utf8, true),
        Field::new("_batch_id", DataType::Utf8, false),
        Field::new("_position", DataType::Utf8, false),
        Field::new("_ingested_at", timestamp_type(), false),
        Field::new("document", DataType::Utf8, false),
    ]))
}

//! The table's columns: Arrow's on our side, Delta's own JSON in the log.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};

use super::TableSpec;
use super::entry::TableMetadata;
use crate::LakeError;

/// How a table's columns stand to those described.
pub(super) enum Fit {
    /// They are the same, in the table's order.
    Exact(SchemaRef),
    /// The table has to take over new columns, or new metadata of columns.
    Grown(Box<TableMetadata>),
}

/// That the description can be a table at all.
pub(super) fn check(spec: &TableSpec) -> Result<(), LakeError> {
    let wrong = |what: String| Err(LakeError::Bug(format!("{}: {what}", spec.path)));
    for field in spec.schema.fields() {
        if !is_stored_as_it_is(field.data_type()) {
            return wrong(format!(
                "`{}` is {}, which Delta has not",
                field.name(),
                field.data_type()
            ));
        }
    }
    for name in &spec.stats {
        if spec.schema.field_with_name(name).is_err() {
            return wrong(format!("statistics of `{name}`, which is no column"));
        }
    }
    match spec.partition_by.map(|name| spec.schema.field_with_name(name)) {
        None => Ok(()),
        Some(Ok(field)) if field.data_type() == &DataType::Boolean => Ok(()),
        Some(_) => wrong("it is partitioned by what is no boolean column".to_owned()),
    }
}

/// Compares the description with the table as it stands.
pub(super) fn fit(spec: &TableSpec, metadata: &TableMetadata) -> Result<Fit, LakeError> {
    let differs = |what: String| Err(LakeError::Mismatch(format!("{}: {what}", spec.path)));
    if metadata.partition_columns.iter().map(String::as_str).ne(spec.partition_by) {
        return differs(format!("it is partitioned by {:?}", metadata.partition_columns));
    }
    let standing = of(metadata)?;
    let mut fields = Vec::new();
    for field in standing.fields() {
        let Ok(described) = spec.schema.field_with_name(field.name()) else {
            return differs(format!("its column `{}` is not described any more", field.name()));
        };
        if !is_same(field, described) {
            return differs(format!(
                "its column `{}` is {} and is described as {}",
                field.name(),
                shape(field),
                shape(described)
            ));
        }
        fields.push(Arc::new(described.clone()));
    }
    for described in spec.schema.fields() {
        if standing.field_with_name(described.name()).is_err() {
            if !described.is_nullable() {
                return differs(format!("`{}` is new and does not allow null", described.name()));
            }
            fields.push(Arc::clone(described));
        }
    }
    let schema = Arc::new(Schema::new(fields));
    let schema_string = to_json(&schema)?;
    if same_json(&schema_string, &metadata.schema_string) {
        return Ok(Fit::Exact(schema));
    }
    let mut grown = Box::new(metadata.clone());
    grown.schema_string = schema_string;
    Ok(Fit::Grown(grown))
}

/// The columns as the log has them.
pub(super) fn of(metadata: &TableMetadata) -> Result<SchemaRef, LakeError> {
    let schema: StructType = serde_json::from_str(&metadata.schema_string)
        .map_err(|e| LakeError::Corrupt(format!("the table's schema cannot be read: {e}")))?;
    let schema: Schema = (&schema)
        .try_into_arrow()
        .map_err(|e| LakeError::Mismatch(format!("the table's schema is not one of ours: {e}")))?;
    Ok(Arc::new(schema))
}

/// The columns in Delta's own JSON.
pub(super) fn to_json(schema: &SchemaRef) -> Result<String, LakeError> {
    let failed = |e: String| LakeError::Bug(format!("the schema cannot be written: {e}"));
    let schema: StructType = schema
        .as_ref()
        .try_into_kernel()
        .map_err(|e: arrow::error::ArrowError| failed(e.to_string()))?;
    serde_json::to_string(&schema).map_err(|e| failed(e.to_string()))
}

/// Whether both hold text, or both bytes, whatever Arrow calls them, or are of one type.
pub(super) fn is_same_type(a: &DataType, b: &DataType) -> bool {
    a == b
        || (is_text(a) && is_text(b))
        || (is_bytes(a) && is_bytes(b))
        || (is_instant(a) && is_instant(b))
}

fn is_same(a: &Field, b: &Field) -> bool {
    is_same_type(a.data_type(), b.data_type()) && a.is_nullable() == b.is_nullable()
}

fn shape(field: &Field) -> String {
    let null = if field.is_nullable() { "" } else { " without null" };
    format!("{}{null}", field.data_type())
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_instant(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone))
}

fn is_utc(zone: &str) -> bool {
    zone.eq_ignore_ascii_case("utc") || zone == "+00:00"
}

/// Whether Delta has the type, so that nothing is cast in silence on the way to the file.
fn is_stored_as_it_is(kind: &DataType) -> bool {
    is_text(kind)
        || is_bytes(kind)
        || is_instant(kind)
        || matches!(
            kind,
            DataType::Boolean
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Date32
                | DataType::Decimal128(_, _)
        )
}

fn same_json(a: &str, b: &str) -> bool {
    let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    value(a) == value(b)
}

//! What a file's log entry says of its values: how many rows, and for some columns the least, the
//! greatest and the number of nulls.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use crate::LakeError;

/// Longer text gets no bounds: a cut one would have to be rounded.
const LONGEST_TEXT: usize = 256;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats<'a> {
    num_records: usize,
    min_values: BTreeMap<&'a str, Box<RawValue>>,
    max_values: BTreeMap<&'a str, Box<RawValue>>,
    null_count: BTreeMap<&'a str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tight_bounds: Option<bool>,
}

/// The statistics of `batch` for `columns`, as JSON. Where rows may be deleted later, the bounds
/// are declared not to be tight from the beginning: they are never written anew.
pub(super) fn of(
    batch: &RecordBatch,
    columns: &[String],
    deletion_vectors: bool,
) -> Result<String, LakeError> {
    let mut stats = Stats {
        num_records: batch.num_rows(),
        min_values: BTreeMap::new(),
        max_values: BTreeMap::new(),
        null_count: BTreeMap::new(),
        tight_bounds: deletion_vectors.then_some(false),
    };
    for name in columns {
        let Some(column) = batch.column_by_name(name) else { continue };
        stats.null_count.insert(name, column.null_count());
        if let Some((min, max)) = bounds(column) {
            stats.min_values.insert(name, min);
            stats.max_values.insert(name, max);
        }
    }
    serde_json::to_string(&stats)
        .map_err(|e| LakeError::Bug(format!("a file's statistics cannot be written: {e}")))
}

/// The least and the greatest value; `None` where all are null or the type has no bounds here.
fn bounds(column: &ArrayRef) -> Option<(Box<RawValue>, Box<RawValue>)> {
    match column.data_type() {
        DataType::Int8 => primitive::<Int8Type>(column, |v| Some(v.to_string())),
        DataType::Int16 => primitive::<Int16Type>(column, |v| Some(v.to_string())),
        DataType::Int32 => primitive::<Int32Type>(column, |v| Some(v.to_string())),
        DataType::Int64 => primitive::<Int64Type>(column, |v| Some(v.to_string())),
        // Infinity and NaN are no JSON, and NaN is greater than all.
        DataType::Float64 => primitive::<Float64Type>(column, |v| {
            v.is_finite().then(|| serde_json::to_string(&v).ok())?
        }),
        DataType::Date32 => primitive::<Date32Type>(column, date),
        DataType::Timestamp(_, _) => primitive::<TimestampMicrosecondType>(column, instant),
        DataType::Decimal128(_, scale) => {
            let scale = usize::try_from(*scale).ok()?;
            primitive::<Decimal128Type>(column, |v| Some(decimal(v, scale)))
        }
        DataType::Utf8 => text(
            compute::min_string(column.as_string::<i32>()),
            compute::max_string(column.as_string::<i32>()),
        ),
        DataType::LargeUtf8 => text(
            compute::min_string(column.as_string::<i64>()),
            compute::max_string(column.as_string::<i64>()),
        ),
        DataType::Utf8View => text(
            compute::min_string_view(column.as_string_view()),
            compute::max_string_view(column.as_string_view()),
        ),
        _ => None,
    }
}

fn primitive<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    write: impl Fn(T::Native) -> Option<String>,
) -> Option<(Box<RawValue>, Box<RawValue>)>
where
    T::Native: arrow::datatypes::ArrowNativeType,
{
    let column = column.as_primitive::<T>();
    let raw = |value| RawValue::from_string(write(value)?).ok();
    Some((raw(compute::min(column)?)?, raw(compute::max(column)?)?))
}

fn text(min: Option<&str>, max: Option<&str>) -> Option<(Box<RawValue>, Box<RawValue>)> {
    let raw = |text: &str| {
        let short = text.len() <= LONGEST_TEXT;
        short.then(|| serde_json::value::to_raw_value(text).ok())?
    };
    Some((raw(min?)?, raw(max?)?))
}

fn date(days: i32) -> Option<String> {
    let day = NaiveDate::default().checked_add_signed(TimeDelta::try_days(i64::from(days))?)?;
    Some(format!("\"{day}\""))
}

fn instant(micros: i64) -> Option<String> {
    let instant = DateTime::from_timestamp_micros(micros)?;
    Some(format!("\"{}\"", instant.to_rfc3339_opts(SecondsFormat::Micros, true)))
}

fn decimal(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    match digits.split_at(digits.len() - scale) {
        (whole, "") => format!("{sign}{whole}"),
        (whole, rest) => format!("{sign}{whole}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_written_with_its_scale() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(12_345, 2), "123.45");
        assert_eq!(decimal(7, 0), "7");
    }

    #[test]
    fn days_and_instants_before_1970_are_written() {
        assert_eq!(date(-1).unwrap(), "\"1969-12-31\"");
        assert_eq!(instant(-1).unwrap(), "\"1969-12-31T23:59:59.999999Z\"");
    }
}

//! One value of a column, whatever its type.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{self as types, ArrowPrimitiveType, DataType, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil};

/// A value, ready to be written.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    /// Text that is a JSON number.
    Number(String),
    Text(Cow<'a, str>),
    List(ListCell),
    /// Names and values.
    Struct(Vec<(String, ArrayRef)>, usize),
    /// Keys and values.
    Map(ListCell, ListCell),
}

/// Values of a list.
#[derive(Debug)]
pub(super) struct ListCell(pub(super) ArrayRef);

/// The same rows without dictionaries, which the engine uses for columns that repeat themselves.
pub(super) fn plain(batch: &RecordBatch) -> Result<RecordBatch, crate::QueryError> {
    if batch.schema().fields().iter().all(|field| !is_dictionary(field.data_type())) {
        return Ok(batch.clone());
    }
    let unpack = || -> Result<RecordBatch, ArrowError> {
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let column = match column.data_type() {
                DataType::Dictionary(_, values) => cast(column, values)?,
                _ => Arc::clone(column),
            };
            fields.push(field.as_ref().clone().with_data_type(column.data_type().clone()));
            columns.push(column);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    };
    unpack().map_err(|e| crate::QueryError::Bug(format!("a dictionary cannot be unpacked: {e}")))
}

fn is_dictionary(kind: &DataType) -> bool {
    matches!(kind, DataType::Dictionary(_, _))
}

/// The value of `array` at `row`.
pub(super) fn cell(array: &dyn Array, row: usize) -> Cell<'_> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Boolean(array.as_boolean().value(row)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row).into()),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row).into()),
        DataType::Binary => hexadecimal(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hexadecimal(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => hexadecimal(array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hexadecimal(array.as_fixed_size_binary().value(row)),
        DataType::Float32 => float(at::<types::Float32Type>(array, row)),
        DataType::Float64 => double(at::<types::Float64Type>(array, row)),
        DataType::Timestamp(unit, zone) => instant(array, row, *unit, zone.is_some()),
        DataType::Date32 => date(at::<types::Date32Type>(array, row)),
        DataType::List(_) => Cell::List(ListCell(array.as_list::<i32>().value(row))),
        DataType::LargeList(_) => Cell::List(ListCell(array.as_list::<i64>().value(row))),
        DataType::Struct(fields) => {
            let names = fields.iter().map(|field| field.name().clone());
            let columns = array.as_struct().columns().iter().map(Arc::clone);
            Cell::Struct(names.zip(columns).collect(), row)
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (Arc::clone(entries.column(0)), Arc::clone(entries.column(1)));
            Cell::Map(ListCell(keys), ListCell(values))
        }
        kind if kind.is_integer() => Cell::Number(shown(array, row)),
        // Decimals among them, with all their digits.
        _ => Cell::Text(shown(array, row).into()),
    }
}

fn at<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn hexadecimal(bytes: &[u8]) -> Cell<'static> {
    Cell::Text(hex::encode(bytes).into())
}

fn float(value: f32) -> Cell<'static> {
    match value.is_finite() {
        true => Cell::Number(format!("{value:?}")),
        false => double(f64::from(value)),
    }
}

/// The shortest digits that read back as the same value.
fn double(value: f64) -> Cell<'static> {
    if value.is_nan() {
        return Cell::Text("NaN".into());
    }
    match value.is_finite() {
        true => Cell::Number(format!("{value:?}")),
        false if value > 0.0 => Cell::Text("Infinity".into()),
        false => Cell::Text("-Infinity".into()),
    }
}

fn instant(array: &dyn Array, row: usize, unit: TimeUnit, has_zone: bool) -> Cell<'static> {
    let instant = match unit {
        TimeUnit::Second => Timestamp::from_second(at::<types::TimestampSecondType>(array, row)),
        TimeUnit::Millisecond => {
            Timestamp::from_millisecond(at::<types::TimestampMillisecondType>(array, row))
        }
        TimeUnit::Microsecond => {
            Timestamp::from_microsecond(at::<types::TimestampMicrosecondType>(array, row))
        }
        TimeUnit::Nanosecond => {
            let nanos = at::<types::TimestampNanosecondType>(array, row);
            Timestamp::from_nanosecond(i128::from(nanos))
        }
    };
    let text = match instant {
        Ok(instant) if has_zone => instant.to_string(),
        // A time of no known zone does not pretend to have one.
        Ok(instant) => TimeZone::UTC.to_datetime(instant).to_string(),
        // Years of more than four digits.
        Err(_) => shown(array, row),
    };
    Cell::Text(text.into())
}

fn date(days: i32) -> Cell<'static> {
    let text = match civil::date(1970, 1, 1).checked_add(days.days()) {
        Ok(date) => date.to_string(),
        Err(_) => format!("{days} days after 1970-01-01"),
    };
    Cell::Text(text.into())
}

/// What Arrow makes of a value that has no form of our own.
fn shown(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::new();
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::*;

    use super::*;

    fn text(cell: &Cell<'_>) -> String {
        match cell {
            Cell::Number(text) => text.clone(),
            Cell::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn values_are_written_exactly() {
        let decimals = Decimal128Array::from(vec![-12_345_678_901_234_567_890_i128])
            .with_precision_and_scale(38, 4)
            .unwrap();
        assert_eq!(text(&cell(&decimals, 0)), "-1234567890123456.7890");
        let bytes = BinaryArray::from_vec(vec![&[0xab, 0x01]]);
        assert_eq!(text(&cell(&bytes, 0)), "ab01");
        let times = TimestampMicrosecondArray::from(vec![1_500_000]);
        assert_eq!(text(&cell(&times, 0)), "1970-01-01T00:00:01.5");
        assert_eq!(text(&cell(&times.with_timezone("UTC"), 0)), "1970-01-01T00:00:01.5Z");
        assert_eq!(text(&cell(&Date32Array::from(vec![-1]), 0)), "1969-12-31");
        assert_eq!(text(&cell(&Int64Array::from(vec![i64::MAX]), 0)), "9223372036854775807");
        let doubles = Float64Array::from(vec![0.1, 1e300, f64::NAN, f64::NEG_INFINITY, -0.0]);
        let shown: Vec<_> = (0..5).map(|row| text(&cell(&doubles, row))).collect();
        assert_eq!(shown, ["0.1", "1e300", "NaN", "-Infinity", "-0.0"]);
        assert_eq!(text(&cell(&Float32Array::from(vec![0.1]), 0)), "0.1");
        assert!(matches!(cell(&StringArray::from(vec![None::<&str>]), 0), Cell::Null));
    }
}

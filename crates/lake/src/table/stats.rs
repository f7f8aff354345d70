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
use std::cmp::Ordering;
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

/// The statistics of `batch` for `columns`, as JSON.
pub(super) fn of(
    batch: &RecordBatch,
    columns: &[String],
    deletion_vectors: bool,
) -> Result<String, LakeError> {
    let mut collector = Collector::new(columns, deletion_vectors);
    collector.add(batch);
    collector.finish()
}

/// Collects the statistics of a file that is written batch by batch.
pub(super) struct Collector<'c> {
    columns: &'c [String],
    deletion_vectors: bool,
    rows: usize,
    seen: BTreeMap<&'c str, Seen>,
}

/// What has been seen of a column.
#[derive(Default)]
struct Seen {
    nulls: usize,
    bounds: Bounds,
}

#[derive(Default)]
enum Bounds {
    /// No value has come yet.
    #[default]
    None,
    Known(Box<RawValue>, Box<RawValue>),
    /// Some values have none.
    Unknown,
}

impl<'c> Collector<'c> {
    /// Statistics for `columns`. Where rows may be deleted later, the bounds are declared not to be
    /// tight from the beginning: they are never written anew.
    pub(super) fn new(columns: &'c [String], deletion_vectors: bool) -> Self {
        Self { columns, deletion_vectors, rows: 0, seen: BTreeMap::new() }
    }

    /// Takes in some rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows();
        for name in self.columns {
            let Some(column) = batch.column_by_name(name) else { continue };
            let seen = self.seen.entry(name).or_default();
            seen.nulls += column.null_count();
            if column.null_count() < column.len() {
                let before = std::mem::take(&mut seen.bounds);
                seen.bounds = before.with(column.data_type(), bounds(column));
            }
        }
    }

    /// The statistics as JSON.
    pub(super) fn finish(self) -> Result<String, LakeError> {
        let mut stats = Stats {
            num_records: self.rows,
            min_values: BTreeMap::new(),
            max_values: BTreeMap::new(),
            null_count: BTreeMap::new(),
            tight_bounds: self.deletion_vectors.then_some(false),
        };
        for (name, seen) in self.seen {
            stats.null_count.insert(name, seen.nulls);
            if let Bounds::Known(min, max) = seen.bounds {
                stats.min_values.insert(name, min);
                stats.max_values.insert(name, max);
            }
        }
        serde_json::to_string(&stats)
            .map_err(|e| LakeError::Bug(format!("a file's statistics cannot be written: {e}")))
    }
}

impl Bounds {
    fn with(self, kind: &DataType, further: Option<(Box<RawValue>, Box<RawValue>)>) -> Self {
        let Some((least, greatest)) = further else { return Self::Unknown };
        match self {
            Self::None => Self::Known(least, greatest),
            Self::Unknown => Self::Unknown,
            Self::Known(min, max) => {
                let (less, greater) = (order(kind, &least, &min), order(kind, &greatest, &max));
                let (Some(less), Some(greater)) = (less, greater) else { return Self::Unknown };
                Self::Known(
                    if less == Ordering::Less { least } else { min },
                    if greater == Ordering::Greater { greatest } else { max },
                )
            }
        }
    }
}

/// How two values of a column stand to each other, as they are written here; `None` where their
/// text does not tell.
fn order(kind: &DataType, a: &RawValue, b: &RawValue) -> Option<Ordering> {
    match kind {
        DataType::Float64 => a.get().parse::<f64>().ok()?.partial_cmp(&b.get().parse().ok()?),
        // All have the same number of digits behind the point.
        DataType::Decimal128(..) => {
            let whole = |value: &RawValue| value.get().replace('.', "").parse::<i128>().ok();
            Some(whole(a)?.cmp(&whole(b)?))
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            Some(a.get().parse::<i64>().ok()?.cmp(&b.get().parse().ok()?))
        }
        DataType::Date32 | DataType::Timestamp(..) => {
            // Years of more digits than four, and those before the first, are written with a sign.
            let plain = |value: &RawValue| !value.get()[1..].starts_with(['+', '-']);
            (plain(a) && plain(b)).then(|| a.get().cmp(b.get()))
        }
        _ => {
            let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
            Some(text(a)?.cmp(&text(b)?))
        }
    }
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
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_decimal_is_written_with_its_scale() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(12_345, 2), "123.45");
        assert_eq!(decimal(7, 0), "7");
    }

    #[test]
    fn bounds_over_several_batches_are_those_of_all_rows() {
        use arrow::array::{Decimal128Array, Int64Array, StringArray};
        let batch = |longs: Vec<Option<i64>>, texts: Vec<&str>, decimals: Vec<i128>| {
            let decimals = Decimal128Array::from(decimals).with_precision_and_scale(38, 2);
            RecordBatch::try_from_iter([
                ("long", Arc::new(Int64Array::from(longs)) as ArrayRef),
                ("text", Arc::new(StringArray::from(texts)) as ArrayRef),
                ("decimal", Arc::new(decimals.unwrap()) as ArrayRef),
            ])
            .unwrap()
        };
        let columns: Vec<String> = ["long", "text", "decimal"].map(str::to_owned).into();
        let mut collector = Collector::new(&columns, true);
        collector.add(&batch(vec![Some(9), None], vec!["b", "a\"x"], vec![-5, 100]));
        collector.add(&batch(vec![None, None], vec!["c", "c"], vec![1_000, 1]));
        collector.add(&batch(vec![Some(10), Some(-3)], vec!["a", "b"], vec![-40, 2]));
        let stats: serde_json::Value = serde_json::from_str(&collector.finish().unwrap()).unwrap();
        let expected = r#"{"numRecords":6,"minValues":{"long":-3,"text":"a","decimal":-0.40},
            "maxValues":{"long":10,"text":"c","decimal":10.00},
            "nullCount":{"long":3,"text":0,"decimal":0},"tightBounds":false}"#;
        assert_eq!(stats, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        let long = "x".repeat(LONGEST_TEXT + 1);
        let mut collector = Collector::new(&columns[1..2], true);
        collector.add(&batch(vec![None], vec!["b"], vec![0]));
        collector.add(&batch(vec![None], vec![&long], vec![0]));
        assert!(!collector.finish().unwrap().contains("\"b\""), "a text too long has no bounds");
    }

    #[test]
    fn days_and_instants_before_1970_are_written() {
        assert_eq!(date(-1).unwrap(), "\"1969-12-31\"");
        assert_eq!(instant(-1).unwrap(), "\"1969-12-31T23:59:59.999999Z\"");
    }
}

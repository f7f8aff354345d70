//! Values in the one spelling that all equal values share, from cases and from tables.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use serde_json::{Value, json};

use super::case::Object;
use crate::reference::Values;

/// A value of a case; `None` for null.
pub(crate) fn spelling(value: &Value) -> Option<String> {
    let special = |name| value.get(name).and_then(Value::as_str);
    if let Some(text) = special("$f") {
        return Some(double(text.parse().unwrap()));
    }
    if let Some(text) = special("$dec") {
        return Some(decimal(text));
    }
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_f64() => Some(double(number.as_f64().unwrap())),
        Value::Object(_) | Value::Array(_) => Some(sorted(value)),
        other => Some(other.to_string()),
    }
}

/// The values of `columns` in a row of a case.
pub(crate) fn row(columns: &[String], row: &Object) -> Values {
    let value = |name: &String| (name.clone(), row.get(name).and_then(spelling));
    columns.iter().map(value).collect()
}

/// A value of a table's column.
pub(crate) fn cell(column: &ArrayRef, at: usize, is_json: bool) -> Option<String> {
    if column.is_null(at) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).to_string(),
        DataType::Float64 => double(column.as_primitive::<Float64Type>().value(at)),
        DataType::Boolean => column.as_boolean().value(at).to_string(),
        DataType::Decimal128(..) => {
            decimal(&column.as_primitive::<Decimal128Type>().value_as_string(at))
        }
        DataType::Utf8 if is_json => {
            sorted(&serde_json::from_str(column.as_string::<i32>().value(at)).unwrap())
        }
        DataType::Utf8 => column.as_string::<i32>().value(at).to_owned(),
        other => panic!("a column of type {other}"),
    })
}

/// A value of `_valid_from` or `_valid_to`: a number of longs, microseconds or billionths.
pub(crate) fn bound(column: &ArrayRef, at: usize) -> Option<i128> {
    column.is_valid(at).then(|| match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).into(),
        DataType::Timestamp(..) => {
            column.as_primitive::<TimestampMicrosecondType>().value(at).into()
        }
        DataType::Decimal128(38, 9) => column.as_primitive::<Decimal128Type>().value(at),
        other => panic!("a bound of type {other}"),
    })
}

/// A value as a source sends it: what JSON has no form for is sent as text.
pub(crate) fn sent(value: &Value) -> Value {
    match value.get("$f").or_else(|| value.get("$dec")) {
        Some(text) if text == "nan" => json!("NaN"),
        Some(text) => text.clone(),
        None => value.clone(),
    }
}

fn double(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { (value + 0.0).to_string() }
}

fn decimal(text: &str) -> String {
    let short = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let member = |(name, value): (&String, &Value)| format!("{name:?}:{}", sorted(value));
            let members: Vec<_> = members.into_iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(sorted).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

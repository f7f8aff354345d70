//! One JSON value read as its column's type. Nothing is cast silently: what does not fit is
//! refused with a reason that names types and limits, never the value.

use std::borrow::Cow;

use alluvium_model::{Column, ColumnType};
use alluvium_wire::string_value;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::value::RawValue;

use super::time;

/// A value in the type that silver stores.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    /// Digits at the column's scale.
    Decimal(i128),
    Text(Cow<'a, str>),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    Bytes(Vec<u8>),
    /// JSON as received, and in the form that compares.
    Json(&'a str, String),
}

/// Reads `raw` as `column` declares it.
pub(crate) fn read<'a>(
    column: &Column,
    zone: &TimeZone,
    raw: &'a RawValue,
) -> Result<Cell<'a>, String> {
    let text = raw.get();
    if text == "null" {
        return Ok(Cell::Null);
    }
    match column.kind {
        ColumnType::Boolean => boolean(text),
        ColumnType::Byte => integer(raw, i64::from(i8::MIN), i64::from(i8::MAX)),
        ColumnType::Short => integer(raw, i64::from(i16::MIN), i64::from(i16::MAX)),
        ColumnType::Integer => integer(raw, i64::from(i32::MIN), i64::from(i32::MAX)),
        ColumnType::Long => integer(raw, i64::MIN, i64::MAX),
        ColumnType::Float => double(raw, f64::from(f32::MAX)),
        ColumnType::Double => double(raw, f64::MAX),
        ColumnType::Decimal => {
            decimal(raw, column.precision.unwrap_or(38), column.scale.unwrap_or(0))
        }
        ColumnType::String => text_cell(raw, column.length),
        ColumnType::Date => time::date(raw, column.unit),
        ColumnType::Timestamp => time::timestamp(raw, column.counts(), zone),
        ColumnType::Binary => binary(raw),
        ColumnType::Json => json(text),
    }
}

/// Any value as text: strings as they are, all else as it stands in the JSON.
pub(crate) fn any_text(raw: &RawValue) -> Cell<'_> {
    match raw.get() {
        "null" => Cell::Null,
        text => Cell::Text(string_value(raw).unwrap_or(Cow::Borrowed(text))),
    }
}

/// The value of a stored column, as it was when it was read.
pub(crate) fn stored(kind: ColumnType, column: &dyn Array, row: usize) -> Cell<'_> {
    if column.is_null(row) {
        return Cell::Null;
    }
    match column.data_type() {
        DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
        DataType::Int64 => Cell::Long(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Cell::Double(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            Cell::Decimal(column.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Date32 => Cell::Date(column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => {
            Cell::Timestamp(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Binary => Cell::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        _ => {
            let text = column.as_string::<i32>().value(row);
            match kind {
                ColumnType::Json => json(text).unwrap_or(Cell::Text(Cow::Borrowed(text))),
                _ => Cell::Text(Cow::Borrowed(text)),
            }
        }
    }
}

/// What a value looks like, for reasons: never the value itself.
fn shape(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

pub(super) fn misfit(expected: &str, text: &str) -> String {
    format!("expected {expected}, found {}", shape(text))
}

fn boolean(text: &str) -> Result<Cell<'static>, String> {
    match text {
        "true" | "1" | "\"true\"" => Ok(Cell::Bool(true)),
        "false" | "0" | "\"false\"" => Ok(Cell::Bool(false)),
        _ => Err(misfit("a boolean", text)),
    }
}

/// The text of a number, be it written as a number or as text.
fn number_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first() {
        Some(b'"') => string_value(raw).map(|text| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        }),
        Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(raw.get())),
        _ => None,
    }
}

fn integer(raw: &RawValue, min: i64, max: i64) -> Result<Cell<'_>, String> {
    let text = number_text(raw).ok_or_else(|| misfit("an integer", raw.get()))?;
    let value = match text.parse::<i64>() {
        Ok(value) => value,
        // 1.0 and 1e3 are integers too; beyond 38 digits nothing is.
        Err(_) => decimal_digits(&text, 0)
            .ok()
            .and_then(|digits| i64::try_from(digits).ok())
            .ok_or_else(|| "expected an integer of at most 64 bits".to_owned())?,
    };
    if (min..=max).contains(&value) {
        Ok(Cell::Long(value))
    } else {
        Err(format!("the integer is outside {min} to {max}"))
    }
}

fn double(raw: &RawValue, max: f64) -> Result<Cell<'_>, String> {
    let text = number_text(raw).ok_or_else(|| misfit("a number", raw.get()))?;
    match text.as_ref() {
        "NaN" | "nan" => return Ok(Cell::Double(f64::NAN)),
        "Infinity" | "inf" => return Ok(Cell::Double(f64::INFINITY)),
        "-Infinity" | "-inf" => return Ok(Cell::Double(f64::NEG_INFINITY)),
        _ => {}
    }
    match text.parse::<f64>() {
        Ok(value) if value.abs() <= max => Ok(Cell::Double(value)),
        Ok(_) => Err("the number is too large for its type".to_owned()),
        Err(_) => Err(misfit("a number", raw.get())),
    }
}

/// What is to be done where a source sends decimals as its bytes, or as an object of these.
const ENCODED: &str = "Debezium sends text if its connector has `decimal.handling.mode=string`";

/// Whether a text may be a number's bytes in base64.
fn is_encoded(text: &str) -> bool {
    let is_of_letters = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    is_of_letters && STANDARD.decode(text).is_ok()
}

fn decimal(raw: &RawValue, precision: u8, scale: u8) -> Result<Cell<'_>, String> {
    let encoded = |reason: String| format!("{reason}; {ENCODED}");
    let text = number_text(raw).ok_or_else(|| match raw.get().starts_with('{') {
        true => encoded(misfit("a decimal", raw.get())),
        false => misfit("a decimal", raw.get()),
    })?;
    let digits = decimal_digits(&text, scale).map_err(|reason| match is_encoded(&text) {
        true => encoded(reason),
        false => reason,
    })?;
    if digits.unsigned_abs() < 10u128.pow(u32::from(precision.min(38))) {
        Ok(Cell::Decimal(digits))
    } else {
        Err(format!("the number has more digits than decimal({precision}, {scale})"))
    }
}

/// The digits of a decimal text at `scale`, exactly.
fn decimal_digits(text: &str, scale: u8) -> Result<i128, String> {
    let bad = || "expected a decimal number".to_owned();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, power) = match rest.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i32>().map_err(|_| bad())?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if (whole.is_empty() && fraction.is_empty()) || !digits().all(|d| d.is_ascii_digit()) {
        return Err(bad());
    }
    let too_long =
        || format!("the number does not fit a decimal with {scale} digits after the point");
    let point = i64::try_from(whole.len()).map_err(|_| bad())? + i64::from(power);
    let keep = point + i64::from(scale);
    let mut value: i128 = 0;
    for (at, digit) in digits().enumerate() {
        let digit = i128::from(digit - b'0');
        if (at as i64) < keep {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(digit))
                .ok_or_else(too_long)?;
        } else if digit != 0 {
            return Err(too_long());
        }
    }
    let missing = keep - digits().count() as i64;
    if missing > 0 && value != 0 {
        let factor = u32::try_from(missing).ok().and_then(|n| 10i128.checked_pow(n));
        value = factor.and_then(|factor| value.checked_mul(factor)).ok_or_else(too_long)?;
    }
    Ok(if negative { -value } else { value })
}

fn text_cell(raw: &RawValue, length: Option<u32>) -> Result<Cell<'_>, String> {
    let text = string_value(raw).ok_or_else(|| misfit("text", raw.get()))?;
    match length {
        Some(limit) if text.chars().nth(limit as usize).is_some() => {
            Err(format!("the text is longer than {limit} characters"))
        }
        _ => Ok(Cell::Text(text)),
    }
}

fn binary(raw: &RawValue) -> Result<Cell<'_>, String> {
    let text = string_value(raw).ok_or_else(|| misfit("base64 text", raw.get()))?;
    STANDARD.decode(text.as_bytes()).map(Cell::Bytes).map_err(|_| "expected base64 text".to_owned())
}

fn json(text: &str) -> Result<Cell<'_>, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|_| "the JSON is nested too deeply".to_owned())?;
    let mut canonical = String::with_capacity(text.len());
    write_canonical(&value, &mut canonical);
    Ok(Cell::Json(text, canonical))
}

/// Writes a value so that equal values are equal text: members sorted by name.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (at, (name, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(kind: ColumnType, json: &str) -> Result<Cell<'static>, String> {
        let raw: Box<RawValue> = RawValue::from_string(json.to_owned()).unwrap();
        read(&Column::new("c", kind), &TimeZone::UTC, Box::leak(raw))
    }

    #[test]
    fn integers_are_checked_against_their_declared_width() {
        assert_eq!(cell(ColumnType::Byte, "-128"), Ok(Cell::Long(-128)));
        assert!(cell(ColumnType::Byte, "128").is_err());
        assert_eq!(cell(ColumnType::Long, "9223372036854775807"), Ok(Cell::Long(i64::MAX)));
        assert!(cell(ColumnType::Long, "9223372036854775808").is_err());
        assert_eq!(cell(ColumnType::Integer, "1.0"), Ok(Cell::Long(1)));
        assert_eq!(cell(ColumnType::Integer, "\"12\""), Ok(Cell::Long(12)));
        assert!(cell(ColumnType::Integer, "1.5").is_err());
        assert!(cell(ColumnType::Integer, "\"\"").is_err());
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let mut column = Column::new("c", ColumnType::Decimal);
        column.precision = Some(5);
        column.scale = Some(2);
        let at = |json: &str| {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            match read(&column, &TimeZone::UTC, &raw) {
                Ok(Cell::Decimal(digits)) => Some(digits),
                _ => None,
            }
        };
        assert_eq!(at("1"), Some(100));
        assert_eq!(at("-1.5"), Some(-150));
        assert_eq!(at("\"123.45\""), Some(12_345));
        assert_eq!(at("1.5e2"), Some(15_000));
        assert_eq!(at("1.230"), Some(123));
        assert_eq!(at("1.234"), None);
        assert_eq!(at("1000"), None);
    }

    #[test]
    fn decimals_that_come_as_bytes_are_refused_with_what_makes_them_text() {
        for json in ["\"AfQ=\"", "\"BNI1\"", r#"{"scale":2,"value":"AfQ="}"#] {
            let reason = cell(ColumnType::Decimal, json).unwrap_err();
            assert!(reason.contains("decimal.handling.mode=string"), "{json}: {reason}");
        }
        for json in ["\"12,50\"", "\"\"", "\"n/a\"", "true", "[1]"] {
            let reason = cell(ColumnType::Decimal, json).unwrap_err();
            assert!(!reason.contains("Debezium"), "{json}: {reason}");
        }
    }

    #[test]
    fn nothing_is_cast_between_text_and_numbers_and_booleans() {
        assert!(cell(ColumnType::String, "12").is_err());
        assert!(cell(ColumnType::Boolean, "\"yes\"").is_err());
        assert!(cell(ColumnType::Double, "true").is_err());
        assert!(cell(ColumnType::Double, "1e999").is_err());
        assert!(cell(ColumnType::Float, "1e39").is_err());
    }

    #[test]
    fn json_objects_compare_without_regard_to_the_order_of_members() {
        let canonical = |json: &str| match cell(ColumnType::Json, json) {
            Ok(Cell::Json(_, canonical)) => canonical,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            canonical(r#"{"b":1,"a":{"d":2,"c":3}}"#),
            canonical(r#"{"a":{"c":3,"d":2},"b":1}"#)
        );
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
    }
}

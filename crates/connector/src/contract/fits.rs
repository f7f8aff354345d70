//! Whether a row fits the columns that its entity declares.

use alluvium_model::metadata::TimeUnit;
use alluvium_model::sequence::{Instant, parse_instant};
use alluvium_model::{Column, ColumnType, EntitySpec};
use jiff::tz::TimeZone;
use serde_json::Value;

/// What of a row does not fit its entity's columns and keys, if anything.
pub fn misfit(entity: &EntitySpec, row: &Value) -> Option<String> {
    if !row.is_object() {
        return Some("the row is no object".to_owned());
    }
    for key in &entity.keys {
        let column = entity.column(key);
        let value = column.map_or(row.get(key), |column| value_at(row, column));
        if value.is_none_or(Value::is_null) {
            return Some(format!("the key `{key}` is missing"));
        }
    }
    entity.columns.iter().find_map(|column| {
        let value = value_at(row, column).unwrap_or(&Value::Null);
        let fits = if value.is_null() { column.nullable } else { is_a(column, value) };
        (!fits).then(|| format!("`{}` is no {:?}: {value}", column.name, column.kind))
    })
}

/// The value of a column in a row.
pub(super) fn value_at<'a>(row: &'a Value, column: &Column) -> Option<&'a Value> {
    match &column.path {
        None => row.get(&column.name),
        Some(pointer) if pointer.starts_with('/') => row.pointer(pointer),
        Some(path) => serde_json_path::JsonPath::parse(path).ok()?.query(row).first(),
    }
}

fn is_a(column: &Column, value: &Value) -> bool {
    let integer =
        |least: i64, most: i64| value.as_i64().is_some_and(|v| (least..=most).contains(&v));
    let is_number = || {
        value.as_i64().is_some_and(|number| Instant::from_number(number, column.counts()).is_ok())
    };
    match column.kind {
        ColumnType::Boolean => value.is_boolean() || integer(0, 1),
        ColumnType::Byte => integer(i8::MIN.into(), i8::MAX.into()),
        ColumnType::Short => integer(i16::MIN.into(), i16::MAX.into()),
        ColumnType::Integer => integer(i32::MIN.into(), i32::MAX.into()),
        ColumnType::Long => value.is_i64(),
        ColumnType::Float | ColumnType::Double => value.is_number(),
        ColumnType::Decimal => {
            value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok())
        }
        ColumnType::String | ColumnType::Binary => value.is_string(),
        ColumnType::Date => {
            let is_day = |text: &str| text.parse::<jiff::civil::Date>().is_ok();
            value.as_str().is_some_and(is_day) || column.unit == Some(TimeUnit::D) && is_number()
        }
        ColumnType::Timestamp => {
            let is_text = |text: &str| parse_instant(text, &TimeZone::UTC).is_ok();
            value.as_str().is_some_and(is_text) || is_number()
        }
        ColumnType::Json => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_times_and_days_where_silver_takes_them_as_such() {
        let of = |kind, unit| Column { unit, ..Column::new("c", kind) };
        let (time, day) = (ColumnType::Timestamp, ColumnType::Date);
        for (column, value, expected) in [
            (of(day, Some(TimeUnit::D)), json!(20_778), true),
            (of(day, Some(TimeUnit::D)), json!(20_261_121), false),
            (of(day, Some(TimeUnit::D)), json!("2026-11-21"), true),
            (of(day, None), json!("2026-11-21"), true),
            (of(day, None), json!(20_778), false),
            (of(time, None), json!(1_795_248_000_000_u64), true),
            (of(time, None), json!(1_795_248_000_000_000_u64), false),
            (of(time, Some(TimeUnit::Us)), json!(1_795_248_000_000_000_u64), true),
            (of(time, Some(TimeUnit::Us)), json!("9999-12-31T23:59:59Z"), true),
        ] {
            assert_eq!(is_a(&column, &value), expected, "{column:?} {value}");
        }
    }
}

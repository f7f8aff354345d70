//! Whether a row fits the columns that its entity declares.

use alluvium_model::{Column, ColumnType, EntitySpec};
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
        let fits = if value.is_null() { column.nullable } else { is_a(column.kind, value) };
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

fn is_a(kind: ColumnType, value: &Value) -> bool {
    let integer =
        |least: i64, most: i64| value.as_i64().is_some_and(|v| (least..=most).contains(&v));
    match kind {
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
            value.as_str().is_some_and(|text| text.parse::<jiff::civil::Date>().is_ok())
        }
        ColumnType::Timestamp => {
            let text = value.as_str();
            value.is_i64()
                || text.is_some_and(|text| {
                    let zone = &jiff::tz::TimeZone::UTC;
                    alluvium_model::sequence::parse_timestamp(text, zone).is_ok()
                })
        }
        ColumnType::Json => true,
    }
}

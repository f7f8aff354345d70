//! A key as somebody types it, as a condition on columns of their own types. No text becomes SQL.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use deltalake::datafusion::common::ScalarValue;
use deltalake::datafusion::logical_expr::{Expr, lit};
use deltalake::datafusion::prelude::ident;
use serde_json::value::RawValue;

use crate::QueryError;

type Object = BTreeMap<String, Box<RawValue>>;

/// Longer keys are not read.
const LONGEST: usize = 64 << 10;

/// That the columns `keys` have the values that `text` gives: the value of a single one as it is,
/// or a JSON object with all of them.
pub(crate) fn predicate(schema: &Schema, keys: &[String], text: &str) -> Result<Expr, QueryError> {
    if text.len() > LONGEST {
        return Err(QueryError::Key(format!("it is longer than {LONGEST} bytes")));
    }
    let mut all: Option<Expr> = None;
    for (name, text) in values(keys, text)? {
        let Ok(field) = schema.field_with_name(&name) else {
            return Err(QueryError::no_column(&name, names(schema)));
        };
        let is_equal = ident(&name).eq(lit(value(&name, field.data_type(), &text)?));
        all = Some(match all {
            Some(others) => others.and(is_equal),
            None => is_equal,
        });
    }
    all.ok_or_else(|| QueryError::Key("the entity has no key columns".to_owned()))
}

fn names(schema: &Schema) -> impl Iterator<Item = String> {
    schema.fields().iter().map(|field| field.name().clone())
}

/// The text of each key column's value.
fn values(keys: &[String], text: &str) -> Result<Vec<(String, String)>, QueryError> {
    let object = serde_json::from_str::<Object>(text).ok();
    match (keys, object) {
        // Text that happens to be an object may be the value itself.
        ([key], object) if object.as_ref().is_none_or(|o| !o.contains_key(key)) => {
            Ok(vec![(key.clone(), text.to_owned())])
        }
        (keys, Some(object)) => of_object(keys, &object),
        (keys, None) => {
            Err(QueryError::Key(format!("it is a JSON object with {}", keys.join(", "))))
        }
    }
}

fn of_object(keys: &[String], object: &Object) -> Result<Vec<(String, String)>, QueryError> {
    if let Some(other) = object.keys().find(|name| !keys.contains(name)) {
        return Err(QueryError::Key(format!(
            "`{other}` is not part of it; it is {}",
            keys.join(", ")
        )));
    }
    let text = |key: &String| match object.get(key).map(|value| value.get()) {
        None | Some("null") => Err(QueryError::Key(format!("`{key}` is missing"))),
        Some(json) if json.starts_with('"') => serde_json::from_str(json)
            .map(|text| (key.clone(), text))
            .map_err(|e| QueryError::Key(format!("`{key}`: {e}"))),
        // The digits as they were written: no detour through a float.
        Some(json) => Ok((key.clone(), json.to_owned())),
    };
    keys.iter().map(text).collect()
}

/// A value of the column's own type.
fn value(column: &str, kind: &DataType, text: &str) -> Result<ScalarValue, QueryError> {
    let wrong = || QueryError::Key(format!("`{column}` is a {}", name_of(kind)));
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Ok(ScalarValue::Utf8(Some(text.to_owned())))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            hex::decode(text).map(|bytes| ScalarValue::Binary(Some(bytes))).map_err(|_| wrong())
        }
        // Rounding would find another key.
        DataType::Decimal128(_, scale) if fraction_digits(text) > i64::from(*scale) => Err(wrong()),
        kind => {
            let value = ScalarValue::try_from_string(text.trim().to_owned(), kind);
            value.ok().filter(|value| !value.is_null()).ok_or_else(wrong)
        }
    }
}

/// How many digits follow the point, zeros at the end aside.
fn fraction_digits(text: &str) -> i64 {
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let fraction = mantissa.split_once('.').map_or("", |(_, fraction)| fraction);
    // No text is so long that its digits could not be counted.
    let digits = fraction.trim().trim_end_matches('0').len() as i64;
    digits.saturating_sub(power.trim().parse().unwrap_or(0))
}

/// A type in the words of metadata.
pub(crate) fn name_of(kind: &DataType) -> String {
    match kind {
        DataType::Int64 => "long".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Boolean => "boolean: true or false".to_owned(),
        DataType::Date32 => "date: 2026-01-31".to_owned(),
        DataType::Timestamp(_, _) => "timestamp: 2026-01-31T12:00:00Z".to_owned(),
        DataType::Decimal128(_, scale) => format!("decimal with {scale} digits after the point"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            "binary: an even number of hexadecimal digits".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    fn schema() -> Schema {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("price", DataType::Decimal128(38, 2), true),
            Field::new("at", instant, true),
            Field::new("hash", DataType::Binary, true),
        ])
    }

    fn shown(keys: &[&str], text: &str) -> Result<String, String> {
        let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        predicate(&schema(), &keys, text).map(|e| e.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_single_key_is_its_value_in_the_columns_type() {
        assert_eq!(shown(&["id"], " 7 ").unwrap(), "id = Int64(7)");
        assert_eq!(shown(&["name"], "x' OR 1=1 --").unwrap(), "name = Utf8(\"x' OR 1=1 --\")");
        assert_eq!(shown(&["name"], r#"{"a":1}"#).unwrap(), "name = Utf8(\"{\"a\":1}\")");
        assert_eq!(shown(&["id"], r#"{"id":7}"#).unwrap(), "id = Int64(7)");
        assert_eq!(shown(&["price"], "1.50").unwrap(), "price = Decimal128(1.50,38,2)");
        assert!(shown(&["at"], "1970-01-01T00:00:01Z").unwrap().contains("1000000"));
        assert!(shown(&["hash"], "00ff").is_ok());
    }

    #[test]
    fn a_composite_key_is_an_object_with_all_of_its_columns() {
        let both = ["id", "name"];
        assert_eq!(
            shown(&both, r#"{"name":"a\"b","id":9007199254740993}"#).unwrap(),
            "id = Int64(9007199254740993) AND name = Utf8(\"a\"b\")"
        );
        for bad in [r#"{"id":1}"#, r#"{"id":1,"name":null}"#, r#"{"id":1,"name":"x","z":2}"#, "1"] {
            assert!(shown(&both, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_refused_and_not_rounded() {
        assert_eq!(shown(&["id"], "seven").unwrap_err(), "the key does not fit: `id` is a long");
        assert!(shown(&["price"], "1.505").is_err());
        assert!(shown(&["price"], "1505e-3").is_err());
        assert!(shown(&["hash"], "0").is_err());
        assert!(
            shown(&["idd"], "1")
                .unwrap_err()
                .starts_with("there is no column `idd`; there are `id`")
        );
    }
}

//! The key of a message, and rows that need it: a delete of a key, and rows whose key stands only
//! beside them.

use std::collections::BTreeMap;

use alluvium_model::EntitySpec;
use alluvium_wire::for_each_member;
use serde_json::value::RawValue;

use crate::shape::unwrapped;

/// The key columns of an entity that a row carries under their own names.
pub(crate) fn names(entity: &EntitySpec) -> Vec<String> {
    let by_name = |key: &&String| entity.column(key).is_none_or(|column| column.path.is_none());
    entity.keys.iter().filter(by_name).cloned().collect()
}

/// A message's key, as JSON: text that is no JSON is a JSON text. `None` where it is no text.
pub(crate) fn parse(key: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(key).ok()?;
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Some(unwrapped(raw).to_owned()),
        Err(_) => RawValue::from_string(serde_json::to_string(text).ok()?).ok(),
    }
}

/// The row that has only the key: for a delete of it.
pub(crate) fn row(key: &RawValue, names: &[String]) -> Option<Box<RawValue>> {
    if key.get().starts_with('{') {
        let found = members(key)?;
        let has = |name: &String| found.contains_key(name);
        return names.iter().all(has).then(|| key.to_owned());
    }
    let name = only(key, names)?;
    object(&[(name, key)], "")
}

/// The row with the key columns that it lacks, from the message's key.
pub(crate) fn completed(
    row: Box<RawValue>,
    key: Option<&RawValue>,
    names: &[String],
) -> Box<RawValue> {
    let (Some(key), Some(own)) = (key, members(&row)) else { return row };
    let missing = names.iter().map(String::as_str).filter(|name| !own.contains_key(*name));
    let missing: Vec<&str> = missing.collect();
    let found = members(key);
    let part = |name: &str| match &found {
        Some(found) => found.get(name).copied(),
        None => only(key, names).map(|_| key),
    };
    let parts: Vec<_> = missing.into_iter().filter_map(|name| Some((name, part(name)?))).collect();
    spliced(row, &parts)
}

/// The members of an object; `None` for anything else.
fn members(value: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    let mut members = BTreeMap::new();
    for_each_member(value, |name, member| {
        members.insert(name.into_owned(), member);
    })
    .ok()?;
    Some(members)
}

/// The only name, if the key is a value of its own.
fn only<'n>(key: &RawValue, names: &'n [String]) -> Option<&'n str> {
    let is_value = !matches!(key.get().as_bytes().first(), None | Some(b'{' | b'[' | b'n'));
    match names {
        [name] if is_value => Some(name),
        _ => None,
    }
}

/// The row with these members before its own.
pub(crate) fn spliced(row: Box<RawValue>, parts: &[(&str, &RawValue)]) -> Box<RawValue> {
    if parts.is_empty() {
        return row;
    }
    let rest = row.get().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    rest.and_then(|rest| object(parts, rest)).unwrap_or(row)
}

fn object(parts: &[(&str, &RawValue)], rest: &str) -> Option<Box<RawValue>> {
    let mut json = "{".to_owned();
    for (at, (name, value)) in parts.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        json.push_str(&serde_json::to_string(name).ok()?);
        json.push(':');
        json.push_str(value.get());
    }
    if !rest.trim_ascii().is_empty() {
        json.push(',');
        json.push_str(rest);
    }
    json.push('}');
    RawValue::from_string(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: Option<Box<RawValue>>) -> Option<String> {
        json.map(|json| json.get().to_owned())
    }

    fn deleted(key: &str, names: &[&str]) -> Option<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        text(row(&parse(key.as_bytes()).unwrap(), &names))
    }

    #[test]
    fn a_key_is_an_object_or_a_value_with_or_without_schema() {
        let wrapped = r#"{"schema":{"type":"struct"},"payload":{"id":7}}"#;
        assert_eq!(deleted(wrapped, &["id"]).as_deref(), Some(r#"{"id":7}"#));
        assert_eq!(deleted("7", &["id"]).as_deref(), Some(r#"{"id":7}"#));
        assert_eq!(deleted("abc", &["id"]).as_deref(), Some(r#"{"id":"abc"}"#));
        assert_eq!(deleted(r#"{"a":1,"b":2}"#, &["b", "a"]).as_deref(), Some(r#"{"a":1,"b":2}"#));
    }

    #[test]
    fn a_key_that_does_not_name_the_row_is_none() {
        for (key, names) in
            [(r#"{"other":1}"#, vec!["id"]), ("7", vec!["a", "b"]), ("null", vec!["id"])]
        {
            assert_eq!(deleted(key, &names), None, "{key}");
        }
        assert!(parse(b"\xff").is_none());
    }

    #[test]
    fn a_row_takes_from_the_key_only_what_it_lacks() {
        let complete = |row: &str, key: &str| {
            let row = RawValue::from_string(row.to_owned()).unwrap();
            let key = parse(key.as_bytes());
            completed(row, key.as_deref(), &["id".to_owned()]).get().to_owned()
        };
        assert_eq!(complete(r#"{"v":1}"#, "7"), r#"{"id":7,"v":1}"#);
        assert_eq!(complete("{}", r#"{"id":7,"x":1}"#), r#"{"id":7}"#);
        assert_eq!(complete(r#"{"id":1}"#, "7"), r#"{"id":1}"#);
        assert_eq!(complete("5", "7"), "5");
    }
}

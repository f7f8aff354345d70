//! Takes values out of JSON text by JSONPath, byte for byte: no number loses a digit on the way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use alluvium_model::Column;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSONPath (RFC 9535), checked when it is read.
#[derive(Clone)]
pub struct JsonPath {
    text: String,
    path: serde_json_path::JsonPath,
    /// The steps, where the path has no filters, slices, negative indices or descendants.
    plain: Option<Vec<Step>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    Index(usize),
    All,
    /// A token of a JSON Pointer: a name in an object, an index in an array.
    Token(String),
}

impl JsonPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = serde_json_path::JsonPath::parse(text)
            .map_err(|e| format!("`{text}` is not a JSONPath: {}", e.message()))?;
        Ok(Self { text: text.to_owned(), path, plain: plain_steps(text) })
    }

    /// Where a column stands in its row: at its `path`, a JSON Pointer or a JSONPath, or else in the
    /// member of its name.
    pub fn of_column(column: &Column) -> Result<Self, String> {
        let tokens = match &column.path {
            None => vec![Step::Name(column.name.clone())],
            Some(pointer) if pointer.starts_with('/') => pointer[1..]
                .split('/')
                .map(|token| Step::Token(token.replace("~1", "/").replace("~0", "~")))
                .collect(),
            Some(path) => return Self::parse(path),
        };
        let text = column.path.clone().unwrap_or_else(|| column.name.clone());
        Ok(Self { text, plain: Some(tokens), ..Self::parse("$")? })
    }

    /// For a path that takes all elements of something, `$.data[*]`: the path to that something.
    pub fn container(&self) -> Option<Self> {
        let (last, steps) = self.plain.as_ref()?.split_last()?;
        let text = self.text.trim_end().strip_suffix("[*]").or(self.text.strip_suffix(".*"))?;
        let (text, plain) = (text.to_owned(), Some(steps.to_vec()));
        (*last == Step::All).then(|| Self { text, plain, path: self.path.clone() })
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The values that the path selects, in document order, as they stand in the text.
    pub fn select<'a>(&self, json: &'a RawValue) -> Result<Vec<&'a RawValue>, serde_json::Error> {
        let mut walk = Walk::default();
        let Some(steps) = &self.plain else {
            let value: Value = serde_json::from_str(json.get())?;
            let located = self.path.query_located(&value);
            let mut found = Vec::new();
            for path in located.locations() {
                let steps = path.iter().map(|element| match element.as_index() {
                    Some(index) => Step::Index(index),
                    None => Step::Name(element.as_name().unwrap_or_default().to_owned()),
                });
                walk.follow(json, &steps.collect::<Vec<_>>(), &mut found)?;
            }
            return Ok(found);
        };
        let mut found = Vec::new();
        walk.follow(json, steps, &mut found)?;
        Ok(found)
    }

    /// The first value that the path selects; a JSON null counts as none.
    pub fn first<'a>(&self, json: &'a RawValue) -> Result<Option<&'a RawValue>, serde_json::Error> {
        Ok(self.select(json)?.into_iter().next().filter(|value| value.get() != "null"))
    }
}

/// The value without the white space between its tokens; strings and numbers as they are.
pub fn compact(json: &RawValue) -> Box<RawValue> {
    let text = json.get();
    let mut short = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            in_string = c == '"';
            if c.is_ascii_whitespace() {
                continue;
            }
        }
        short.push(c);
    }
    RawValue::from_string(short).unwrap_or_else(|_| json.to_owned())
}

/// Objects and arrays taken apart once, however many paths lead through them.
#[derive(Default)]
struct Walk<'a> {
    objects: HashMap<*const u8, HashMap<String, &'a RawValue>>,
    arrays: HashMap<*const u8, Vec<&'a RawValue>>,
}

impl<'a> Walk<'a> {
    fn follow(
        &mut self,
        json: &'a RawValue,
        steps: &[Step],
        found: &mut Vec<&'a RawValue>,
    ) -> Result<(), serde_json::Error> {
        let Some((step, rest)) = steps.split_first() else {
            found.push(json);
            return Ok(());
        };
        for next in self.children(json, step)? {
            self.follow(next, rest, found)?;
        }
        Ok(())
    }

    fn children(
        &mut self,
        json: &'a RawValue,
        step: &Step,
    ) -> Result<Vec<&'a RawValue>, serde_json::Error> {
        let (text, at) = (json.get(), json.get().as_ptr());
        match (text.as_bytes().first(), step) {
            (Some(b'{'), Step::Name(name) | Step::Token(name)) => {
                let members = match self.objects.entry(at) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(vacant) => vacant.insert(serde_json::from_str(text)?),
                };
                Ok(members.get(name).copied().into_iter().collect())
            }
            (Some(b'['), Step::Index(index)) => {
                let elements = match self.arrays.entry(at) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(vacant) => vacant.insert(serde_json::from_str(text)?),
                };
                Ok(elements.get(*index).copied().into_iter().collect())
            }
            (Some(b'['), Step::Token(token)) => match token.parse() {
                Ok(index) => self.children(json, &Step::Index(index)),
                Err(_) => Ok(Vec::new()),
            },
            (Some(b'['), Step::All) => serde_json::from_str(text),
            (Some(b'{'), Step::All) => Members::values(text),
            _ => Ok(Vec::new()),
        }
    }
}

/// The members of an object in the order of the text.
struct Members<'a>(Vec<&'a RawValue>);

impl<'a> Members<'a> {
    fn values(text: &'a str) -> Result<Vec<&'a RawValue>, serde_json::Error> {
        serde_json::from_str::<Members<'a>>(text).map(|members| members.0)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some((_, value)) =
                    map.next_entry::<serde::de::IgnoredAny, &'de RawValue>()?
                {
                    values.push(value);
                }
                Ok(Members(values))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The steps of a path made of names, indices and wildcards only.
fn plain_steps(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[*]").or_else(|| rest.strip_prefix(".*")) {
            steps.push(Step::All);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Name(after[..end].to_owned()));
            rest = &after[end..];
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = ['\'', '"'].iter().find_map(|quote| {
                inside.strip_prefix(*quote).and_then(|name| name.strip_suffix(*quote))
            });
            steps.push(match quoted {
                Some(name) if name.contains(['\\', '\'', '"']) => return None,
                Some(name) => Step::Name(name.to_owned()),
                None => Step::Index(inside.parse().ok()?),
            });
            rest = after;
        }
    }
    Some(steps)
}

impl fmt::Debug for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for JsonPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for JsonPath {
    fn schema_name() -> Cow<'static, str> {
        "JsonPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "json-path",
            "pattern": "^\\$",
            "description": "A JSONPath (RFC 9535), such as `$.data[*]`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(path: &str, json: &str) -> Vec<String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let path = JsonPath::parse(path).unwrap();
        path.select(&raw).unwrap().iter().map(|v| v.get().to_owned()).collect()
    }

    const FEED: &str =
        r#"{"features": [{"id": 1.10}, {"id": 12345678901234567890.5, "hot": true}], "n": null}"#;

    #[test]
    fn records_keep_every_digit_that_the_source_sent() {
        assert_eq!(select("$.features[*].id", FEED), ["1.10", "12345678901234567890.5"]);
        assert_eq!(select("$['features'][1].id", FEED), ["12345678901234567890.5"]);
        assert_eq!(select("$..id", FEED), ["1.10", "12345678901234567890.5"], "descendants");
        let hot = select("$.features[?@.hot == true]", FEED);
        assert_eq!(hot, [r#"{"id": 12345678901234567890.5, "hot": true}"#], "a filter");
        assert_eq!(select("$.*", r#"{"b":2,"a":1}"#), ["2", "1"], "members in order");
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        assert!(select("$.nothing[*]", FEED).is_empty());
        assert!(select("$[*]", "5").is_empty());
        assert!(select("$.features.id", FEED).is_empty(), "an array has no members");
        let raw = RawValue::from_string(FEED.to_owned()).unwrap();
        assert!(JsonPath::parse("$.n").unwrap().first(&raw).unwrap().is_none(), "null is none");
    }

    #[test]
    fn a_column_is_found_by_its_name_its_pointer_or_its_path() {
        let row = RawValue::from_string(r#"{"a.b":1,"p":{"x/y":[2,3]}}"#.to_owned()).unwrap();
        let at = |name: &str, path: Option<&str>| {
            let mut column = Column::new(name, alluvium_model::ColumnType::Long);
            column.path = path.map(str::to_owned);
            JsonPath::of_column(&column).unwrap().first(&row).unwrap().map(|v| v.get().to_owned())
        };
        assert_eq!(at("a.b", None).as_deref(), Some("1"));
        assert_eq!(at("c", Some("/p/x~1y/1")).as_deref(), Some("3"));
        assert_eq!(at("c", Some("$.p['x/y'][0]")).as_deref(), Some("2"));
        assert_eq!(at("c", Some("/p/nothing")), None);
    }

    #[test]
    fn a_path_to_all_elements_knows_what_they_are_elements_of() {
        let container = |path| JsonPath::parse(path).unwrap().container();
        assert_eq!(container("$.data[*]").unwrap().as_str(), "$.data");
        assert_eq!(container("$[*]").unwrap().as_str(), "$");
        assert!(container("$.data").is_none());
    }

    #[test]
    fn a_path_that_does_not_parse_is_refused_when_it_is_read() {
        let error = serde_json::from_str::<JsonPath>(r#""features[*]""#).unwrap_err();
        assert!(error.to_string().contains("not a JSONPath"), "{error}");
    }

    #[test]
    fn compacting_leaves_strings_and_numbers_alone() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let pretty = "{\n  \"a b\" : \"x \\\" y\\\\\" ,\n  \"n\" : 1.10\n}";
        assert_eq!(compact(&raw(pretty)).get(), r#"{"a b":"x \" y\\","n":1.10}"#);
        assert_eq!(compact(&raw(r#"{"a":" "}"#)).get(), r#"{"a":" "}"#);
    }
}

//! Columns that Debezium marks as not sent, by a placeholder in the place of their value.

use std::borrow::Cow;

use memchr::memmem::Finder;
use serde_json::value::RawValue;

use crate::raw::for_each_member;

/// What Debezium writes for a value that the source did not send.
const PLACEHOLDER: &str = "__debezium_unavailable_value";
/// The same in a column of bytes: base64.
const PLACEHOLDER_BYTES: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

/// Looks for placeholders. Made once for many rows.
#[derive(Debug)]
pub(crate) struct Placeholders {
    text: Finder<'static>,
    bytes: Finder<'static>,
}

impl Placeholders {
    pub(crate) fn new() -> Self {
        Self { text: Finder::new(PLACEHOLDER), bytes: Finder::new(PLACEHOLDER_BYTES) }
    }

    /// Adds to `unset` the members of `row` whose value is a placeholder.
    pub(crate) fn add_to<'a>(&self, unset: &mut Vec<Cow<'a, str>>, row: &'a RawValue) {
        let bytes = row.get().as_bytes();
        if self.text.find(bytes).is_none() && self.bytes.find(bytes).is_none() {
            return;
        }
        let mut found = Vec::new();
        let visited = for_each_member(row, |name, value| {
            if is_placeholder(value) {
                found.push(name);
            }
        });
        if visited.is_ok() {
            found.retain(|name| !unset.contains(name));
            unset.append(&mut found);
        }
    }
}

/// A placeholder stands alone, or as the only element of an array column.
fn is_placeholder(value: &RawValue) -> bool {
    let text = value.get();
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let inner = inner.trim().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    matches!(inner, Some(PLACEHOLDER | PLACEHOLDER_BYTES))
}

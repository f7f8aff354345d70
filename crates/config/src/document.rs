//! A settings or metadata file: its text, its value, and where each part of the value stands.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Finding, Findings};
use crate::locate::{Spans, locate, token};

/// A file that was read and parsed.
#[derive(Debug)]
pub(crate) struct Document {
    name: String,
    text: Arc<str>,
    shown: Arc<str>,
    spans: HashMap<String, Spans>,
    /// What the text says.
    pub(crate) value: Value,
}

impl Document {
    /// Parses JSON. `excerpts`: whether a broken text may be quoted; a text that may hold secrets
    /// must not, since what is broken cannot be masked.
    pub(crate) fn json(
        name: &str,
        text: &str,
        excerpts: bool,
        findings: &mut Findings,
    ) -> Option<Self> {
        let text: Arc<str> = Arc::from(text.strip_prefix('\u{feff}').unwrap_or(text));
        let value = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(error) => {
                findings.push(json_syntax(name, &text, excerpts, &error));
                return None;
            }
        };
        let located = locate(&text);
        let document = Self {
            name: name.to_owned(),
            shown: Arc::clone(&text),
            text,
            spans: located.spans,
            value,
        };
        for (pointer, span) in located.repeated {
            let member = pointer.rsplit('/').next().unwrap_or_default();
            let problem = format!("`{member}` is given twice");
            let finding = document.finding_at(span, problem);
            findings.push(finding.with_help("keep one of the two".to_owned()));
        }
        Some(document)
    }

    /// Parses TOML. A broken text is not quoted, since it may hold secrets and cannot be masked.
    pub(crate) fn toml(name: &str, text: &str, findings: &mut Findings) -> Option<Self> {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let problem = format!("this is not TOML: {}", error.message());
            findings.push(Finding::in_text(name, text, None, span, problem));
        }
        if !errors.is_empty() {
            return None;
        }
        let mut spans = HashMap::new();
        let value = toml_table(table.get_ref(), "", &mut spans);
        spans.insert(String::new(), Spans { key: None, value: 0..0 });
        let text: Arc<str> = Arc::from(text);
        Some(Self { name: name.to_owned(), shown: Arc::clone(&text), text, spans, value })
    }

    /// Masks these parts of the text in every excerpt.
    pub(crate) fn mask(&mut self, parts: &[Range<usize>]) {
        let mut bytes = self.shown.as_bytes().to_vec();
        for part in parts {
            if let Some(bytes) = bytes.get_mut(part.clone()) {
                bytes.fill(b'*');
            }
        }
        // Whole string tokens are replaced, so the text stays UTF-8 of the same length.
        self.shown = Arc::from(String::from_utf8_lossy(&bytes));
    }

    /// Where the value that `pointer` names stands.
    pub(crate) fn span(&self, pointer: &str) -> Option<Range<usize>> {
        self.spans.get(pointer).map(|spans| spans.value.clone())
    }

    /// A finding at the value that `pointer` names, or at what is nearest above it.
    pub(crate) fn finding(&self, pointer: &str, problem: impl Into<String>) -> Finding {
        let spans = self.nearest(pointer);
        self.finding_at(spans.map_or(0..0, |spans| head(&self.text, &spans.value)), problem)
    }

    /// A finding at the name of the member that `pointer` names.
    pub(crate) fn finding_at_key(&self, pointer: &str, problem: impl Into<String>) -> Finding {
        match self.nearest(pointer).and_then(|spans| spans.key.clone()) {
            Some(key) => self.finding_at(key, problem),
            None => self.finding(pointer, problem),
        }
    }

    fn finding_at(&self, span: Range<usize>, problem: impl Into<String>) -> Finding {
        Finding::in_text(&self.name, &self.text, Some(Arc::clone(&self.shown)), span, problem)
    }

    fn nearest(&self, pointer: &str) -> Option<&Spans> {
        let mut pointer = pointer;
        loop {
            if let Some(spans) = self.spans.get(pointer) {
                return Some(spans);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// Reads a text file of at most `limit` bytes. A file that is not there is `Ok(None)`.
pub(crate) fn read_text(path: &Path, name: &str, limit: u64) -> Result<Option<String>, Finding> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Finding::in_file(name, format!("cannot be opened: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Finding::in_file(name, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(Finding::in_file(name, format!("is larger than {limit} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| {
        Finding::in_file(name, "is not UTF-8").with_help("save it as UTF-8".to_owned())
    })
}

fn json_syntax(name: &str, text: &Arc<str>, excerpts: bool, error: &serde_json::Error) -> Finding {
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = line_start + error.column().saturating_sub(1);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    let shown = excerpts.then(|| Arc::clone(text));
    let problem = format!("this is not JSON: {message}");
    let help = "JSON has no comments and no comma after the last member".to_owned();
    Finding::in_text(name, text, shown, offset..offset + 1, problem).with_help(help)
}

/// The first line of a value: what an excerpt marks.
fn head(text: &str, span: &Range<usize>) -> Range<usize> {
    let value = text.get(span.clone()).unwrap_or_default();
    span.start..span.start + value.find('\n').unwrap_or(value.len())
}

fn toml_table(table: &DeTable<'_>, pointer: &str, spans: &mut HashMap<String, Spans>) -> Value {
    let mut members = serde_json::Map::new();
    for (key, value) in table.iter() {
        let name = key.get_ref().to_string();
        let pointer = format!("{pointer}/{}", token(&name));
        let value = toml_value(value, &pointer, Some(key.span()), spans);
        members.insert(name, value);
    }
    Value::Object(members)
}

fn toml_value(
    value: &Spanned<DeValue<'_>>,
    pointer: &str,
    key: Option<Range<usize>>,
    spans: &mut HashMap<String, Spans>,
) -> Value {
    spans.insert(pointer.to_owned(), Spans { key, value: value.span() });
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(float) => float.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(array) => {
            let items = array.iter().enumerate();
            items
                .map(|(i, item)| toml_value(item, &format!("{pointer}/{i}"), None, spans))
                .collect()
        }
        DeValue::Table(table) => toml_table(table, pointer, spans),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_values_are_found_where_they_stand() {
        let text = "data = \"x\"\n\n[http]\nlisten = 7 # seven\n";
        let mut findings = Findings::default();
        let document = Document::toml("alluvium.toml", text, &mut findings).unwrap();
        assert_eq!(document.value, serde_json::json!({"data": "x", "http": {"listen": 7}}));
        assert_eq!(document.finding("/http/listen", "x").located(), "alluvium.toml:4:10: x");
        assert_eq!(document.finding_at_key("/http/listen", "x").located(), "alluvium.toml:4:1: x");
    }

    #[test]
    fn broken_json_is_told_with_its_line_and_column() {
        let mut findings = Findings::default();
        let text = "{\n  \"systems\": [,]\n}";
        assert!(Document::json("systems.json", text, false, &mut findings).is_none());
        let error = findings.into_result().unwrap_err();
        assert!(error.to_string().contains("systems.json:2:15: this is not JSON"), "{error}");
    }

    #[test]
    fn a_file_larger_than_its_limit_is_refused() {
        let path = std::env::temp_dir().join(format!("alluvium-large-{}", std::process::id()));
        std::fs::write(&path, "x".repeat(11)).unwrap();
        let finding = read_text(&path, "large", 10).unwrap_err();
        assert_eq!(read_text(&path, "large", 11).unwrap().unwrap().len(), 11);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(finding.problem(), "is larger than 10 bytes");
    }
}

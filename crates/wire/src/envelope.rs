//! The envelope: ours, and Debezium's with and without its schema.

use std::borrow::Cow;

use alluvium_model::Op;
use serde_json::value::RawValue;

use crate::decode::{ChangeView, FOREIGN_SNAPSHOT, Line};
use crate::error::Malformed;
use crate::parts::Parts;
use crate::raw::{is_null, is_object, present, string_value};
use crate::scan::{Broken, Scanner};

/// Reads a line that is an envelope.
pub(crate) fn decode(text: &str) -> Result<Line<'_>, Malformed> {
    let Some(outer) = Envelope::parse(text)? else { return Ok(Line::Tombstone) };
    match outer.payload {
        Some(payload) if outer.op.is_none() => match Envelope::parse(payload.get())? {
            Some(inner) => view(inner),
            None => Ok(Line::Tombstone),
        },
        _ => view(outer),
    }
}

/// Members as they stand; one that is null is there.
#[derive(Default)]
struct Envelope<'a> {
    op: Option<&'a RawValue>,
    before: Option<&'a RawValue>,
    after: Option<&'a RawValue>,
    source: Option<Source<'a>>,
    ts_ms: Option<&'a RawValue>,
    /// Beside a `schema`, in Debezium's wrapper. Null in a tombstone.
    payload: Option<&'a RawValue>,
}

/// Members of `source` that mean something to us, whoever wrote it; all others are passed over.
#[derive(Default)]
struct Source<'a> {
    ts_ms: Option<&'a RawValue>,
    snapshot: Option<&'a RawValue>,
    sequence: Option<&'a RawValue>,
    unset: Option<&'a RawValue>,
    old_key: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// `None` for `null`.
    fn parse(text: &'a str) -> Result<Option<Self>, Malformed> {
        let mut scanner = Scanner::new(text);
        if scanner.peek() != b'{' {
            let value = scanner.value()?;
            scanner.end()?;
            return if is_null(value) { Ok(None) } else { Err(bad("the line is no JSON object")) };
        }
        let mut envelope = Self::default();
        scanner.object(|scanner, name| {
            let slot = match name.text()?.as_ref() {
                "op" => &mut envelope.op,
                "before" => &mut envelope.before,
                "after" => &mut envelope.after,
                "ts_ms" => &mut envelope.ts_ms,
                "payload" => &mut envelope.payload,
                "source" if scanner.peek() == b'{' && envelope.source.is_none() => {
                    envelope.source = Some(Source::parse(scanner)?);
                    return Ok(());
                }
                "source" if is_null(scanner.value()?) => return Ok(()),
                "source" => return Err(bad("`source` is no JSON object, or stands twice")),
                _ => return Ok(scanner.pass()?),
            };
            set(slot, scanner)
        })?;
        scanner.end()?;
        Ok(Some(envelope))
    }
}

fn set<'a>(slot: &mut Option<&'a RawValue>, scanner: &mut Scanner<'a>) -> Result<(), Malformed> {
    match slot.replace(scanner.value()?) {
        None => Ok(()),
        Some(_) => Err(bad("a member of the envelope stands twice")),
    }
}

fn bad(reason: &str) -> Malformed {
    Malformed::new(Malformed::BAD_ENVELOPE, reason)
}

fn view(envelope: Envelope<'_>) -> Result<Line<'_>, Malformed> {
    let op = present(envelope.op)
        .ok_or_else(|| bad("`op` is missing: neither our envelope nor Debezium's"))?;
    let op = string_value(op).ok_or_else(|| bad("`op` is no string"))?;
    let op = Op::parse(&op)
        .ok_or_else(|| Malformed::new(Malformed::UNKNOWN_OP, "`op` is none of c, u, d, r, t"))?;
    let mut change =
        ChangeView::new(op).with_rows(present(envelope.before), present(envelope.after))?;
    match envelope.source {
        Some(source) => source.add_to(&mut change)?,
        None => change.changed_at_ms = envelope.ts_ms.and_then(integer),
    }
    Ok(Line::Change(change))
}

impl<'a> Source<'a> {
    fn parse(scanner: &mut Scanner<'a>) -> Result<Self, Malformed> {
        let mut source = Self::default();
        scanner.object(|scanner, name| {
            let slot = match name.text()?.as_ref() {
                "ts_ms" => &mut source.ts_ms,
                "snapshot" => &mut source.snapshot,
                "sequence" => &mut source.sequence,
                "unset" => &mut source.unset,
                "old_key" => &mut source.old_key,
                _ => return Ok(scanner.pass()?),
            };
            set(slot, scanner)
        })?;
        Ok(source)
    }

    fn add_to(self, change: &mut ChangeView<'a>) -> Result<(), Malformed> {
        change.changed_at_ms = self.ts_ms.and_then(integer);
        change.snapshot = present(self.snapshot).and_then(snapshot);
        if let Some(sequence) = present(self.sequence) {
            change.sequence = parts(sequence)?;
        }
        if let Some(unset) = present(self.unset) {
            change.unset = names(unset)?;
        }
        change.old_key = present(self.old_key);
        if change.old_key.is_some_and(|key| !is_object(key)) {
            return Err(bad("`source.old_key` is no JSON object"));
        }
        Ok(())
    }
}

fn names(unset: &RawValue) -> Result<Vec<Cow<'_, str>>, Malformed> {
    let no_names = || bad("`source.unset` is no array of column names");
    if !unset.get().starts_with('[') {
        return Err(no_names());
    }
    let mut names = Vec::new();
    Scanner::new(unset.get()).array(|scanner| {
        names.push(string_value(scanner.value()?).ok_or_else(no_names)?);
        Ok::<_, Malformed>(())
    })?;
    Ok(names)
}

fn integer(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok()
}

/// Ours is an id; Debezium's is a word that tells whether the row was read in a snapshot.
fn snapshot(raw: &RawValue) -> Option<Cow<'_, str>> {
    let word = match raw.get() {
        "true" => return Some(Cow::Borrowed(FOREIGN_SNAPSHOT)),
        "false" => return None,
        _ => string_value(raw)?,
    };
    match &*word {
        "" | "false" => None,
        "true"
        | "first"
        | "first_in_data_collection"
        | "last_in_data_collection"
        | "last"
        | "incremental" => Some(Cow::Borrowed(FOREIGN_SNAPSHOT)),
        _ => Some(word),
    }
}

/// Ours is an array; Debezium's is a string that holds one; a single value is its own only part.
fn parts(raw: &RawValue) -> Result<Parts<'_>, Malformed> {
    let mut parts = Parts::default();
    if raw.get().starts_with('[') {
        Scanner::new(raw.get()).array(|scanner| {
            parts.push(Cow::Borrowed(scanner.value()?));
            Ok::<_, Broken>(())
        })?;
        return Ok(parts);
    }
    if is_object(raw) {
        return Err(bad("`source.sequence` is no array of parts"));
    }
    let inner = string_value(raw).filter(|text| text.starts_with('['));
    match inner.map(|text| serde_json::from_str::<Vec<Box<RawValue>>>(&text)) {
        Some(Ok(values)) => values.into_iter().for_each(|value| parts.push(Cow::Owned(value))),
        _ => parts.push(Cow::Borrowed(raw)),
    }
    Ok(parts)
}

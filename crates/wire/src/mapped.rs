//! Lines read by a mapping. The mapping becomes a plan that picks all it needs from the line's
//! members in one pass.

use std::borrow::Cow;
use std::collections::BTreeMap;

use alluvium_model::Op;
use serde_json::value::RawValue;

use crate::decode::{ChangeView, Line};
use crate::error::Malformed;
use crate::mapping::Mapping;
use crate::parts::Parts;
use crate::path::{Path, Segment};
use crate::pick::Picker;
use crate::raw::{present, string_value};

/// A mapping, made ready.
#[derive(Debug)]
pub(crate) struct Plan {
    picker: Picker,
    op: Option<Place>,
    sequence: Vec<Place>,
    key: Vec<KeyPlace>,
    row: Place,
    before: Option<Place>,
    ops: BTreeMap<String, Op>,
}

/// Where the picker puts what stands at a path.
#[derive(Debug)]
struct Place {
    path: Path,
    slot: usize,
}

#[derive(Debug)]
struct KeyPlace {
    at: Place,
    /// Where the picker puts the part of a delete that has no row.
    in_before: Option<usize>,
}

/// What was picked from one line.
struct Picked<'s, 'a>(&'s [Option<&'a RawValue>]);

impl Plan {
    pub(crate) fn new(mapping: Mapping) -> Self {
        let Mapping { op, sequence, key, row, before, ops } = mapping;
        // Without `row` the line is the row, and a member `before` is one of its columns.
        let before = before.or_else(|| row.as_ref().map(|_| Path::member("before")));
        let row = row.unwrap_or_else(Path::whole);
        let in_before: Vec<_> = key.iter().map(|key| moved(key, &row, before.as_ref())).collect();
        let named = op.iter().chain(&sequence).chain(&key).chain([&row]).chain(&before);
        let moved = in_before.iter().flatten().map(Vec::as_slice);
        let picker = Picker::new(named.map(Path::segments).chain(moved));
        let place = |path: Path| {
            let slot = picker.place(path.segments()).unwrap_or_default();
            Place { path, slot }
        };
        let key = key.into_iter().zip(in_before).map(|(path, segments)| KeyPlace {
            at: place(path),
            in_before: segments.and_then(|segments| picker.place(&segments)),
        });
        Self {
            op: op.map(place),
            sequence: sequence.into_iter().map(place).collect(),
            key: key.collect(),
            row: place(row),
            before: before.map(place),
            ops,
            picker,
        }
    }

    pub(crate) fn decode<'a>(&self, text: &'a str) -> Result<Line<'a>, Malformed> {
        let mut few = [None; 12];
        let mut many = Vec::new();
        let found = match few.get_mut(..self.picker.size()) {
            Some(few) => few,
            None => {
                many.resize(self.picker.size(), None);
                &mut many[..]
            }
        };
        self.picker.pick(text, found)?;
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => self.view(&Picked(found)).map(Line::Change),
            // What Debezium sends after a delete.
            Some(b'n') => Ok(Line::Tombstone),
            _ => Err(Malformed::new(Malformed::BAD_ROW, "the line is no JSON object")),
        }
    }

    fn view<'a>(&self, picked: &Picked<'_, 'a>) -> Result<ChangeView<'a>, Malformed> {
        let op = self.op(picked)?;
        let row = picked.get(self.row.slot);
        let before = self.before.as_ref().and_then(|place| picked.get(place.slot));
        // A delete's row is the one that the mapping names, where the line has it.
        let mut change = match op {
            Op::Delete if row.is_some() => ChangeView::new(op).with_rows(row, None)?,
            _ => ChangeView::new(op).with_rows(before, row)?,
        };
        change.before = before;
        for place in &self.sequence {
            let part = picked.get(place.slot).ok_or_else(|| {
                let reason = format!("`{}`, which the mapping names, is missing", place.path);
                Malformed::new(Malformed::MISSING_SEQUENCE, reason)
            })?;
            change.sequence.push(Cow::Borrowed(part));
        }
        if op != Op::Truncate {
            change.key = self.key(op, picked)?;
        }
        Ok(change)
    }

    fn op(&self, picked: &Picked<'_, '_>) -> Result<Op, Malformed> {
        let Some(place) = &self.op else { return Ok(Op::Update) };
        let raw = picked.get(place.slot).ok_or_else(|| {
            let reason = format!("`{}`, which the mapping names, is missing", place.path);
            Malformed::new(Malformed::UNKNOWN_OP, reason)
        })?;
        let word = string_value(raw).unwrap_or(Cow::Borrowed(raw.get()));
        let known = self.ops.get(&*word).copied().or_else(|| Op::parse(&word));
        known.ok_or_else(|| {
            let reason = format!(
                "`{}` is no operation that we know: name the source's words in the mapping, as in \
                 `ops=add:c+del:d`",
                place.path
            );
            Malformed::new(Malformed::UNKNOWN_OP, reason)
        })
    }

    fn key<'a>(&self, op: Op, picked: &Picked<'_, 'a>) -> Result<Parts<'a>, Malformed> {
        let mut parts = Parts::default();
        for KeyPlace { at, in_before } in &self.key {
            let mut part = picked.get(at.slot);
            if part.is_none() && op == Op::Delete {
                part = in_before.and_then(|slot| picked.get(slot));
            }
            let part = part.ok_or_else(|| {
                let reason = format!("`{}`, which the mapping names, is missing", at.path);
                Malformed::new(Malformed::MISSING_KEY, reason)
            })?;
            parts.push(Cow::Borrowed(part));
        }
        Ok(parts)
    }
}

/// The path `key` into the row, as a path into the row before.
fn moved(key: &Path, row: &Path, before: Option<&Path>) -> Option<Vec<Segment>> {
    let rest = key.segments().strip_prefix(row.segments())?;
    Some([before?.segments(), rest].concat())
}

impl<'a> Picked<'_, 'a> {
    /// The value at a place; null counts as none.
    fn get(&self, slot: usize) -> Option<&'a RawValue> {
        present(*self.0.get(slot)?)
    }
}

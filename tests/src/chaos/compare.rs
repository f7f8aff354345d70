//! What was told, held against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::findings::{Findings, Spare};
use super::model::{Position, Version};
use super::shapes::Shape;

/// A record of raw.
pub(crate) struct Raw {
    /// Where it stands.
    pub position: Position,
    /// Whether it is a control record.
    pub control: bool,
    /// As it was received.
    pub text: String,
    /// The same, read.
    pub record: Value,
}

impl Raw {
    /// A record as it was received.
    pub(crate) fn new(position: Position, control: bool, text: &str) -> Self {
        let record = serde_json::from_str(text).unwrap();
        Self { position, control, text: text.to_owned(), record }
    }
}

/// A position, as texts show it.
pub(crate) fn place(text: &Value) -> Position {
    let parts: Vec<u64> =
        text.as_str().unwrap().split('/').map(|part| part.parse().unwrap()).collect();
    (parts[0], parts[1], parts[2])
}

/// Each line once, as it was given, and in that order.
pub(crate) fn published(found: &mut Findings, shape: &Shape, raw: &[Raw], lines: &[String]) {
    let is_told = |at: usize, raw: &Raw| lines.get(at) == Some(&raw.text);
    in_order(found, shape, raw, 0..lines.len() as u64, is_told);
}

/// Each record that the API showed once, in its order. It numbers them from one.
pub(crate) fn polled(found: &mut Findings, shape: &Shape, raw: &[Raw], shown: &[Value]) {
    let is_told = |at: usize, raw: &Raw| shown.get(at) == Some(&raw.record["after"]);
    in_order(found, shape, raw, 1..shown.len() as u64 + 1, is_told);
}

/// Each of these numbers once, with what was told at its place, in order.
fn in_order(
    found: &mut Findings,
    shape: &Shape,
    raw: &[Raw],
    told: Range<u64>,
    is_told: impl Fn(usize, &Raw) -> bool,
) {
    let (mut next, mut seen, mut again) = (told.start, BTreeSet::new(), Vec::new());
    for (at, raw) in raw.iter().enumerate() {
        let number = shape.number(&raw.record).unwrap();
        let name = || format!("{}: record {number} at {:?}", shape.id(), raw.position);
        let is_there = told.contains(&number) && is_told((number - told.start) as usize, raw);
        if !is_there || (number < next && !seen.contains(&number)) {
            found.alter(|| format!("{} was another one: {}", name(), raw.text));
        }
        if !seen.insert(number) {
            again.push((at, format!("{} stands in raw again", name())));
        }
        next = number + 1;
    }
    found.again(shape, again);
    for number in told.filter(|number| !seen.contains(number)) {
        found.lose(|| format!("{}: record {number} is not in raw", shape.id()));
    }
}

/// A snapshot, as raw has it.
#[derive(Default)]
struct Snapshot<'r> {
    rows: BTreeMap<u64, &'r Value>,
    /// So many rows its end tells, if it has ended.
    told: Option<u64>,
    again: Vec<Spare>,
    /// What stands behind its end.
    late: Vec<Spare>,
}

/// Each snapshot that has ended holds as many rows as its end tells, each once and before it; the
/// last one is the table.
pub(crate) fn whole(found: &mut Findings, shape: &Shape, raw: &[Raw], table: &[Value]) {
    let mut snapshots: BTreeMap<&str, Snapshot<'_>> = BTreeMap::new();
    let mut last = None;
    for (at, raw) in raw.iter().enumerate() {
        if raw.control {
            let name = raw.record["snapshot"].as_str().unwrap();
            let snapshot = snapshots.entry(name).or_default();
            if snapshot.told.replace(raw.record["rows"].as_u64().unwrap()).is_some() {
                snapshot.again.push((at, format!("{}: {name} ends again", shape.id())));
            }
            last = Some(name);
            continue;
        }
        let name = raw.record["source"]["snapshot"].as_str().unwrap();
        let (snapshot, row) = (snapshots.entry(name).or_default(), &raw.record["after"]);
        if snapshot.rows.insert(row["id"].as_u64().unwrap(), row).is_some() {
            snapshot.again.push((at, format!("{}: {name} has twice {row}", shape.id())));
        } else if snapshot.told.is_some() {
            let text = format!("{}: {name} has {row} after its end", shape.id());
            snapshot.late.push((at, text));
        }
    }
    for (name, Snapshot { rows, told, again, late }) in &mut snapshots {
        let there = rows.len() as u64;
        let told = told.unwrap_or(there);
        let text = || format!("{}: {name} has {there} rows of {told}", shape.id());
        (there..told).for_each(|_| found.lose(text));
        let (again, late) = (std::mem::take(again), std::mem::take(late));
        found.surplus(shape, again, late, there.saturating_sub(told), text);
    }
    let last = last.and_then(|name| snapshots.get(name));
    let last = last.into_iter().flat_map(|snapshot| snapshot.rows.values());
    if !last.copied().eq(table) {
        found.alter(|| format!("{}: the last snapshot is not the table", shape.id()));
    }
}

/// Each change of raw once, as it is, at its position.
pub(crate) fn bronze(found: &mut Findings, shape: &Shape, raw: &[Raw], rows: &[Value]) {
    let mut changes: BTreeMap<Position, &str> =
        raw.iter().filter(|raw| !raw.control).map(|raw| (raw.position, &*raw.text)).collect();
    for row in rows {
        let position = place(&row["_position"]);
        match changes.remove(&position) {
            None => found.repeat(|| format!("{}: bronze has {position:?} again", shape.id())),
            Some(text) if row["document"].as_str() != Some(text) => {
                found.alter(|| format!("{}: bronze has {position:?} as {row}", shape.id()));
            }
            Some(_) => {}
        }
    }
    for position in changes.keys() {
        found.lose(|| format!("{}: bronze lacks {position:?}", shape.id()));
    }
}

/// The versions that only one of both has. Goes through them, which are sorted, side by side.
pub(crate) fn silver(found: &mut Findings, shape: &Shape, model: &[Version], silver: &[Version]) {
    let (mut expected, mut there) = (model.iter().peekable(), silver.iter().peekable());
    loop {
        let (only, version) = match (expected.peek(), there.peek()) {
            (None, None) => return,
            (Some(one), Some(other)) if one == other => {
                expected.next();
                there.next();
                continue;
            }
            (Some(one), other) if other.is_none_or(|other| one < other) => {
                ("the model", expected.next())
            }
            _ => ("silver", there.next()),
        };
        found.differ(|| format!("{}: only {only} has {version:?}", shape.id()));
    }
}

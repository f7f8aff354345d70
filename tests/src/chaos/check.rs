//! What must hold at the end: raw and bronze have each record that was told, once, and silver has
//! the versions of the model.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::findings::Findings;
use super::ground::Ground;
use super::model::{Event, Position, Says, Seq, Version, versions};
use super::sources::Sources;
use super::stream::{SHAPES, Shape, Way};

/// So long a question to the lake may take, in seconds.
const PATIENCE: u64 = 120;

/// A record of raw.
struct Raw {
    position: Position,
    control: bool,
    text: String,
    record: Value,
}

/// Looks at all entities. What is found is there also where this breaks off.
pub(crate) fn look(found: &mut Findings, ground: &Ground, sources: &mut Sources) {
    let table = sources.table.rows();
    for shape in SHAPES {
        let raw = raw(ground, shape);
        found.records += raw.len() as u64;
        match shape.way {
            Way::Published => published(found, shape, &raw, &sources.lines[&shape.id()]),
            Way::Polled => polled(found, shape, &raw, &sources.shown(shape)),
            Way::Whole => whole(found, shape, &raw, &table),
        }
        bronze(found, ground, shape, &raw);
        silver(found, ground, shape, &raw);
        found.entities += 1;
    }
}

/// The rows that a statement gives.
pub(crate) fn query(ground: &Ground, sql: &str) -> Vec<Value> {
    let (code, rows, said) = ground.run(&["query", sql, "-q", "-o", "ndjson"], PATIENCE);
    assert_eq!(code, 0, "{sql}: {said}");
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn place(text: &Value) -> Position {
    let parts: Vec<u64> =
        text.as_str().unwrap().split('/').map(|part| part.parse().unwrap()).collect();
    (parts[0], parts[1], parts[2])
}

fn raw(ground: &Ground, shape: &Shape) -> Vec<Raw> {
    let sql = format!(
        "SELECT position, headers LIKE '%\"alluvium-kind\":\"control\"%' AS control, record \
         FROM raw.{}",
        shape.id()
    );
    let read = |row: &Value| {
        let text = row["record"].as_str().unwrap();
        Raw {
            position: place(&row["position"]),
            control: row["control"] == true,
            text: text.to_owned(),
            record: serde_json::from_str(text).unwrap(),
        }
    };
    let mut rows: Vec<Raw> = query(ground, &sql).iter().map(read).collect();
    rows.sort_by_key(|raw| raw.position);
    rows
}

/// Each line once, as it was given, and in that order.
fn published(found: &mut Findings, shape: &Shape, raw: &[Raw], lines: &[String]) {
    let mut expected = 0;
    let mut seen = BTreeSet::new();
    for raw in raw {
        let number = raw.record["n"].as_u64().unwrap();
        let at = || format!("{}: line {number} at {:?}", shape.id(), raw.position);
        if !seen.insert(number) {
            found.again(|| format!("{} stands in raw again", at()));
        } else if lines.get(number as usize) != Some(&raw.text) || number < expected {
            found.alter(|| format!("{} was another one: {}", at(), raw.text));
        }
        expected = number + 1;
    }
    for number in (0..lines.len() as u64).filter(|number| !seen.contains(number)) {
        found.lose(|| format!("{}: line {number} is not in raw", shape.id()));
    }
}

/// Each record that the API showed once, in its order.
fn polled(found: &mut Findings, shape: &Shape, raw: &[Raw], shown: &[Value]) {
    let mut before = 0;
    let mut seen = BTreeSet::new();
    for raw in raw {
        let number = raw.record["after"]["feed"].as_u64().unwrap();
        let at = || format!("{}: record {number} at {:?}", shape.id(), raw.position);
        if !seen.insert(number) {
            found.again(|| format!("{} stands in raw again", at()));
        } else if shown.get(number as usize - 1) != Some(&raw.record["after"]) || number < before {
            found.alter(|| format!("{} was another one: {}", at(), raw.text));
        }
        before = number;
    }
    for number in (1..=shown.len() as u64).filter(|number| !seen.contains(number)) {
        found.lose(|| format!("{}: record {number} is not in raw", shape.id()));
    }
}

/// Each snapshot that has ended holds as many rows as its end tells, each once; the last one is the
/// table.
fn whole(found: &mut Findings, shape: &Shape, raw: &[Raw], table: &[Value]) {
    let mut rows: BTreeMap<&str, BTreeMap<u64, &Value>> = BTreeMap::new();
    let mut last = None;
    for raw in raw {
        if raw.control {
            let name = raw.record["snapshot"].as_str().unwrap();
            let told = raw.record["rows"].as_u64().unwrap();
            let there = rows.get(name).map_or(0, BTreeMap::len) as u64;
            for _ in there..told {
                found.lose(|| format!("{}: {name} has {there} rows of {told}", shape.id()));
            }
            last = Some(name);
            continue;
        }
        let name = raw.record["source"]["snapshot"].as_str().unwrap();
        let row = &raw.record["after"];
        if rows.entry(name).or_default().insert(row["id"].as_u64().unwrap(), row).is_some() {
            found.again(|| format!("{}: {name} has twice {row}", shape.id()));
        }
    }
    let last: Vec<&Value> = last
        .and_then(|name| rows.get(name))
        .into_iter()
        .flat_map(BTreeMap::values)
        .copied()
        .collect();
    if last.len() != table.len() || last.iter().zip(table).any(|(one, other)| *one != other) {
        found.alter(|| format!("{}: the last snapshot is not the table", shape.id()));
    }
}

/// Each change of raw once, as it is.
fn bronze(found: &mut Findings, ground: &Ground, shape: &Shape, raw: &[Raw]) {
    let mut changes: BTreeMap<Position, &str> =
        raw.iter().filter(|raw| !raw.control).map(|raw| (raw.position, &*raw.text)).collect();
    for row in query(ground, &format!("SELECT _position, document FROM bronze.{}", shape.id())) {
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

/// What a record of raw says.
fn event(shape: &Shape, raw: &Raw) -> Event {
    let record = &raw.record;
    let row = |side: &str| record[side].as_object().unwrap().clone();
    let (seq, says) = match shape.way {
        Way::Published if record["op"] == "delete" => (&record["seq"], Says::Gone(row("before"))),
        Way::Published => {
            let op = if record["op"] == "insert" { "c" } else { "u" };
            (&record["seq"], Says::Row(op, row("after")))
        }
        Way::Polled => (&record["after"]["seq"], Says::Row("u", row("after"))),
        Way::Whole if raw.control => (&record["sequence"][0], Says::End),
        Way::Whole => (&record["source"]["sequence"][0], Says::Row("r", row("after"))),
    };
    Event { seq: Seq::of(seq), position: raw.position, says }
}

/// All versions of the model, and no other.
fn silver(found: &mut Findings, ground: &Ground, shape: &Shape, raw: &[Raw]) {
    let rules = shape.rules();
    let events: Vec<Event> = raw.iter().map(|raw| event(shape, raw)).collect();
    let model = versions(&rules, &events);
    let sql = format!(
        "SELECT {}, _valid_from, _valid_to, _is_current, _op, _position FROM silver.{}",
        rules.columns.join(", "),
        shape.id()
    );
    let read = |row: &Value| {
        let row: &Map<String, Value> = row.as_object().unwrap();
        let of = |names: &[String]| {
            Value::Array(names.iter().map(|name| row[name].clone()).collect()).to_string()
        };
        let to = Some(&row["_valid_to"]).filter(|to| !to.is_null()).map(Seq::of);
        assert_eq!(row["_is_current"] == true, to.is_none(), "{row:?}");
        Version {
            key: of(&rules.keys),
            from: Seq::of(&row["_valid_from"]),
            to,
            op: row["_op"].as_str().unwrap().to_owned(),
            position: place(&row["_position"]),
            values: of(&rules.columns),
        }
    };
    let mut rows: Vec<Version> = query(ground, &sql).iter().map(read).collect();
    rows.sort();
    found.versions += rows.len() as u64;
    differ(found, shape, &model, &rows);
}

/// Goes through both, which are sorted, side by side.
fn differ(found: &mut Findings, shape: &Shape, model: &[Version], silver: &[Version]) {
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
        found.wrong += 1;
        found.show(|| format!("{}: only {only} has {version:?}", shape.id()));
    }
}

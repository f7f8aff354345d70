//! What must hold at the end: raw and bronze have each record that was told, once, and silver has
//! the versions of the model.

use serde_json::{Map, Value};

use super::compare::{self, Raw, place};
use super::findings::Findings;
use super::ground::Ground;
use super::model::{Event, Says, Seq, Version, versions};
use super::shapes::{SHAPES, Shape, Way};
use super::sources::Sources;

/// So long a question to the lake may take, in seconds.
const PATIENCE: u64 = 120;

/// Looks at all entities. What is found is there also where this breaks off.
pub(crate) fn look(found: &mut Findings, ground: &Ground, sources: &mut Sources) {
    let table = sources.table.rows();
    for shape in SHAPES {
        let raw = raw(ground, shape);
        found.records += raw.len() as u64;
        match shape.way {
            Way::Published => {
                compare::published(found, shape, &raw, &sources.lines[&shape.id()]);
            }
            Way::Polled => compare::polled(found, shape, &raw, &sources.shown(shape)),
            Way::Whole => compare::whole(found, shape, &raw, &table),
        }
        let sql = format!("SELECT _position, document FROM bronze.{}", shape.id());
        compare::bronze(found, shape, &raw, &query(ground, &sql));
        let events: Vec<Event> = raw.iter().map(|raw| event(shape, raw)).collect();
        let silver = silver(ground, shape);
        found.versions += silver.len() as u64;
        compare::silver(found, shape, &versions(&shape.rules(), &events), &silver);
        found.entities += 1;
    }
}

/// The rows that a statement gives.
fn query(ground: &Ground, sql: &str) -> Vec<Value> {
    let ended = ground.run(&["query", sql, "-q", "-o", "ndjson"], PATIENCE);
    assert_eq!(ended.code, 0, "{sql}: {}", ended.said);
    ended.rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn raw(ground: &Ground, shape: &Shape) -> Vec<Raw> {
    let sql = format!(
        "SELECT position, headers LIKE '%\"alluvium-kind\":\"control\"%' AS control, record \
         FROM raw.{}",
        shape.id()
    );
    let read = |row: &Value| {
        let text = row["record"].as_str().unwrap();
        Raw::new(place(&row["position"]), row["control"] == true, text)
    };
    let mut rows: Vec<Raw> = query(ground, &sql).iter().map(read).collect();
    rows.sort_by_key(|raw| raw.position);
    rows
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

/// All versions that silver has, sorted.
fn silver(ground: &Ground, shape: &Shape) -> Vec<Version> {
    let rules = shape.rules();
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
    rows
}

//! The records of a case as a connector would give them.

use alluvium_model::{Change, Column, Control, Op, Record};
use serde_json::{Value, json};

use super::case::{Case, Input, Object};
use super::entity::letter;
use super::values::sent;
use crate::platform::raw_json;

/// The record that stands in the case at `at`.
pub(crate) fn record(case: &Case, at: usize) -> Record {
    let input = &case.input[at];
    match input.op.as_str() {
        "SE" => {
            let rows = case.input.iter().filter(|row| row.op == "R" && row.snap == input.snap);
            Record::Control(Control::SnapshotEnd {
                snapshot: input.snap.clone().unwrap(),
                sequence: sequence(case, &input.seq),
                rows: rows.count() as u64,
            })
        }
        "SC" => Record::Control(schema(input)),
        op => Record::Change(change(case, input, Op::parse(letter(op)).unwrap())),
    }
}

fn change(case: &Case, input: &Input, op: Op) -> Change {
    let row = |row: &Object| {
        let members = row.iter().map(|(name, value)| (name.clone(), sent(value)));
        raw_json(&Value::Object(members.collect()))
    };
    let base = match op {
        Op::Delete => Change::delete(row(&input.v)),
        _ => Change::upsert(row(&input.v)),
    };
    Change {
        op,
        after: base.after.filter(|_| op != Op::Truncate),
        before: base.before.or_else(|| input.old.as_ref().map(row)),
        sequence: sequence(case, &input.seq),
        snapshot: input.snap.clone(),
        unset: input.unset.clone(),
        old_key: input.old.as_ref().map(row),
        changed_at_ms: None,
        origin: None,
    }
}

/// The parts of a sequence as they are carried beside a row.
fn sequence(case: &Case, seq: &Value) -> Vec<Value> {
    match (case.seq_type(), seq) {
        (_, Value::Null) => Vec::new(),
        ("mysql", Value::Array(pair)) => {
            vec![json!(format!("{}:{}", pair[0].as_str().unwrap(), pair[1]))]
        }
        _ => case.parts(seq).into_iter().cloned().collect(),
    }
}

fn schema(input: &Input) -> Control {
    let column = |(name, kind): (&String, &String)| -> Column {
        let kind = if kind == "int" { "integer" } else { kind };
        serde_json::from_value(json!({"name": name, "type": kind})).unwrap()
    };
    let widened = input.schema.widen.iter().map(|(name, (_, wide))| (name, wide));
    Control::Schema {
        added: input.schema.add.iter().map(column).collect(),
        dropped: input.schema.drop.clone(),
        widened: widened.map(column).collect(),
    }
}

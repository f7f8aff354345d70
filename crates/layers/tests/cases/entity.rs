//! What a case says about its entity: as metadata for the stage, as rules for the reference.

use std::collections::BTreeSet;

use alluvium_model::{Column, Control, Record};
use serde_json::{Value, json};

use super::case::{Case, Tracked};
use super::values;
use crate::reference::{Rules, Told, Upsert, What};

impl Case {
    /// All columns of the case, those of the key first.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut columns = self.keys.clone();
        let of_input = self.input.iter().flat_map(|input| input.v.keys());
        let of_rows = self.expected.iter().flat_map(|row| row.keys());
        let meta = ["valid_from", "valid_to", "is_current", "op"];
        for name in of_input.chain(of_rows).filter(|name| !meta.contains(&name.as_str())) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        columns
    }

    /// The column's declaration: its type is that of all values it is ever given.
    fn column(&self, name: &str) -> Value {
        let taken = self.input.iter().filter(|input| self.reject(input.off).is_none());
        let of_input = taken.flat_map(|input| [Some(&input.v), input.old.as_ref()]).flatten();
        let values = of_input.chain(&self.expected).filter_map(|row| row.get(name));
        let values: Vec<&Value> = values.filter(|value| !value.is_null()).collect();
        let any = |is: fn(&Value) -> bool| values.iter().any(|value| is(value));
        let mut column = json!({"name": name});
        column["type"] = match () {
            () if any(|value| value.get("$dec").is_some()) => {
                let fraction = |value: &&Value| match value["$dec"].as_str()?.split_once('.') {
                    Some((_, fraction)) => Some(fraction.len()),
                    None => Some(0),
                };
                column["scale"] = json!(values.iter().filter_map(fraction).max());
                json!("decimal")
            }
            () if any(|value| value.get("$f").is_some() || value.is_f64()) => json!("double"),
            () if any(|value| value.is_object() || value.is_array()) => json!("json"),
            () if any(Value::is_number) => json!("long"),
            () if any(Value::is_boolean) => json!("boolean"),
            () => json!("string"),
        };
        if !self.keys.iter().any(|key| key == name) && !self.is_tracked(name) {
            column["history"] = json!("latest");
        }
        column
    }

    fn is_tracked(&self, column: &str) -> bool {
        match &self.tracked {
            Tracked::All(_) => true,
            Tracked::Only(columns) => columns.iter().any(|tracked| tracked == column),
        }
    }

    /// Whether a column holds JSON, which is compared by value.
    pub(crate) fn is_json(&self, column: &str) -> bool {
        self.column(column)["type"] == "json"
    }

    /// The entity as metadata.
    pub(crate) fn entity(&self) -> Value {
        let columns: Vec<Value> = self.columns().iter().map(|name| self.column(name)).collect();
        let first = match (self.seq_type(), self.options.tuple_ts) {
            ("timestamp", _) | ("tuple", true) => "timestamp",
            ("int" | "tuple", _) => "long",
            ("lsn", _) => "lsn",
            ("mysql", _) => "binlog",
            ("numeric_string", _) => "decimal",
            (other, _) => panic!("{}: seq_type {other}", self.name),
        };
        let parts = self.input.iter().map(|input| self.parts(&input.seq).len()).max().unwrap_or(1);
        let carried = (0..parts).map(|n| json!({"carried": if n == 0 { first } else { "long" }}));
        let options = &self.options;
        let ends = self.input.iter().any(|input| input.op == "SE");
        let scope: Vec<_> = options.snapshot_scope.iter().collect();
        json!({
            "system": "cases", "name": "rows", "load": if ends { "full" } else { "delta" },
            "keys": self.keys, "columns": columns, "sequence_by": carried.collect::<Vec<_>>(),
            "deletes": if self.has_tombstones() { "tombstone" } else { "close" },
            "ignore_null_updates": options.ignore_null_updates,
            "snapshot": {
                "retire_absent": options.retire_absent.unwrap_or(true),
                "scope": scope,
                "out_of_order": if options.snapshot_out_of_order.is_some() { "skip" } else { "apply" },
            },
        })
    }

    /// Whether the case means the same where only its key is declared.
    pub(crate) fn may_be_undeclared(&self) -> bool {
        let scope = self.options.snapshot_scope.iter();
        let mut named = self.options.ignore_null_updates.iter().chain(scope);
        matches!(self.tracked, Tracked::All(_)) && named.all(|name| self.keys.contains(name))
    }

    /// The entity as metadata, with no columns but those of the key.
    pub(crate) fn undeclared_entity(&self) -> Value {
        let mut entity = self.entity();
        entity["columns"] = self.keys.iter().map(|name| self.column(name)).collect();
        entity["schema_evolution"] = json!("evolve");
        entity
    }

    /// What has to be said of columns that are not declared: the types of those that are no text,
    /// and the names of those that no row has.
    pub(crate) fn types_to_tell(&self) -> Option<Record> {
        let taken = self.input.iter().filter(|input| self.reject(input.off).is_none());
        let sent: BTreeSet<&String> = taken.flat_map(|input| input.v.keys()).collect();
        let columns = self.columns().into_iter().filter(|name| !self.keys.contains(name));
        let columns = columns.map(|name| (sent.contains(&name), self.column(&name)));
        let told = columns.filter(|(sent, column)| !sent || column["type"] != "string");
        let added: Vec<Column> =
            told.map(|(_, column)| serde_json::from_value(column).unwrap()).collect();
        let is_needed = !added.is_empty();
        let told = Control::Schema { added, dropped: Vec::new(), widened: Vec::new() };
        is_needed.then_some(Record::Control(told))
    }

    fn has_tombstones(&self) -> bool {
        self.options.delete_mode.as_deref() == Some("tombstone_row")
    }

    /// The entity as rules.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            tracked: self.columns().into_iter().filter(|name| self.is_tracked(name)).collect(),
            ignore_null: self.options.ignore_null_updates.iter().cloned().collect(),
            tombstones: self.has_tombstones(),
            keep_absent: self.options.retire_absent == Some(false),
            scope: self.options.snapshot_scope.iter().cloned().collect(),
            skip_late_snapshots: self.options.snapshot_out_of_order.is_some(),
            unit: self.unit(),
        }
    }

    /// The records in the order of their offsets, as the reference understands them.
    pub(crate) fn told(&self) -> Vec<Told> {
        let columns = self.columns();
        let key = |row| format!("{:?}", values::row(&self.keys, row));
        let mut input: Vec<_> = self.input.iter().collect();
        input.sort_by_key(|input| input.off);
        let taken = input.into_iter().filter(|i| self.reject(i.off).is_none() && i.op != "SC");
        let told = taken.map(|input| Told {
            seq: self.seq(&input.seq),
            what: match input.op.as_str() {
                "T" => What::Truncate,
                "SE" => What::SnapshotEnd { snapshot: input.snap.clone().unwrap() },
                "D" => What::Delete { key: key(&input.v) },
                op => What::Upsert(Upsert {
                    key: key(&input.v),
                    old_key: input.old.as_ref().map(key),
                    op: letter(op),
                    values: values::row(&columns, &input.v),
                    unset: input.unset.iter().cloned().collect(),
                    absent: input.absent.iter().cloned().collect(),
                    snapshot: input.snap.clone(),
                }),
            },
        });
        told.collect()
    }
}

/// The operation that a case calls `op`.
pub(crate) fn letter(op: &str) -> &'static str {
    match op {
        "I" => "c",
        "U" | "K" => "u",
        "D" => "d",
        "R" => "r",
        "T" => "t",
        other => panic!("operation {other}"),
    }
}

//! What the entity of a random history decides, and what its drafts then say: to silver as records,
//! to the reference as what was told.

use std::collections::BTreeSet;

use alluvium_model::{Change, Column, ColumnType, Control, Op, Record};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::draft::{At, Draft, Row, Theme};
use crate::platform::{change, raw_json};
use crate::reference::{Rules, Seq, Told, Upsert, Values, What};

/// Where nothing of a key stands.
const BEFORE_ALL: At = (0, 0);

/// Before 1970, so that times are negative and positive.
const BEGIN_NS: i64 = -2_000;

/// What the entity decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choices {
    /// Ordered by instant and ordinal, half a microsecond a step; else by one long.
    by_time: bool,
    tombstones: bool,
    ignore_null: bool,
    keep_absent: bool,
    scope: bool,
    /// Columns come and go.
    evolves: bool,
}

/// The column that comes and goes.
const EXTRA: &str = "extra";

pub(crate) fn choices(theme: Theme) -> impl Strategy<Value = Choices> {
    let often = proptest::bool::weighted(0.4);
    let rarely = proptest::bool::weighted(0.1);
    (often, often, often, rarely).prop_map(move |(by_time, tombstones, ignore_null, keep)| {
        Choices {
            by_time,
            tombstones,
            ignore_null,
            keep_absent: keep && matches!(theme, Theme::Snapshots | Theme::Scope),
            scope: theme == Theme::Scope,
            evolves: theme == Theme::Columns,
        }
    })
}

impl Choices {
    /// The columns of a row, and whether they hold JSON.
    pub(crate) fn columns(self) -> Vec<(&'static str, bool)> {
        let columns = ["id", "n", "big", "mood", "region"].into_iter();
        columns.chain(self.evolves.then_some(EXTRA)).map(|name| (name, false)).collect()
    }

    /// The entity as metadata.
    pub(crate) fn entity(self) -> Value {
        let sequence_by = match self.by_time {
            true => json!([{"carried": "timestamp"}, {"carried": "long"}]),
            false => json!([{"carried": "long"}]),
        };
        json!({
            "system": "clock", "name": "histories", "load": "delta", "keys": ["id"],
            "sequence_by": sequence_by,
            "schema_evolution": if self.evolves { "evolve" } else { "discard" },
            "deletes": if self.tombstones { "tombstone" } else { "close" },
            "ignore_null_updates": if self.ignore_null { json!(["big"]) } else { json!([]) },
            "snapshot": {
                "retire_absent": !self.keep_absent,
                "scope": if self.scope { json!(["region"]) } else { json!([]) },
            },
            "columns": [
                {"name": "id", "type": "long"},
                {"name": "n", "type": "long"},
                {"name": "big", "type": "string"},
                {"name": "mood", "type": "integer", "history": "latest"},
                {"name": "region", "type": "string"},
            ],
        })
    }

    /// The entity as rules.
    pub(crate) fn rules(self) -> Rules {
        let tracked = ["id", "n", "big", "region"].into_iter();
        let tracked = tracked.chain(self.evolves.then_some(EXTRA));
        Rules {
            tracked: tracked.map(str::to_owned).collect(),
            ignore_null: self.ignore_null.then(|| "big".to_owned()).into_iter().collect(),
            tombstones: self.tombstones,
            keep_absent: self.keep_absent,
            scope: self.scope.then(|| "region".to_owned()).into_iter().collect(),
            skip_late_snapshots: false,
            unit: if self.by_time { 1_000 } else { 1 },
        }
    }

    /// Snapshots stand at sequences of changes too, but not where a scope limits them: no rule says
    /// which of two versions at one sequence its value is taken from.
    fn snapshot_at(self, snapshot: usize) -> At {
        ([2, 4, 6][snapshot], if self.scope { 7 } else { 1 })
    }

    fn nanoseconds((step, _): At) -> i64 {
        BEGIN_NS + step * 500
    }

    fn seq(self, at: At) -> Seq {
        match self.by_time {
            true => vec![Self::nanoseconds(at).into(), at.1.into()],
            false => vec![(at.0 * 10 + at.1).into()],
        }
    }

    fn sent_seq(self, at: At) -> Vec<Value> {
        if !self.by_time {
            return vec![json!(at.0 * 10 + at.1)];
        }
        let instant = jiff::Timestamp::from_nanosecond(Self::nanoseconds(at).into()).unwrap();
        vec![json!(instant.to_string()), json!(at.1)]
    }

    /// What silver must make of a draft.
    pub(crate) fn told(self, draft: &Draft) -> Told {
        let upsert = |key: i64, op, row: &Row| Upsert {
            key: key.to_string(),
            old_key: None,
            op,
            values: self.values(key, row),
            unset: BTreeSet::new(),
            absent: row.extra.is_none().then(|| EXTRA.to_owned()).into_iter().collect(),
            snapshot: None,
        };
        let (at, what) = match draft {
            Draft::Upsert { key, at, op, row, unset } => {
                let mut upsert = upsert(*key, op, row);
                for name in unset {
                    upsert.values.insert((*name).to_owned(), None);
                    upsert.unset.insert((*name).to_owned());
                }
                (*at, What::Upsert(upsert))
            }
            Draft::Delete { key, at } => (*at, What::Delete { key: key.to_string() }),
            Draft::KeyChange { old, new, at, row } => {
                let old_key = Some(old.to_string());
                (*at, What::Upsert(Upsert { old_key, ..upsert(*new, "u", &authored(row)) }))
            }
            Draft::Truncate { at } => (*at, What::Truncate),
            Draft::SnapshotRow { snapshot, key, row } => {
                let of = Some(snapshot.to_string());
                let row = in_snapshot(*snapshot, *key, row);
                let row = Upsert { snapshot: of, ..upsert(*key, "r", &row) };
                (self.snapshot_at(*snapshot), What::Upsert(row))
            }
            Draft::SnapshotEnd { snapshot } => {
                let end = What::SnapshotEnd { snapshot: snapshot.to_string() };
                (self.snapshot_at(*snapshot), end)
            }
            Draft::Schema { .. } => (BEFORE_ALL, What::Columns),
            Draft::Again(_) => unreachable!("it has been resolved"),
        };
        Told { seq: self.seq(at), what }
    }

    /// The record that says it; `all` is what the stream says.
    pub(crate) fn record(self, draft: &Draft, all: &[Vec<Draft>]) -> Record {
        let send = |op, key: i64, row: &Row, at| {
            change(op, &self.sent(key, row, &BTreeSet::new()), self.sent_seq(at))
        };
        Record::Change(match draft {
            Draft::Upsert { key, at, op, row, unset } => Change {
                unset: unset.iter().map(|name| (*name).to_owned()).collect(),
                ..change(Op::parse(op).unwrap(), &self.sent(*key, row, unset), self.sent_seq(*at))
            },
            Draft::Delete { key, at } => {
                change(Op::Delete, &json!({"id": key}), self.sent_seq(*at))
            }
            Draft::KeyChange { old, new, at, row } => Change {
                old_key: Some(raw_json(&json!({"id": old}))),
                ..send(Op::Update, *new, &authored(row), *at)
            },
            Draft::Truncate { at } => {
                Change { after: None, ..change(Op::Truncate, &json!({}), self.sent_seq(*at)) }
            }
            Draft::SnapshotRow { snapshot, key, row } => {
                let row = in_snapshot(*snapshot, *key, row);
                let snapshot_id = Some(snapshot.to_string());
                let row = send(Op::Read, *key, &row, self.snapshot_at(*snapshot));
                Change { snapshot: snapshot_id, ..row }
            }
            Draft::SnapshotEnd { snapshot } => {
                return Record::Control(Control::SnapshotEnd {
                    snapshot: snapshot.to_string(),
                    sequence: self.sent_seq(self.snapshot_at(*snapshot)),
                    rows: members(*snapshot, all).len() as u64,
                });
            }
            Draft::Schema { drops } => {
                let column = Column::new(EXTRA, ColumnType::String);
                return Record::Control(Control::Schema {
                    added: (!drops).then_some(column).into_iter().collect(),
                    dropped: drops.then(|| EXTRA.to_owned()).into_iter().collect(),
                    widened: Vec::new(),
                });
            }
            Draft::Again(_) => unreachable!("it has been resolved"),
        })
    }

    fn values(self, key: i64, row: &Row) -> Values {
        let mut row = self.sent(key, row, &BTreeSet::new());
        if self.evolves {
            row.as_object_mut().unwrap().entry(EXTRA).or_insert(Value::Null);
        }
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        row.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    fn sent(self, key: i64, row: &Row, unset: &BTreeSet<&'static str>) -> Value {
        let region = if self.scope { row.region } else { "eu" };
        let mut sent =
            json!({"id": key, "n": row.n, "big": row.big, "mood": row.mood, "region": region});
        // A null is not sent, so that it is a value or a message that the column comes with.
        if let (true, Some(Some(extra))) = (self.evolves, row.extra) {
            sent[EXTRA] = json!(extra);
        }
        for name in unset {
            sent.as_object_mut().unwrap().remove(*name);
        }
        sent
    }
}

/// A row that sends all its values, whatever null means: no rule says whether the row of a new key
/// keeps what the old key had.
fn authored(row: &Row) -> Row {
    Row { big: Some(row.big.unwrap_or("D")), ..row.clone() }
}

/// A snapshot contains a key in one region only.
fn in_snapshot(snapshot: usize, key: i64, row: &Row) -> Row {
    Row { region: ["eu", "us"][(key as usize + snapshot / 2) % 2], ..row.clone() }
}

fn members(snapshot: usize, all: &[Vec<Draft>]) -> BTreeSet<i64> {
    let member = |draft: &Draft| match draft {
        Draft::SnapshotRow { snapshot: of, key, .. } if *of == snapshot => Some(*key),
        _ => None,
    };
    all.iter().flatten().filter_map(member).collect()
}

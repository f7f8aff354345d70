//! A change of one row, and the control records that travel beside changes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// What happened to a row. The letters are those of the Debezium envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Op {
    /// Inserted.
    #[serde(rename = "c")]
    Create,
    /// Updated, or inserted: an upsert.
    #[serde(rename = "u")]
    Update,
    /// Deleted.
    #[serde(rename = "d")]
    Delete,
    /// Read in a snapshot.
    #[serde(rename = "r")]
    Read,
    /// All rows of the entity deleted.
    #[serde(rename = "t")]
    Truncate,
}

impl Op {
    /// The letter on the wire and in `_op`.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Create => "c",
            Op::Update => "u",
            Op::Delete => "d",
            Op::Read => "r",
            Op::Truncate => "t",
        }
    }

    /// Reads the letter, or one of the words that other tools write in its place.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "c" | "C" | "i" | "I" | "create" | "insert" | "INSERT" => Some(Op::Create),
            "u" | "U" | "update" | "upsert" | "UPDATE" | "UPSERT" => Some(Op::Update),
            "d" | "D" | "delete" | "DELETE" => Some(Op::Delete),
            "r" | "R" | "read" | "snapshot" | "READ" => Some(Op::Read),
            "t" | "T" | "truncate" | "TRUNCATE" => Some(Op::Truncate),
            _ => None,
        }
    }
}

/// One operation on one row, as a connector gives it: rows are still JSON text.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// The row before, a JSON object. A delete needs it, at least with the key.
    pub before: Option<Box<RawValue>>,
    /// The row after, a JSON object.
    pub after: Option<Box<RawValue>>,
    /// The change's place in the source's own order, its most significant part first. Empty where
    /// the entity takes its sequence from columns of the row, or has none.
    pub sequence: Vec<Value>,
    /// When the row was changed in the source, in milliseconds since 1970.
    pub changed_at_ms: Option<i64>,
    /// The snapshot that the row was read in.
    pub snapshot: Option<String>,
    /// Columns that the source did not send; they keep their previous value.
    pub unset: Vec<String>,
    /// The key before, where the change altered it.
    pub old_key: Option<Box<RawValue>>,
    /// Where the change stood in a foreign log, and what its producer said of its source: a JSON
    /// object. It is kept for people, and means nothing to the layers.
    pub origin: Option<Box<RawValue>>,
}

impl Change {
    /// An upsert of `row`.
    pub fn upsert(row: Box<RawValue>) -> Self {
        Self {
            op: Op::Update,
            before: None,
            after: Some(row),
            sequence: Vec::new(),
            changed_at_ms: None,
            snapshot: None,
            unset: Vec::new(),
            old_key: None,
            origin: None,
        }
    }

    /// A delete of the row whose last known state is `row`.
    pub fn delete(row: Box<RawValue>) -> Self {
        Self {
            op: Op::Delete,
            before: Some(row),
            after: None,
            ..Self::upsert(RawValue::NULL.to_owned())
        }
    }
}

/// What is not a change but alters the result. Travels on the same topic, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Control {
    /// All rows of a snapshot have been sent.
    SnapshotEnd {
        /// The snapshot's id.
        snapshot: String,
        /// The snapshot's sequence: keys that it did not contain are closed at it.
        sequence: Vec<Value>,
        /// How many rows it had.
        rows: u64,
    },
    /// Columns that were added, dropped or widened in the source.
    Schema {
        /// Columns added, with their types.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        added: Vec<crate::Column>,
        /// Names of columns dropped.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dropped: Vec<String>,
        /// Columns whose type grew, with their new type.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        widened: Vec<crate::Column>,
    },
    /// An operator's word on a record in quarantine.
    Decision {
        /// What was decided.
        decision: Decision,
        /// The record it is about.
        position: crate::Position,
    },
}

/// What an operator decided about a record in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Apply it after all.
    Approve,
    /// Leave it out for good.
    Discard,
}

/// What stands on a topic.
#[derive(Debug, Clone)]
pub enum Record {
    /// A change of a row.
    Change(Change),
    /// A control record.
    Control(Control),
}

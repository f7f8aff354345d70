//! An entity: a table, endpoint, topic or file set of a system.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Column, TimeUnit};
use crate::quantity::Period;
use crate::{EntityId, EntityName, SequenceType, SystemName};

/// An entity of a system, as it stands in `entities.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitySpec {
    /// The system it belongs to.
    pub system: SystemName,
    /// Its name within the system.
    pub name: EntityName,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether each run reads everything, or what changed since the last.
    #[serde(default)]
    pub load: Load,
    /// The connector's own part: which table, which path, which pages. Its shape depends on the
    /// system's type.
    #[serde(default = "empty_object")]
    pub source: Value,
    /// The columns that name a row. Empty only where the source itself can tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// What orders the changes of a row, the most significant part first. Without it, the order is
    /// that of arrival.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequence_by: Vec<SequenceBy>,
    /// The columns. Empty only where the source itself can tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Column>,
    /// What becomes of columns that are not declared.
    #[serde(default)]
    pub schema_evolution: SchemaEvolution,
    /// What a delete does.
    #[serde(default)]
    pub deletes: Deletes,
    /// Columns whose null means "not sent".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_null_updates: Vec<String>,
    /// How snapshots close what they do not contain.
    #[serde(default)]
    pub snapshot: SnapshotPolicy,
    /// Settings of the layers.
    #[serde(default)]
    pub layers: Layers,
}

impl EntitySpec {
    /// `system.entity`.
    pub fn id(&self) -> EntityId {
        EntityId::new(self.system.clone(), self.name.clone())
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Whether a run reads everything, or what changed since the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Each run is a snapshot; keys that it does not contain are closed.
    #[default]
    Full,
    /// Each run reads what changed since the last.
    Delta,
}

/// A part of what orders the changes of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum SequenceBy {
    /// A column of the row: an integer, a decimal or a timestamp.
    Column(String),
    /// A part that the change carries beside its row (`source.sequence`, or what
    /// `--map sequence=…` names), in this place among the carried parts.
    Carried {
        /// Its type.
        carried: SequenceType,
        /// For timestamps that come as numbers: what these count since 1970, UTC: `s`, `ms`
        /// (default), `us` or `ns`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<TimeUnit>,
    },
}

impl SequenceBy {
    /// A part that the change carries; numbers that are times count milliseconds.
    pub fn carried(kind: SequenceType) -> Self {
        Self::Carried { carried: kind, unit: None }
    }
}

/// What becomes of columns that are not declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaEvolution {
    /// They become columns.
    Evolve,
    /// A record that has one is quarantined.
    Freeze,
    /// They are left out of silver; bronze and raw keep them.
    #[default]
    Discard,
}

/// What a delete does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// It closes the open version.
    #[default]
    Close,
    /// It closes the open version and opens one with `_op = 'd'` and the last values.
    Tombstone,
}

/// How snapshots close what they do not contain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotPolicy {
    /// Whether keys that a snapshot did not contain are closed. Default true.
    pub retire_absent: bool,
    /// The columns whose values limit closing: only keys whose values the snapshot contained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// What becomes of a snapshot that is older than one already applied.
    pub out_of_order: SnapshotOrder,
    /// The share of open rows above which a snapshot that would close them is held until an
    /// operator confirms it. Default 0.5.
    pub max_close_share: f64,
    /// Below so many rows to close, a snapshot is never held. Default 100.
    pub min_close_rows: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            retire_absent: true,
            scope: Vec::new(),
            out_of_order: SnapshotOrder::Apply,
            max_close_share: 0.5,
            min_close_rows: 100,
        }
    }
}

/// What becomes of a snapshot that is older than one already applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotOrder {
    /// It applies as late events.
    #[default]
    Apply,
    /// It is left out.
    Skip,
}

/// Settings of the layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Layers {
    /// Bronze.
    pub bronze: ToggledLayer,
    /// Silver.
    pub silver: SilverLayer,
}

/// A layer that an entity may do without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToggledLayer {
    /// Whether the layer is kept for this entity. Default true.
    pub enabled: bool,
}

impl Default for ToggledLayer {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Silver's settings for an entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SilverLayer {
    /// Whether the layer is kept for this entity. Default true.
    pub enabled: bool,
    /// A record that is older, in the source's order, than the newest known of the entity by more
    /// than this is quarantined. Default: none is too late. Only where the order begins with a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_horizon: Option<Period>,
    /// Versions that ended longer ago than this are removed, and what is older than they are is
    /// quarantined. Default: they are kept for good. Only where the order begins with a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_retention: Option<Period>,
}

impl Default for SilverLayer {
    fn default() -> Self {
        Self { enabled: true, late_horizon: None, history_retention: None }
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

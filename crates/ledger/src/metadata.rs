//! Metadata as they were at start, with their history, and without secrets.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use alluvium_model::{EntitySpec, SystemSpec};

use crate::redact::redact;

/// What a metadata row describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataKind {
    /// A system; its name is the system's.
    System,
    /// An entity; its name is `system.entity`.
    Entity,
}

impl MetadataKind {
    /// The word for it in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            MetadataKind::System => "system",
            MetadataKind::Entity => "entity",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::System, Self::Entity].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What holds now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetadataEntry {
    /// What it describes.
    pub kind: MetadataKind,
    /// Its name.
    pub name: String,
    /// As in the file, secrets masked.
    pub spec: Value,
    /// Since when it reads so.
    pub since: Timestamp,
}

/// What held for a while.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetadataVersion {
    /// As in the file, secrets masked.
    pub spec: Value,
    /// From when.
    pub valid_from: Timestamp,
    /// Until when; `None` if it still holds.
    pub valid_to: Option<Timestamp>,
}

/// All systems and entities as (kind, name, JSON text), secrets masked.
pub(crate) fn masked(
    systems: &[SystemSpec],
    entities: &[EntitySpec],
) -> Result<Vec<(MetadataKind, String, String)>, serde_json::Error> {
    let systems = systems.iter().map(|system| {
        let mut spec = system.clone();
        redact(&mut spec.connection);
        Ok((MetadataKind::System, spec.name.to_string(), serde_json::to_string(&spec)?))
    });
    let entities = entities.iter().map(|entity| {
        let mut spec = entity.clone();
        redact(&mut spec.source);
        Ok((MetadataKind::Entity, spec.id().to_string(), serde_json::to_string(&spec)?))
    });
    systems.chain(entities).collect()
}

/// Whether an entity's spec, as JSON text, is another one with what that left to its source to tell.
pub(crate) fn completes(spec: &str, declared: &str) -> bool {
    let read = |text| serde_json::from_str::<Map<String, Value>>(text);
    let (Ok(mut spec), Ok(declared)) = (read(spec), read(declared)) else { return false };
    for told in ["keys", "sequence_by", "columns"] {
        if !declared.contains_key(told) {
            spec.remove(told);
        }
    }
    spec == declared
}

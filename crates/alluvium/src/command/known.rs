//! The entities as they are known now: as declared, completed by what the ledger remembers of their
//! sources.

use std::collections::BTreeMap;

use alluvium_config::Settings;
use alluvium_ledger::{Ledger, MetadataKind};
use alluvium_model::{EntityId, EntitySpec};

use crate::wiring;

/// An entity, with what else its layers need.
pub(crate) struct Known {
    pub(crate) spec: EntitySpec,
    /// The zone of its system's times that have none.
    pub(crate) timezone: String,
}

/// All entities that are declared, or that a source told of.
pub(crate) async fn known(settings: &Settings, ledger: &dyn Ledger) -> anyhow::Result<Vec<Known>> {
    let metadata = wiring::metadata(settings)?;
    let mut remembered: BTreeMap<EntityId, EntitySpec> = ledger
        .metadata()
        .await?
        .into_iter()
        .filter(|entry| entry.kind == MetadataKind::Entity)
        .filter_map(|entry| serde_json::from_value::<EntitySpec>(entry.spec).ok())
        .map(|spec| (spec.id(), spec))
        .collect();
    let mut specs = Vec::new();
    for declared in &metadata.entities {
        let told = remembered.remove(&declared.id());
        specs.push(told.map_or_else(|| declared.clone(), |told| completed(declared, told)));
    }
    specs.extend(remembered.into_values());
    let known = specs.into_iter().map(|spec| {
        let system = metadata.system(&spec.system);
        let timezone = system.map_or_else(|| "UTC".to_owned(), |system| system.timezone.clone());
        Known { spec, timezone }
    });
    Ok(known.collect())
}

/// What is declared counts; what it leaves open, the source has told.
fn completed(declared: &EntitySpec, told: EntitySpec) -> EntitySpec {
    let mut spec = declared.clone();
    if spec.keys.is_empty() {
        spec.keys = told.keys;
    }
    if spec.sequence_by.is_empty() {
        spec.sequence_by = told.sequence_by;
    }
    if spec.columns.is_empty() {
        spec.columns = told.columns;
    }
    spec
}

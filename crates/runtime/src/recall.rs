//! What the ledger remembers of entities: what their sources told in earlier runs, or to other
//! processes.

use std::collections::BTreeMap;

use alluvium_ledger::{LedgerError, MetadataKind};
use alluvium_model::{EntityId, EntitySpec};

use crate::context::Context;
use crate::crew::lands_alike;

/// Takes from the ledger what sources told of their entities before, where it still fits what is
/// declared, and writes the metadata. Gives the entities that are known so.
pub(crate) async fn recall(context: &Context) -> Result<Vec<EntityId>, LedgerError> {
    let mut known = Vec::new();
    for found in remembered(context).await? {
        let is_declared = context.is_declared(&found.id());
        if is_declared || context.workforce.is_some() || is_unfinished(context, &found) {
            known.push(found.id());
            context.learn(&[found]);
        }
    }
    let (platform, entities) = (&context.platform, context.entities());
    platform.ledger.store_metadata(&platform.systems, &entities, context.now()).await?;
    Ok(known)
}

/// The entities that the ledger remembers and that are of a system of ours: those that complete what
/// is declared, and those that nobody declared.
pub(crate) async fn remembered(context: &Context) -> Result<Vec<EntitySpec>, LedgerError> {
    let platform = &context.platform;
    let declared: BTreeMap<_, _> = platform.entities.iter().map(|e| (e.id(), e)).collect();
    let entries = platform.ledger.metadata().await?.into_iter();
    let specs = entries
        .filter(|entry| entry.kind == MetadataKind::Entity)
        .filter_map(|entry| serde_json::from_value::<EntitySpec>(entry.spec).ok())
        .filter(|spec| context.system(&spec.system).is_ok());
    let fits = |found: EntitySpec| match declared.get(&found.id()) {
        // The connector's own part is masked in the ledger.
        Some(declared) => completes(&found, declared)
            .then(|| EntitySpec { source: declared.source.clone(), ..found }),
        None => {
            let known = context.entity(&found.id()).ok();
            let source = known.map_or_else(|| found.source.clone(), |known| known.source);
            Some(EntitySpec { source, ..found })
        }
    };
    Ok(specs.filter_map(fits).collect())
}

/// Whether the topic of an entity that nobody declared holds what a layer has not landed.
fn is_unfinished(context: &Context, spec: &EntitySpec) -> bool {
    let id = spec.id();
    let topics = (context.platform.topics)();
    let topic = topics.iter().find(|topic| topic.topic == id);
    topic.is_some_and(|t| t.layers.iter().any(|layer| layer.waiting_records > 0))
}

/// Whether `known` is `declared`, completed by its source.
fn completes(known: &EntitySpec, declared: &EntitySpec) -> bool {
    let mut completed = declared.clone();
    if completed.keys.is_empty() {
        completed.keys.clone_from(&known.keys);
    }
    if completed.sequence_by.is_empty() {
        completed.sequence_by.clone_from(&known.sequence_by);
    }
    if completed.columns.is_empty() {
        completed.columns.clone_from(&known.columns);
    }
    lands_alike(&completed, known)
}

//! What tests with several workers are made of.

use std::collections::BTreeSet;

use alluvium_ledger::LeaseName;
use alluvium_model::{EncodedPage, EntityId, Layer, Position};
use alluvium_runtime::RuntimeHandle;
use alluvium_runtime::testkit::{World, id, until};
use alluvium_wire::{LineFormat, PublishContext, encode_lines};
use bytes::Bytes;

/// Publishes rows with these ids; answers where they end.
pub(crate) async fn publish(
    through: &RuntimeHandle,
    entity: &EntityId,
    ids: std::ops::RangeInclusive<u64>,
) -> Position {
    let context = PublishContext {
        entity: entity.clone(),
        run: None,
        traceparent: None,
        delivery: format!("{entity}/{ids:?}"),
        ordinal: 0,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let lines: String = ids.map(|id| format!("{{\"after\":{{\"id\":{id}}}}}\n")).collect();
    let messages = encode_lines(Bytes::from(lines), &LineFormat::Envelope, &context);
    let span = through.publish(entity, EncodedPage { messages }).await.unwrap().span;
    Position { epoch: span.epoch, offset: span.to, index: 0 }
}

/// What a worker holds of the layers.
pub(crate) fn layers(runtime: &RuntimeHandle) -> BTreeSet<String> {
    let worker = runtime.status().worker.unwrap();
    let names = worker.holds.iter().map(|name| name.as_str().to_owned());
    names.filter(|name| Layer::ALL.iter().any(|l| name.starts_with(&format!("{l}/")))).collect()
}

/// Waits until the workers hold all layers of so many entities, each one of them; answers how many
/// each holds.
pub(crate) async fn shared(workers: &[&RuntimeHandle], entities: usize) -> Vec<usize> {
    until("each layer has one worker", || {
        let held: Vec<_> = workers.iter().map(|worker| layers(worker)).collect();
        let all: BTreeSet<&String> = held.iter().flatten().collect();
        let sum: usize = held.iter().map(BTreeSet::len).sum();
        all.len() == entities * 3 && sum == entities * 3 && held.iter().all(|held| !held.is_empty())
    })
    .await;
    workers.iter().map(|worker| layers(worker).len()).collect()
}

pub(crate) fn entities(world: &mut World, count: usize) -> Vec<EntityId> {
    let names: Vec<String> = (0..count).map(|n| format!("table{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.system("shop", &names);
    names.iter().map(|name| id(&format!("shop.{name}"))).collect()
}

/// Whether a worker holds a layer.
pub(crate) fn holds(runtime: &RuntimeHandle, layer: Layer, entity: &EntityId) -> bool {
    layers(runtime).contains(LeaseName::layer(layer, entity).as_str())
}

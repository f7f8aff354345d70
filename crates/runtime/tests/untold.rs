//! Records in quarantine when the process ends between a layer's commit and the ledger's row.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alluvium_ledger::{QuarantineFilter, QuarantineRow, SqlLedger};
use alluvium_model::{EncodedPage, Layer, Position, SystemClock};
use alluvium_runtime::RuntimeHandle;
use alluvium_runtime::testkit::lake::{Fault, POISON};
use alluvium_runtime::testkit::{PATIENCE, World, id, until};
use alluvium_wire::{LineFormat, PublishContext, encode_lines};
use bytes::Bytes;

/// Publishes rows with these ids, and waits until all layers have them.
async fn publish(runtime: &RuntimeHandle, delivery: &str, ids: &[u64]) {
    let entity = id("shop.orders");
    let context = PublishContext {
        entity: entity.clone(),
        run: None,
        traceparent: None,
        delivery: delivery.to_owned(),
        ordinal: 0,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let lines: String = ids.iter().map(|id| format!("{{\"after\":{{\"id\":{id}}}}}\n")).collect();
    let messages = encode_lines(Bytes::from(lines), &LineFormat::Envelope, &context);
    let span = runtime.publish(&entity, EncodedPage { messages }).await.unwrap().span;
    let end = Position { epoch: span.epoch, offset: span.to, index: 0 };
    runtime.wait_applied(&entity, end, |_| ()).await.unwrap();
}

async fn quarantine(world: &World) -> Vec<QuarantineRow> {
    let mut rows = world.ledger.quarantine_list(&QuarantineFilter::default()).await.unwrap();
    rows.sort_by_key(|row| row.position);
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_quarantine_of_which_the_ledger_was_not_told_are_found_again() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let runtime = world.start().await;
    publish(&runtime, "a", &[1, POISON, 2]).await;
    world.lake.fault("shop.orders", Layer::Silver, Fault::FailAfterWrite);
    publish(&runtime, "b", &[3, 4, POISON, POISON]).await;
    let rows = quarantine(&world).await;
    let places: Vec<_> = rows.iter().map(|r| (r.position.offset, r.position.index)).collect();
    assert_eq!(places, [(1, 1), (2, 2), (2, 3)]);
    let told = world.ledger.quarantine_get(rows[2].id).await.unwrap().unwrap();
    assert_eq!(told.bytes, format!("{{\"after\":{{\"id\":{POISON}}}}}").as_bytes());
    assert_eq!((told.code.as_str(), told.layer), ("poison", Layer::Silver));
    assert_eq!(world.ledger.conservation(&id("shop.orders")).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_found_in_raw_where_the_bus_no_longer_has_them() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let runtime = world.start().await;
    publish(&runtime, "a", &[1, POISON, 2]).await;
    publish(&runtime, "b", &[POISON]).await;
    publish(&runtime, "c", &[3]).await;
    runtime.shutdown(PATIENCE).await;
    let before: Vec<_> = quarantine(&world).await.iter().map(|row| row.position).collect();
    assert_eq!(before.len(), 2);
    // The ledger is lost, and the bus has forgotten two messages of three.
    let path = world.folder.path().join("other.db");
    let ledger = SqlLedger::open(&path, Arc::new(SystemClock)).await.unwrap();
    world.ledger = Arc::new(ledger);
    world.subscribe.first_after.store(2, Ordering::Relaxed);
    let runtime = world.start().await;
    publish(&runtime, "d", &[4]).await;
    let after: Vec<_> = quarantine(&world).await.iter().map(|row| row.position).collect();
    assert_eq!(after, before);
    assert!(world.lake.with("shop.orders", Layer::Raw, |raw| raw.replayed) > 0);
    until("silver went on", || world.lake.ids("shop.orders", Layer::Silver).len() == 6).await;
}

//! Workers that wake after they were given up for dead: nothing of theirs is landed, published, or
//! told to the ledger. The lake takes all that comes, so that only the runtime can keep it away.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use alluvium_ledger::{LeaseName, Ledger};
use alluvium_model::metadata::Trigger;
use alluvium_model::{
    Applied, BatchId, Checksum, Clock, Counts, Layer, Position, RowsWritten, Span, SystemClock,
};
use alluvium_runtime::testkit::lake::Fault;
use alluvium_runtime::testkit::{PATIENCE, World, id, until};
use alluvium_runtime::{LayerPhase, Runtime, Triggers};
use tokio::sync::oneshot;

use crate::fleet::{layers, publish, shared};

/// A worker waits for its store in the middle of a batch for longer than its leases last.
async fn a_layer_is_broken_off(layer: Layer) {
    let mut world = World::new().await;
    world.settings.raw_linger = Duration::from_millis(50);
    world.system("shop", &["orders"]);
    world.lake.takes_all.store(true, Ordering::Relaxed);
    let orders = id("shop.orders");
    let (platform, cut) = world.worker("a").await;
    let a = Runtime::start(platform, Triggers::Heeded).await.unwrap();
    shared(&[&a], 1).await;
    let (answer, held) = oneshot::channel();
    world.lake.with("shop.orders", layer, |landed| match layer {
        Layer::Raw => landed.held_flush = Some(held),
        _ => landed.faults.push_back(Fault::Hold(held)),
    });
    let end = publish(&a, &orders, 1..=7).await;
    until("it waits", || {
        world.lake.with("shop.orders", layer, |l| l.faults.is_empty() && l.held_flush.is_none())
    })
    .await;
    let theirs = world.lake.with("shop.orders", layer, |landed| landed.owner);
    cut.close().await;
    until("it was broken off", || answer.is_closed()).await;
    let b = world.join("b").await;
    b.wait_applied(&orders, end, |_| ()).await.unwrap();
    let end = publish(&b, &orders, 8..=9).await;
    b.wait_applied(&orders, end, |_| ()).await.unwrap();
    until("it has no work any more", || layers(&a).is_empty()).await;
    world.lake.with("shop.orders", layer, |landed| {
        assert!(!landed.fenced.contains(&theirs), "it tried to land");
        assert!(landed.written_by.iter().all(|by| *by > theirs), "{:?}", landed.written_by);
        let opened = landed.opened.iter().filter(|opening| opening.owner == theirs).count();
        assert_eq!(opened, 1, "it began anew");
    });
    world.lake.assert_holds("shop.orders", 9);
    assert_eq!(world.ledger.conservation(&orders).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_of_raw_ends_with_its_lease() {
    Box::pin(a_layer_is_broken_off(Layer::Raw)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_of_bronze_ends_with_its_lease() {
    Box::pin(a_layer_is_broken_off(Layer::Bronze)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_of_silver_ends_with_its_lease() {
    Box::pin(a_layer_is_broken_off(Layer::Silver)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_nobody_can_break_off_is_the_last_that_a_worker_does() {
    let mut world = World::new().await;
    world.settings.raw_linger = Duration::from_millis(50);
    world.system("shop", &["orders"]);
    world.lake.takes_all.store(true, Ordering::Relaxed);
    let orders = id("shop.orders");
    let (platform, cut) = world.worker("a").await;
    let a = Runtime::start(platform, Triggers::Heeded).await.unwrap();
    shared(&[&a], 1).await;
    let (wake, frozen) = mpsc::channel();
    world.lake.fault("shop.orders", Layer::Silver, Fault::Freeze(frozen));
    let end = publish(&a, &orders, 1..=7).await;
    until("it stands still", || {
        world.lake.with("shop.orders", Layer::Silver, |silver| silver.faults.is_empty())
    })
    .await;
    let theirs = world.lake.with("shop.orders", Layer::Silver, |silver| silver.owner);
    cut.close().await;
    let b = world.join("b").await;
    b.wait_applied(&orders, end, |_| ()).await.unwrap();
    wake.send(()).unwrap();
    until("it has done what it was at", || {
        world.lake.with("shop.orders", Layer::Silver, |silver| silver.fenced.contains(&theirs))
    })
    .await;
    let end = publish(&b, &orders, 8..=9).await;
    b.wait_applied(&orders, end, |_| ()).await.unwrap();
    until("it has no work any more", || layers(&a).is_empty()).await;
    let phase = || a.status().entities[0].layers[2].state.phase;
    until("it has noticed", || phase() == LayerPhase::Elsewhere).await;
    world.lake.with("shop.orders", Layer::Silver, |silver| {
        let tried = silver.fenced.iter().filter(|token| **token == theirs).count();
        assert_eq!(tried, 1, "it went on");
        assert!(silver.written_by.iter().all(|by| *by > theirs), "{:?}", silver.written_by);
        let opened = silver.opened.iter().filter(|opening| opening.owner == theirs).count();
        assert_eq!(opened, 1, "it began anew");
    });
    world.lake.assert_holds("shop.orders", 9);
    assert_eq!(world.ledger.conservation(&orders).await.unwrap(), []);
}

/// What another owner landed, as the ledger hears of it.
fn theirs(end: Position) -> Applied {
    let span = Span { epoch: end.epoch, after: 0, to: end.offset };
    Applied {
        layer: Layer::Silver,
        batch: BatchId::of(Layer::Silver, &id("shop.orders"), &span),
        span,
        counts: Counts { records: 3, inserted: 3, ..Counts::default() },
        rows: RowsWritten::default(),
        checksum: Checksum::default(),
        quarantined: Vec::new(),
        version: None,
        bytes: 1,
        published_at_us: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_read_before_a_layer_was_lost_is_not_held_against_the_ledger() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let (orders, ledger) = (id("shop.orders"), &world.ledger);
    let a = world.join("a").await;
    shared(&[&a], 1).await;
    let (wake, frozen) = mpsc::channel();
    world.lake.with("shop.orders", Layer::Silver, |silver| silver.frozen_progress = Some(frozen));
    let end = publish(&a, &orders, 1..=3).await;
    until("it has read how far the lake is, and stands still", || {
        world.lake.with("shop.orders", Layer::Silver, |silver| silver.frozen_progress.is_none())
    })
    .await;
    // Its machine is stopped, its clock with it; another one takes over and goes on.
    let name = LeaseName::layer(Layer::Silver, &orders);
    loop {
        let leases = ledger.leases().await.unwrap();
        let held = leases.iter().find(|lease| lease.name == name.as_str()).unwrap();
        ledger.release_lease(&name, held.token).await.unwrap();
        if ledger.acquire_lease(&name, "another", PATIENCE * 30).await.unwrap().is_some() {
            break;
        }
    }
    let now = SystemClock.now();
    ledger.record_batches(&orders, &[theirs(end)], None, now).await.unwrap();
    wake.send(()).unwrap();
    let phase = || a.status().entities[0].layers[2].state.phase;
    until("it has noticed", || phase() == LayerPhase::Elsewhere).await;
    let totals = ledger.totals(&orders).await.unwrap();
    let silver = totals.iter().find(|totals| totals.layer == Layer::Silver).unwrap();
    assert_eq!((silver.offset, silver.counts.records), (end.offset, 3), "it was taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_poller_that_wakes_past_its_lease_publishes_nothing() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 10);
    world.systems[0].triggers = vec![Trigger::Interval { seconds: 1 }];
    let (held, release) = alluvium_bus::testkit::Fault::hold();
    world.publisher.fault(held);
    let (platform, cut) = world.worker("a").await;
    let a = Runtime::start(platform, Triggers::Heeded).await.unwrap();
    until("it holds a page", || script.asked.lock().unwrap().len() == 1).await;
    cut.close().await;
    let b = world.join("b").await;
    until("the other has polled and landed", || {
        world.lake.ids("shop.orders", Layer::Bronze).len() == 10
    })
    .await;
    release.release();
    script.has("orders", 15);
    until("the other goes on", || world.lake.ids("shop.orders", Layer::Bronze).len() >= 15).await;
    let end = alluvium_model::Publisher::end(&*world.bus, &id("shop.orders")).await.unwrap();
    let position = Position { epoch: end.0, offset: end.1, index: 0 };
    b.wait_applied(&id("shop.orders"), position, |_| ()).await.unwrap();
    world.lake.assert_holds("shop.orders", 15);
    drop(a);
}

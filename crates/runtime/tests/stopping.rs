//! Stopping and starting again.

use std::time::Duration;

use alluvium_bus::testkit::Fault as PublishFault;
use alluvium_ledger::RunStatus;
use alluvium_model::Layer;
use alluvium_runtime::{Phase, RuntimeError};
use tokio::sync::oneshot;

use alluvium_runtime::testkit::lake::Fault;
use alluvium_runtime::testkit::{PATIENCE, World, id, name, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_polls_end_their_page_and_layers_land_everything() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 30);
    let (held, release) = PublishFault::hold();
    world.publisher.fault(held);
    let runtime = world.start().await;
    let run = runtime.trigger(&name("shop"), None).await.unwrap();
    until("the page was polled", || script.asked.lock().unwrap().len() == 1).await;
    let stopping = runtime.clone();
    let stopping = tokio::spawn(async move { stopping.shutdown(PATIENCE).await });
    let mut phases = runtime.phases();
    phases.wait_for(|phase| *phase == Phase::Draining).await.unwrap();
    assert!(matches!(runtime.trigger(&name("shop"), None).await, Err(RuntimeError::Busy(_))));
    release.release();
    let left = stopping.await.unwrap();
    assert_eq!((left.behind.len(), left.broken_off), (0, false));
    world.lake.assert_holds("shop.orders", 10);
    assert_eq!(script.acks(), [10], "the page in hand, and none after it");
    let run = world.ledger.run(&run).await.unwrap().unwrap();
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(runtime.phase(), Phase::Stopped);
    let error = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Stopping));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_off_stop_left_is_landed_after_the_restart_even_without_the_source() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 10);
    let (_never, held) = oneshot::channel();
    world.lake.fault("shop.orders", Layer::Silver, Fault::Hold(held));
    let runtime = world.start().await;
    runtime.trigger(&name("shop"), None).await.unwrap();
    until("bronze landed", || world.lake.ids("shop.orders", Layer::Bronze).len() == 10).await;
    let left = runtime.shutdown(Duration::from_millis(300)).await;
    assert!(left.broken_off);
    assert!(left.behind.contains(&(id("shop.orders"), Layer::Silver, 1)), "{left:?}");
    *script.down.lock().unwrap() = true;
    let runtime = world.start().await;
    until("silver landed", || world.lake.ids("shop.orders", Layer::Silver).len() == 10).await;
    let left = runtime.shutdown(PATIENCE).await;
    assert_eq!((left.behind.len(), left.broken_off), (0, false));
    world.lake.assert_holds("shop.orders", 10);
    assert_eq!(world.ledger.conservation(&id("shop.orders")).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_a_crash_left_open_are_marked_at_the_next_start() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    let (_never, held) = oneshot::channel();
    script.fault("orders", alluvium_runtime::testkit::source::Fault::Hold(held));
    let runtime = world.start().await;
    let run = runtime.trigger(&name("shop"), None).await.unwrap();
    let _second = world.start().await;
    let run = world.ledger.run(&run).await.unwrap().unwrap();
    assert_eq!(run.status, RunStatus::Interrupted);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_are_delivered_before_the_process_ends() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 10);
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    runtime.shutdown(PATIENCE).await;
    let events = world.events.0.lock().unwrap().clone();
    assert!(events.contains(&format!("run/{}", report.run)), "{events:?}");
    for layer in Layer::ALL {
        assert!(events.iter().any(|id| id.starts_with(&format!("{layer}/shop.orders/"))));
    }
    assert_eq!(world.ledger.pending_events(10).await.unwrap(), []);
}

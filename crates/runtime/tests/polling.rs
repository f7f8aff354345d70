//! From the source onto the bus: order, retries, cursors, fencing, triggers.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::testkit::Fault as PublishFault;
use alluvium_ledger::{LeaseName, RunFilter, RunStatus, SqlLedger};
use alluvium_model::metadata::Trigger;
use alluvium_model::{
    BusError, Cursor, CursorRecord, EncodedPage, FencingToken, Page, Publisher, SourceError,
    SystemClock,
};
use alluvium_runtime::{Runtime, Triggers};
use serde_json::Value;
use tokio::sync::oneshot;

use alluvium_runtime::testkit::source::Fault;
use alluvium_runtime::testkit::{World, id, name, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_lands_every_row_in_every_layer_and_ends_in_the_ledger() {
    let mut world = World::new().await;
    world.system("shop", &["orders", "items"]).has("orders", 25);
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(
        (report.status, report.polled(), report.published()),
        (RunStatus::Succeeded, 25, 25)
    );
    world.lake.assert_holds("shop.orders", 25);
    let run = world.ledger.run(&report.run).await.unwrap().unwrap();
    assert_eq!((run.status, run.entities.succeeded, run.published), (RunStatus::Succeeded, 2, 25));
    assert_eq!(world.ledger.conservation(&id("shop.orders")).await.unwrap(), []);
    let again = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(again.published(), 0, "the cursor is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entity_can_be_run_alone_and_an_unknown_one_is_told() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders", "items"]);
    script.has("orders", 3);
    script.has("items", 3);
    let runtime = world.start().await;
    let items = "items".parse().unwrap();
    let report = runtime.ingest(&name("shop"), Some(&items), |_| {}).await.unwrap();
    assert_eq!(report.entities.len(), 1);
    world.lake.assert_holds("shop.items", 3);
    world.lake.assert_holds("shop.orders", 0);
    let nothing = "nothing".parse().unwrap();
    let report = runtime.ingest(&name("shop"), Some(&nothing), |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.unwrap().contains("shop.nothing"));
    assert!(runtime.ingest(&name("shoe"), None, |_| {}).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_does_not_fit_its_source_fails_alone() {
    let mut world = World::new().await;
    let script = world.system("shop", &["gone", "orders"]);
    script.misfits.lock().unwrap().push(id("shop.gone"));
    script.has("orders", 3);
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.unwrap().contains("shop.gone"));
    world.lake.assert_holds("shop.orders", 3);
    let run = world.ledger.run(&report.run).await.unwrap().unwrap();
    assert_eq!((run.entities.succeeded, run.entities.failed), (1, 1));
    let alone = runtime.ingest(&name("shop"), Some(&"gone".parse().unwrap()), |_| {}).await;
    assert_eq!(alone.unwrap().status, RunStatus::Failed);
    script.misfits.lock().unwrap().clear();
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{:?}", report.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_system_does_not_stop_another() {
    let mut world = World::new().await;
    *world.system("broken", &["things"]).down.lock().unwrap() = true;
    world.system("shop", &["orders"]).has("orders", 12);
    let runtime = world.start().await;
    let (broken, shop) = (name("broken"), name("shop"));
    let (broken, shop) =
        tokio::join!(runtime.ingest(&broken, None, |_| {}), runtime.ingest(&shop, None, |_| {}));
    let broken = broken.unwrap();
    assert_eq!(broken.status, RunStatus::Failed);
    let reason = broken.reason.unwrap();
    assert!(reason.contains("nobody answers") && reason.contains("3 times"), "{reason}");
    assert_eq!(shop.unwrap().status, RunStatus::Succeeded);
    world.lake.assert_holds("shop.orders", 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_entity_and_the_run_and_no_other_entity() {
    let mut world = World::new().await;
    let script = world.system("shop", &["first", "second"]);
    script.has("first", 15);
    script.has("second", 5);
    script.fault("first", Fault::Panic);
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.as_deref().unwrap().contains("shop.first: the connector panicked"));
    let statuses: Vec<_> = report.entities.iter().map(|e| e.status).collect();
    assert_eq!(statuses, [RunStatus::Failed, RunStatus::Succeeded]);
    world.lake.assert_holds("shop.second", 5);
    let run = world.ledger.run(&report.run).await.unwrap().unwrap();
    assert_eq!((run.status, run.entities.failed), (RunStatus::Failed, 1));
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "the next run begins anew");
    world.lake.assert_holds("shop.first", 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_mends_itself_is_tried_again_in_the_same_run() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 5);
    script.fault("orders", Fault::Fail(SourceError::Unavailable("hung up".to_owned())));
    script.fault("orders", Fault::Fail(SourceError::BadAnswer("half a body".to_owned())));
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    script.fault("orders", Fault::Fail(SourceError::Refused("401".to_owned())));
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.unwrap().contains("credentials"), "the advice is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_it_is_durable_on_the_bus() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 10);
    let (held, release) = PublishFault::hold();
    world.publisher.fault(held);
    let runtime = world.start().await;
    let run = runtime.trigger(&name("shop"), None).await.unwrap();
    until("the page was polled", || script.asked.lock().unwrap().len() == 1).await;
    assert_eq!(script.acks(), [0; 0]);
    assert!(matches!(
        runtime.trigger(&name("shop"), None).await,
        Err(alluvium_runtime::RuntimeError::Busy(_))
    ));
    assert!(release.release());
    until("the page was acknowledged", || script.acks() == [10]).await;
    until("the run ended", || runtime.status().systems[0].last_run.is_some()).await;
    assert_eq!(runtime.status().systems[0].last_run.as_ref().unwrap().run, run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_written_though_failure_was_reported_is_not_written_again() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 20);
    world.publisher.fault(PublishFault::FailAfterWrite);
    world.publisher.fault(PublishFault::Reject(BusError::Unavailable("away".to_owned())));
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!((report.status, report.published()), (RunStatus::Succeeded, 20));
    world.lake.assert_holds("shop.orders", 20);
    assert_eq!(script.acks(), [10, 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_bus_tells_how_far_was_published_not_the_ledger() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 30);
    world.publisher.pass();
    for _ in 0..3 {
        world.publisher.fault(PublishFault::Reject(BusError::Unavailable("away".to_owned())));
    }
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!((report.status, report.published()), (RunStatus::Failed, 10));
    runtime.shutdown(alluvium_runtime::testkit::PATIENCE).await;
    // A ledger that knows nothing.
    let path = world.folder.path().join("other.db");
    world.ledger = Arc::new(SqlLedger::open(&path, Arc::new(SystemClock)).await.unwrap());
    script.asked.lock().unwrap().clear();
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(script.asked.lock().unwrap()[0], Some(Value::from(10)));
    world.lake.assert_holds("shop.orders", 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_poller_is_fenced_and_acknowledges_nothing() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 10);
    let (held, release) = PublishFault::hold();
    world.publisher.fault(held);
    let runtime = world.start().await;
    runtime.trigger(&name("shop"), None).await.unwrap();
    until("the page was polled", || script.asked.lock().unwrap().len() == 1).await;
    let younger =
        CursorRecord { token: FencingToken(u64::MAX), page: 1, cursor: Cursor(Value::from(10)) };
    let page = EncodedPage::default();
    world.bus.publish(&id("shop.orders"), page, Some(younger)).await.unwrap();
    release.release();
    until("the run ended", || runtime.status().systems[0].last_run.is_some()).await;
    let report = runtime.status().systems[0].last_run.clone().unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.unwrap().contains("fenced"));
    assert_eq!(script.acks(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_page_moves_the_cursor_and_one_that_stands_still_ends_the_run() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    let page =
        |next: u64| Page { records: Vec::new(), next: Some(Cursor(next.into())), more: true };
    script.fault("orders", Fault::Page(page(7)));
    script.fault("orders", Fault::Page(page(7)));
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    let record = world.bus.cursor(&id("shop.orders")).await.unwrap().unwrap();
    assert_eq!((record.cursor.0, record.page), (Value::from(7), 1));
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.unwrap().contains("does not move"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_due_while_it_runs_is_skipped_and_counted() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    world.systems[0].triggers = vec![Trigger::Interval { seconds: 1 }];
    let (release, held) = oneshot::channel();
    script.fault("orders", Fault::Hold(held));
    script.has("orders", 1);
    let runtime = Runtime::start(world.platform(), Triggers::Heeded).await.unwrap();
    until("a trigger was skipped", || runtime.status().systems[0].skipped_triggers > 0).await;
    let runs = world.ledger.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].trigger, "interval");
    release.send(()).unwrap();
    until("the run ended", || runtime.status().systems[0].last_run.is_some()).await;
    runtime.shutdown(alluvium_runtime::testkit::PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_another_process_polls_is_left_alone() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 10);
    let lease = LeaseName::poll(&id("shop.orders"));
    let minute = Duration::from_secs(60);
    world.ledger.acquire_lease(&lease, "somebody", minute).await.unwrap().unwrap();
    let runtime = world.start().await;
    let report = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert!(report.reason.unwrap().contains("another process polls this entity"));
    assert_eq!(script.asked.lock().unwrap().len(), 0);
}

//! From the bus into the lake: errors, replay, lingering, epochs, waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alluvium_bus::TopicStats;
use alluvium_model::outcome::Progress;
use alluvium_model::{Checksum, Counts, Epoch, Layer, Position, Publisher, StageError};
use alluvium_runtime::{LayerPhase, Phase, Runtime, RuntimeError, Triggers};
use alluvium_wire::{LineFormat, PublishContext, encode_lines};
use bytes::Bytes;

use alluvium_runtime::testkit::lake::Fault;
use alluvium_runtime::testkit::{PATIENCE, World, id, name, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_landed_before_an_error_is_neither_lost_nor_landed_twice() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 40);
    world.lake.fault("shop.orders", Layer::Silver, Fault::FailAfterWrite);
    let away = StageError::Unavailable("the lake is away".to_owned());
    world.lake.fault("shop.orders", Layer::Bronze, Fault::Fail(away));
    world.lake.fault("shop.orders", Layer::Raw, Fault::FailAfterWrite);
    let runtime = world.start().await;
    runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    world.lake.assert_holds("shop.orders", 40);
    assert_eq!(world.ledger.conservation(&id("shop.orders")).await.unwrap(), []);
    assert!(world.lake.with("shop.orders", Layer::Silver, |silver| silver.opened.len()) > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_fails_for_good_stops_alone_and_is_told() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 10);
    let damaged = StageError::Corrupt("a file is missing".to_owned());
    world.lake.fault("shop.orders", Layer::Silver, Fault::Fail(damaged));
    let runtime = world.start().await;
    let error = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap_err();
    let RuntimeError::LayerStopped { layer: Layer::Silver, reason, .. } = error else {
        panic!("{error}")
    };
    assert!(reason.contains("a file is missing") && reason.contains("restore"), "{reason}");
    until("bronze went on", || world.lake.ids("shop.orders", Layer::Bronze).len() == 10).await;
    let status = runtime.status();
    let stopped: Vec<_> = status.stopped_layers().map(|(_, layer)| layer.layer).collect();
    assert_eq!(stopped, [Layer::Silver]);
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_that_fails_is_counted_and_stops_nothing() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 10);
    world.lake.with("shop.orders", Layer::Silver, |silver| {
        silver.upkeep_faults.push_back(StageError::Corrupt("a file is missing".to_owned()));
    });
    let runtime = world.start().await;
    runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    world.lake.assert_holds("shop.orders", 10);
    let failed = "alluvium_maintenance_errors_total{entity=\"orders\",layer=\"silver\",\
                  system=\"shop\"} 1";
    until("it is counted", || world.metrics.encode().unwrap().contains(failed)).await;
    assert!(runtime.status().stopped_layers().next().is_none());
    let (opened, asked) = world
        .lake
        .with("shop.orders", Layer::Silver, |silver| (silver.opened.len(), silver.maintained));
    assert_eq!((opened, asked), (1, 1), "it is left alone for a while");
    until("bronze is looked after", || {
        world.lake.with("shop.orders", Layer::Bronze, |bronze| bronze.maintained) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_stops_its_layer_and_no_other() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 10);
    world.lake.fault("shop.orders", Layer::Bronze, Fault::Panic);
    let runtime = world.start().await;
    let error = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("bronze of `shop.orders` has stopped"), "{error}");
    until("silver went on", || world.lake.ids("shop.orders", Layer::Silver).len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_no_longer_has_is_read_from_raw_and_then_the_bus_again() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    script.has("orders", 30);
    world.entities[0].layers.silver.enabled = false;
    let runtime = world.start().await;
    runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    runtime.shutdown(PATIENCE).await;
    // Silver comes later, when the bus has forgotten two pages of three.
    world.entities[0].layers.silver.enabled = true;
    world.subscribe.first_after.store(2, Ordering::Relaxed);
    script.has("orders", 45);
    let runtime = world.start().await;
    runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    world.lake.assert_holds("shop.orders", 45);
    assert!(world.lake.with("shop.orders", Layer::Raw, |raw| raw.replayed) > 0);
    let layer = runtime.status().entities[0].layers[2].clone();
    assert_eq!((layer.layer, layer.state.phase), (Layer::Silver, LayerPhase::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_neither_on_the_bus_nor_in_raw_is_an_error_never_a_skip() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 30);
    world.subscribe.first_after.store(2, Ordering::Relaxed);
    let runtime = world.start().await;
    let error = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("begins after offset 2"), "{error}");
    assert_eq!(world.lake.ids("shop.orders", Layer::Silver), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_another_epoch_stops_the_layer_and_the_others_go_on() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 10);
    world.lake.with("shop.orders", Layer::Silver, |silver| {
        silver.progress = Some(Progress {
            epoch: Epoch(1),
            offset: 4,
            totals: Counts::default(),
            checksum: Checksum::default(),
            former: Default::default(),
        });
    });
    let runtime = world.start().await;
    let error = runtime.ingest(&name("shop"), None, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("epoch"), "{error}");
    until("bronze went on", || world.lake.ids("shop.orders", Layer::Bronze).len() == 10).await;
    assert_eq!(world.lake.ids("shop.orders", Layer::Silver), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_lands_what_lingered_when_its_time_is_over() {
    let mut world = World::new().await;
    world.settings.raw_linger = Duration::from_millis(100);
    world.system("shop", &["orders"]).has("orders", 10);
    let runtime = world.start().await;
    runtime.trigger(&name("shop"), None).await.unwrap();
    until("raw landed", || world.lake.ids("shop.orders", Layer::Raw).len() == 10).await;
    world.lake.assert_holds("shop.orders", 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_lingers_where_nobody_waits_and_lag_is_measured_meanwhile() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 10);
    let runtime = world.start().await;
    runtime.trigger(&name("shop"), None).await.unwrap();
    until("silver landed", || world.lake.ids("shop.orders", Layer::Silver).len() == 10).await;
    let lag = |text: &str| {
        let layer = "entity=\"orders\",layer=\"raw\",system=\"shop\"";
        text.lines().any(|l| l.contains("lag") && l.contains(layer) && l.ends_with(" 10"))
    };
    until("raw's lag is measured", || lag(&world.metrics.encode().unwrap())).await;
    assert_eq!(world.lake.ids("shop.orders", Layer::Raw), [0; 0]);
    let status = runtime.status();
    assert_eq!(status.entities[0].layers[0].lag_records, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_pages_are_waited_for_with_progress() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let runtime = world.start().await;
    let mut push = runtime.push(&id("shop.orders")).await.unwrap();
    let context = PublishContext {
        entity: id("shop.orders"),
        run: Some(push.run().clone()),
        traceparent: push.traceparent().map(str::to_owned),
        delivery: "file".to_owned(),
        ordinal: 0,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let lines = Bytes::from_static(b"{\"after\":{\"id\":1}}\n{\"after\":{\"id\":2}}\n");
    let messages = encode_lines(lines, &LineFormat::Envelope, &context);
    let published = push.publish(alluvium_model::EncodedPage { messages }).await.unwrap();
    let report = push.finish(None).await;
    assert_eq!((report.published(), report.trigger.as_str()), (2, "publish"));
    let heard = std::sync::Mutex::new(Vec::new());
    let end = Position { epoch: published.span.epoch, offset: published.span.to, index: 0 };
    let tell = |update: alluvium_runtime::ProgressUpdate| {
        heard.lock().unwrap().push((update.layer, update.applied));
    };
    runtime.wait_applied(&id("shop.orders"), end, tell).await.unwrap();
    world.lake.assert_holds("shop.orders", 2);
    for layer in Layer::ALL {
        assert!(heard.lock().unwrap().contains(&(layer, end.offset)), "{layer}");
    }
    assert_eq!(runtime.phase(), Phase::Running);
    assert_eq!(world.bus.end(&id("shop.orders")).await.unwrap().1, end.offset);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_loss_that_the_bus_tells_is_measured() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let mut platform = world.platform();
    let told = TopicStats {
        topic: id("shop.orders"),
        epoch: Epoch(1),
        first_after: 0,
        end: 1,
        messages: 1,
        stored_bytes: 1,
        unlanded_bytes: 1,
        last_published_at_us: Some(1),
        time_to_loss: Some(Duration::from_secs(60)),
        layers: Vec::new(),
    };
    platform.topics = Arc::new(move || vec![told.clone()]);
    let _runtime = Box::pin(Runtime::start(platform, Triggers::Ignored)).await.unwrap();
    let shown = r#"alluvium_bus_time_to_loss_seconds{entity="orders",system="shop"} 60"#;
    until("it is measured", || world.metrics.encode().unwrap().contains(shown)).await;
}

//! What is done beside publishing and reading, while something of it fails.

use std::time::Duration;

use alluvium_bus::{Bus as _, NatsSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, EntityId, Layer, Publisher, Span};
use alluvium_testkit::NatsServer;

use super::{PATIENCE, STREAM, answered, connect, drain, jetstream, server, settings, stream};
use crate::support::{OWNER, page, topic};

fn others() -> Vec<EntityId> {
    (0..8).map(|number| format!("shop.t{number}").parse().unwrap()).collect()
}

/// The server goes without the topic's stream, or with it again.
fn without_the_stream(server: &mut NatsServer, gone: bool) {
    tokio::task::block_in_place(|| {
        server.server.kill();
        let folder = server.server.folder();
        let there = folder.join("store/jetstream/$G/streams").join(STREAM);
        let aside = folder.join("aside");
        let (from, to) = if gone { (there, aside) } else { (aside, there) };
        std::fs::rename(from, to).unwrap();
        server.server.resume();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_record_does_not_read_keeps_no_other_from_being_looked_after() {
    let server = server!();
    let (bus, other) = (connect(settings(&server)).await, connect(settings(&server)).await);
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    for id in others() {
        bus.end(&id).await.unwrap();
        other.publish(&id, page([vec![1], vec![2]]), None).await.unwrap();
    }
    let js = jetstream(&server).await;
    let sent = js.publish("alluvium.state.landed.shop.orders", "no record".into()).await.unwrap();
    sent.await.unwrap();
    let failed = bus.refresh().await;
    assert!(
        matches!(&failed, Err(BusError::Corrupt(text)) if text.contains("shop.orders")),
        "{failed:?}"
    );
    let ends = bus.topic_stats().into_iter().filter(|of| of.topic != topic()).map(|of| of.end);
    assert_eq!(ends.collect::<Vec<_>>(), [2; 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_retention_cannot_shorten_keeps_no_other_from_it() {
    let server = server!();
    let settings = NatsSettings { retention_age: Duration::ZERO, ..settings(&server) };
    let bus = connect(settings).await;
    let mut readers = Vec::new();
    for id in others().into_iter().chain([topic()]) {
        let epoch = bus.publish(&id, page([vec![1]]), None).await.unwrap().span.epoch;
        let mut raw = bus.subscribe(&id, Layer::Raw, OWNER).await.unwrap();
        assert_eq!(drain(&mut raw).await.len(), 1);
        raw.commit(&Span { epoch, after: 0, to: 1 }).await.unwrap();
        readers.push(raw);
    }
    let mut config = stream(&server).await.cached_info().config.clone();
    config.deny_purge = true;
    jetstream(&server).await.update_stream(config).await.unwrap();
    assert!(bus.retain().await.is_err(), "one topic denies it");
    for of in bus.topic_stats() {
        assert_eq!(of.messages, u64::from(of.topic == topic()), "{}", of.topic);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_somebody_sets_meanwhile_shows_by_itself_in_what_the_bus_tells() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let told = || bus.topic_stats().remove(0).time_to_loss;
    assert_eq!(told(), None);
    let age = Duration::from_secs(7200);
    let mut config = stream(&server).await.cached_info().config.clone();
    config.max_age = age;
    jetstream(&server).await.update_stream(config).await.unwrap();
    let shown = async {
        loop {
            match told() {
                Some(left) => return left,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let left = tokio::time::timeout(PATIENCE, shown).await.expect("it shows");
    assert!(left <= age && left > age / 2, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_gone_for_a_moment_is_the_same_topic_to_those_who_read_it() {
    let mut server = server!();
    let settings = NatsSettings { retention_age: Duration::ZERO, ..settings(&server) };
    let bus = connect(settings).await;
    let three = page((0..3).map(|n| vec![n]));
    let epoch = bus.publish(&topic(), three, None).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(drain(&mut raw).await.len(), 3);
    raw.commit(&Span { epoch, after: 0, to: 3 }).await.unwrap();
    without_the_stream(&mut server, true);
    assert_eq!(answered(async || bus.cursor(&topic()).await).await.unwrap(), None);
    assert!(bus.topic_stats().is_empty(), "it is gone");
    without_the_stream(&mut server, false);
    assert_eq!(answered(async || bus.end(&topic()).await).await.unwrap(), (epoch, 3));
    let layers = bus.topic_stats().remove(0).layers;
    let told: Vec<_> = layers.iter().map(|of| (of.layer, of.committed)).collect();
    assert_eq!(told, [(Layer::Raw, 3)]);
    answered(async || bus.retain().await).await.unwrap();
    assert_eq!(stream(&server).await.cached_info().state.messages, 0, "raw reads it here");
}

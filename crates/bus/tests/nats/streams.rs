//! Streams on NATS: whose they are, what their limits mean, which epoch they have, what goes.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{Bus as _, LayerStats, NatsBus, NatsSettings};
use alluvium_model::clock::ManualClock;
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, Clock as _, EntityId, FetchLimit, Layer, Position, Publisher, Remedy, Span,
    SystemClock,
};
use alluvium_testkit::NatsServer;
use async_nats::jetstream::stream::{Config, DiscardPolicy};

use super::{STREAM, all, connect, drain, jetstream, server, settings, stream};
use crate::support::{OWNER, clock, page, record, topic};
use alluvium_bus::testkit::noise;

const HOUR: Duration = Duration::from_secs(3600);

/// A process that goes by this clock.
async fn by(clock: &Arc<ManualClock>, server: &NatsServer) -> Arc<NatsBus> {
    NatsBus::connect(settings(server), Arc::clone(clock) as _).await.unwrap()
}

/// Somebody deletes the topic's stream and makes it again.
async fn make_again(server: &NatsServer) {
    let js = jetstream(server).await;
    let config = stream(server).await.cached_info().config.clone();
    js.delete_stream(STREAM).await.unwrap();
    js.create_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_again_by_anybody_has_another_epoch() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    let before = bus.publish(&topic(), page([vec![1], vec![2]]), Some(record(1))).await.unwrap();
    let epoch = before.span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    drain(&mut raw).await;
    make_again(&server).await;
    let refused = bus.publish(&topic(), page([vec![3]]), Some(record(2))).await;
    assert!(
        matches!(&refused, Err(BusError::UnexpectedEpoch { expected, found, .. })
            if *expected == epoch && *found > epoch),
        "{refused:?}"
    );
    assert_eq!(bus.cursor(&topic()).await.unwrap(), None, "the cursor was that of the lost topic");
    let (now, end) = bus.end(&topic()).await.unwrap();
    assert!(now > epoch && end == 0);
    let refused = raw.fetch(super::limit(Duration::from_secs(20))).await;
    assert!(matches!(&refused, Err(BusError::UnexpectedEpoch { .. })), "{refused:?}");
    let refused = raw.seek(&Position { epoch, offset: 2, index: 0 }).await;
    assert!(matches!(&refused, Err(BusError::UnexpectedEpoch { .. })), "{refused:?}");
}

/// A reader has something of the old topic that it has not delivered.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_lost_topic_is_read_as_a_part_of_the_next_one() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    let two = |a: u8, b: u8| page([vec![a; 10], vec![b; 10]]);
    let old = bus.publish(&topic(), two(1, 2), None).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let limit = super::limit(Duration::from_secs(20));
    // Both come, and the second one does not fit.
    let first = raw.fetch(FetchLimit { bytes: 15, ..limit }).await.unwrap();
    assert_eq!(first.span.to, 1);
    make_again(&server).await;
    let other = connect(settings(&server)).await;
    let new = other.publish(&topic(), two(3, 4), None).await.unwrap().span.epoch;
    let refused = raw.seek(&Position { epoch: old, offset: 1, index: 0 }).await;
    assert!(matches!(&refused, Err(BusError::UnexpectedEpoch { .. })), "{refused:?}");
    let rest = raw.fetch(limit).await.unwrap();
    assert_eq!((rest.span.epoch, rest.messages[0].payload.as_ref()), (old, [2_u8; 10].as_slice()));
    raw.seek(&Position { epoch: new, offset: 1, index: 0 }).await.unwrap();
    let next = raw.fetch(limit).await.unwrap();
    assert_eq!((next.span.epoch, next.messages[0].payload.as_ref()), (new, [4_u8; 10].as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_open_a_topic_at_the_same_time_have_the_same_one() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    let mut readers = Vec::new();
    for number in 0..8 {
        let topic: EntityId = format!("shop.t{number}").parse().unwrap();
        let reading = bus.subscribe(&topic, Layer::Raw, OWNER);
        let (reader, cursor) = tokio::join!(reading, bus.cursor(&topic));
        assert_eq!(cursor.unwrap(), None);
        readers.push(reader.unwrap());
    }
    let read: Vec<usize> = bus.topic_stats().iter().map(|topic| topic.layers.len()).collect();
    assert_eq!(read, [1; 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_ours_is_refused() {
    let server = server!();
    let js = jetstream(&server).await;
    let foreign = Config {
        name: STREAM.to_owned(),
        subjects: vec!["alluvium.changes.shop.orders".to_owned()],
        ..Config::default()
    };
    js.create_stream(foreign).await.unwrap();
    let bus = connect(settings(&server)).await;
    let refused = bus.end(&topic()).await.unwrap_err();
    assert!(refused.to_string().contains("not made by Alluvium"), "{refused}");
    assert!(matches!(refused.remedy(), Remedy::Operator(_)));
    assert!(bus.end(&"shop.other".parse().unwrap()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_lose_messages_are_told_with_the_time_that_is_left() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(bus.topic_stats()[0].time_to_loss, None);
    let mut config = stream(&server).await.cached_info().config.clone();
    (config.max_age, config.discard) = (Duration::from_secs(7200), DiscardPolicy::Old);
    jetstream(&server).await.update_stream(config).await.unwrap();
    bus.refresh().await.unwrap();
    let left = bus.topic_stats()[0].time_to_loss.unwrap();
    assert!(left > Duration::from_secs(3600) && left <= Duration::from_secs(7200), "{left:?}");
    let landed = drain(&mut raw).await.remove(0);
    raw.commit(&Span { epoch: landed.epoch, after: 0, to: 1 }).await.unwrap();
    assert_eq!(bus.topic_stats()[0].time_to_loss, None, "nothing waits for raw");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_message_that_waits_says_how_long_it_is_until_one_is_lost() {
    let (server, clock) = (server!(), clock());
    let (bus, other) = (by(&clock, &server).await, by(&clock, &server).await);
    bus.end(&topic()).await.unwrap();
    let mut config = stream(&server).await.cached_info().config.clone();
    config.max_age = 2 * HOUR;
    jetstream(&server).await.update_stream(config).await.unwrap();
    // It knows the topic, and that is all.
    let epoch = other.end(&topic()).await.unwrap().0;
    let told = async || {
        let mut told = Vec::new();
        for process in [&bus, &other] {
            process.refresh().await.unwrap();
            told.push(process.topic_stats()[0].time_to_loss);
        }
        assert_eq!(told[0], told[1], "who publishes knows no more than who does not");
        told[0]
    };
    assert_eq!(told().await, None, "nothing waits");
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    assert_eq!(told().await, Some(2 * HOUR));
    clock.advance(HOUR);
    bus.publish(&topic(), page([vec![2]]), None).await.unwrap();
    assert_eq!(bus.topic_stats()[0].time_to_loss, Some(HOUR), "it is remembered");
    assert_eq!(told().await, Some(HOUR));
    // It has not seen what came before the second message.
    let late = by(&clock, &server).await;
    let mut raw = late.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    late.refresh().await.unwrap();
    assert_eq!(late.topic_stats()[0].time_to_loss, Some(HOUR));
    drain(&mut raw).await;
    raw.commit(&Span { epoch, after: 0, to: 1 }).await.unwrap();
    clock.advance(HOUR / 2);
    let left = Some(2 * HOUR - HOUR / 2);
    assert_eq!(late.topic_stats()[0].time_to_loss, left, "raw knows what comes next");
    assert_eq!(told().await, left, "that raw got on is told on the bus");
    drop(raw);
    late.refresh().await.unwrap();
    assert_eq!(late.topic_stats()[0].time_to_loss, left, "raw is at work nowhere");
    let mut raw = late.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to: 2 }).await.unwrap();
    assert_eq!(late.topic_stats()[0].time_to_loss, None);
    assert_eq!(told().await, None, "nothing waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_tells_how_far_each_layer_is_behind_also_where_others_publish() {
    let server = server!();
    let (bus, other) = (connect(settings(&server)).await, connect(settings(&server)).await);
    let epoch = bus.publish(&topic(), page([vec![b'x'; 100]]), None).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let first = drain(&mut raw).await.remove(0);
    raw.commit(&Span { epoch, after: 0, to: 1 }).await.unwrap();
    let two = page([vec![b'x'; 100], vec![b'x'; 50]]);
    other.publish(&topic(), two, None).await.unwrap();
    bus.refresh().await.unwrap();
    let stats = bus.topic_stats().remove(0);
    assert_eq!((stats.end, stats.messages, stats.unlanded_bytes), (3, 3, 150));
    let layer = stats.layers[0];
    let since = layer.waiting_since_us.unwrap();
    assert!(since >= first.published_at_us && Some(since) <= stats.last_published_at_us);
    let expected = LayerStats {
        layer: Layer::Raw,
        committed: 1,
        waiting_records: 2,
        waiting_since_us: Some(since),
    };
    assert_eq!(stats.layers, [expected]);
    drain(&mut raw).await;
    raw.commit(&Span { epoch, after: 1, to: 3 }).await.unwrap();
    let stats = bus.topic_stats().remove(0);
    assert_eq!((stats.unlanded_bytes, stats.layers[0].waiting_records), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_nobody_reads_for_here_any_more_is_told_where_it_was() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    let epoch = bus.publish(&topic(), page([vec![1], vec![2]]), None).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let second = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to: 1 }).await.unwrap();
    let told = || {
        let layers = bus.topic_stats().remove(0).layers;
        layers.iter().map(|of| (of.layer, of.committed)).collect::<Vec<_>>()
    };
    drop(second);
    assert_eq!(told(), [(Layer::Raw, 1), (Layer::Silver, 0)], "one reader of raw is still here");
    drop(raw);
    drop(silver);
    bus.refresh().await.unwrap();
    assert_eq!(told(), [(Layer::Raw, 1), (Layer::Silver, 0)]);
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(told(), [(Layer::Raw, 1), (Layer::Silver, 0)], "it has not told more");
    raw.commit(&Span { epoch, after: 0, to: 2 }).await.unwrap();
    assert_eq!(told(), [(Layer::Raw, 2), (Layer::Silver, 0)], "it has come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_layer_that_stands_still_is_told_and_grows() {
    let (server, clock) = (server!(), clock());
    let (bus, other) = (by(&clock, &server).await, by(&clock, &server).await);
    let epoch = bus.publish(&topic(), page([vec![1]]), None).await.unwrap().span.epoch;
    let told = async || {
        bus.refresh().await.unwrap();
        bus.topic_stats().remove(0).layers
    };
    for layer in [Layer::Raw, Layer::Silver] {
        let mut reader = bus.subscribe(&topic(), layer, OWNER).await.unwrap();
        drain(&mut reader).await;
        reader.commit(&Span { epoch, after: 0, to: 1 }).await.unwrap();
    }
    let stands = |layer, waiting_records, waiting_since_us| LayerStats {
        layer,
        committed: 1,
        waiting_records,
        waiting_since_us,
    };
    let both = |records, since| [Layer::Raw, Layer::Silver].map(|l| stands(l, records, since));
    assert_eq!(told().await, both(0, None));
    clock.advance(HOUR);
    let since = Some(clock.now().as_microsecond());
    other.publish(&topic(), page([vec![2], vec![3]]), None).await.unwrap();
    assert_eq!(told().await, both(2, since));
    clock.advance(HOUR);
    other.publish(&topic(), page([vec![4]]), None).await.unwrap();
    assert_eq!(told().await, both(3, since));
    // Raw goes on elsewhere, and the bus tells how far.
    let mut raw = other.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to: 3 }).await.unwrap();
    let since_4 = Some(clock.now().as_microsecond());
    let raw = LayerStats { committed: 3, ..stands(Layer::Raw, 1, since_4) };
    assert_eq!(told().await, [raw, stands(Layer::Silver, 3, since)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_size_removes_the_oldest_and_nothing_that_waits_for_raw() {
    let server = server!();
    let settings = NatsSettings {
        retention_bytes: 200 << 10,
        max_unlanded_bytes: u64::MAX,
        ..settings(&server)
    };
    let bus = connect(settings).await;
    let pages = page((0..40).map(|n| noise(n, 10 << 10)));
    let epoch = bus.publish(&topic(), pages, None).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    bus.retain().await.unwrap();
    let state = || async { stream(&server).await.cached_info().state.clone() };
    assert_eq!(state().await.messages, 40, "raw has landed nothing");
    raw.commit(&Span { epoch, after: 0, to: 10 }).await.unwrap();
    bus.retain().await.unwrap();
    assert_eq!(state().await.first_sequence, 11, "raw has landed ten");
    raw.commit(&Span { epoch, after: 0, to: 40 }).await.unwrap();
    bus.retain().await.unwrap();
    let left = state().await;
    assert!(left.bytes <= 220 << 10 && left.bytes >= 180 << 10, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_of_the_stream_follows_the_settings() {
    let server = server!();
    let bound = |bytes| NatsSettings { max_stream_bytes: bytes, ..settings(&server) };
    for bytes in [Some(1 << 20), None, Some(2 << 20)] {
        let bus = connect(bound(bytes)).await;
        bus.end(&topic()).await.unwrap();
        let found = stream(&server).await.cached_info().config.max_bytes;
        assert_eq!(found, bytes.map_or(-1, |b| i64::try_from(b).unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_what_was_acknowledged_is_damaged() {
    let mut server = server!();
    let bus = connect(settings(&server)).await;
    let count = 3;
    bus.publish(&topic(), page((0..count).map(|n| vec![n])), Some(record(1))).await.unwrap();
    drop(bus);
    // As after a power cut before the server's disk was synced: its stream is shorter by some.
    tokio::task::block_in_place(|| {
        server.server.kill();
        let streams = server.server.folder().join("store/jetstream/$G/streams");
        let blocks = streams.join(STREAM).join("msgs");
        for entry in std::fs::read_dir(&blocks).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "blk") {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_len(file.metadata().unwrap().len() - 10).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
        }
        server.server.resume();
    });
    let bus = connect(settings(&server)).await;
    let lost = bus.end(&topic()).await;
    assert!(
        matches!(&lost, Err(BusError::Corrupt(text)) if text.contains("acknowledged")),
        "{lost:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_said_to_be_full() {
    let server = server!(
        "accounts { A: { users: [{ user: a, password: b }], jetstream: { max_file: 1MB } } }"
    );
    let settings = NatsSettings {
        access: alluvium_bus::NatsAccess::User {
            user: "a".to_owned(),
            password: alluvium_model::Secret::new("b"),
        },
        max_unlanded_bytes: u64::MAX,
        ..settings(&server)
    };
    let bus = connect(settings).await;
    let mut full = None;
    for number in 1..40 {
        let large = page([noise(number, 60 << 10)]);
        if let Err(error) = bus.publish(&topic(), large, Some(record(number))).await {
            full = Some((number, error));
            break;
        }
    }
    let (number, error) = full.expect("an account of 1 MB holds 2.4 MB");
    assert!(matches!(error, BusError::Full(_)), "{error:?}");
    assert!(matches!(error.remedy(), Remedy::Operator(_)));
    let cursor = bus.cursor(&topic()).await.unwrap().unwrap();
    assert_eq!(cursor.page, number - 1);
    // It may have been the cursor that found no room.
    let there = all(&bus).await.len() as u64;
    assert!((number - 1..=number).contains(&there), "{there} of {number}");
    // The server took what it refused and dropped it again: nobody misses it.
    let epoch = bus.end(&topic()).await.unwrap().0;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let landed = drain(&mut raw).await;
    let to = landed.last().unwrap().offset;
    raw.commit(&Span { epoch, after: 0, to }).await.unwrap();
    let again = page([noise(number, 60 << 10)]);
    bus.publish(&topic(), again, Some(record(number))).await.unwrap();
    assert_eq!(landed.len() + drain(&mut raw).await.len(), usize::try_from(number).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_refused_or_waited_for() {
    let server = server!("accounts { A: { users: [{ user: a, password: b }] } }");
    let settings = NatsSettings {
        access: alluvium_bus::NatsAccess::User {
            user: "a".to_owned(),
            password: alluvium_model::Secret::new("b"),
        },
        ..settings(&server)
    };
    let error = NatsBus::connect(settings, Arc::new(SystemClock)).await;
    let error = error.err().unwrap().to_string();
    assert!(error.contains("JetStream") && error.contains("enable"), "{error}");
}

//! Pages on NATS: whole and once, whatever becomes of server, connection and answers, and whoever
//! else publishes.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, EncodedMessage, EncodedPage, Headers, Layer, Publisher, Remedy, Span,
};
use alluvium_testkit::NatsServer;
use bytes::Bytes;

use super::line::Line;
use super::{all, connect, drain, jetstream, server, settings, stream};
use crate::support::{OWNER, page, record, topic};

const PATIENCE: Duration = Duration::from_secs(60);

fn numbers(count: u32) -> EncodedPage {
    page((0..count).map(|n| n.to_be_bytes().to_vec()))
}

async fn payloads(bus: &NatsBus) -> Vec<Bytes> {
    all(bus).await.iter().map(|m| m.payload.clone()).collect()
}

fn sent(page: &EncodedPage) -> Vec<Bytes> {
    page.messages.iter().map(|m| m.payload.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_acknowledgements_were_lost_stands_once() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), numbers(1), None).await.unwrap();
    server.server.freeze();
    let publisher = Arc::clone(&bus);
    let mut publishing =
        tokio::spawn(async move { publisher.publish(&topic(), numbers(50), None).await });
    // Longer than an answer is waited for: the page was sent, and is sent again.
    let early = tokio::time::timeout(Duration::from_secs(6), &mut publishing).await;
    assert!(early.is_err(), "{early:?}");
    server.server.thaw();
    let published = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap().unwrap();
    assert_eq!((published.span.after, published.span.to), (1, 51));
    assert_eq!(payloads(&bus).await, [sent(&numbers(1)), sent(&numbers(50))].concat());
}

fn pushed(delivery: &str) -> EncodedPage {
    let mut page = numbers(1);
    for message in &mut page.messages {
        message.headers = Headers::default().with("alluvium-delivery", delivery);
    }
    page
}

/// A bus that has published the page `pushed("a")` and does not know what became of it: it stands on
/// the topic, first.
async fn given_up(server: &NatsServer, line: &Line) -> Arc<NatsBus> {
    let bus = connect(NatsSettings { servers: vec![line.url()], ..settings(server) }).await;
    bus.end(&topic()).await.unwrap();
    line.stop_before("HPUB alluvium.changes.shop.orders ", 1);
    let publisher = Arc::clone(&bus);
    let publishing =
        tokio::spawn(async move { publisher.publish(&topic(), pushed("a"), None).await });
    line.has_stopped().await;
    publishing.abort();
    assert!(publishing.await.is_err());
    line.go_on();
    let watched = stream(server).await;
    while watched.get_info().await.unwrap().state.last_sequence == 0 {
        tokio::task::yield_now().await;
    }
    bus
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_page_that_is_published_again_after_an_error_stands_once() {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let bus = given_up(&server, &line).await;
    let span = bus.publish(&topic(), pushed("a"), None).await.unwrap().span;
    assert_eq!((span.after, span.to), (0, 1), "it is the last that the topic has");
    let span = bus.publish(&topic(), pushed("b"), None).await.unwrap().span;
    assert_eq!((span.after, span.to), (1, 2), "the same records of another delivery are meant");
    let span = bus.publish(&topic(), numbers(1), None).await.unwrap().span;
    assert_eq!((span.after, span.to), (2, 3), "and those of which nobody says the delivery");
    assert_eq!(
        payloads(&bus).await,
        [sent(&numbers(1)), sent(&numbers(1)), sent(&numbers(1))].concat()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_which_nobody_learnt_what_became_is_found_though_others_wrote_behind_it() {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let other = connect(settings(&server)).await;
    let bus = given_up(&server, &line).await;
    other.publish(&topic(), numbers(5), None).await.unwrap();
    let span = bus.publish(&topic(), pushed("a"), None).await.unwrap().span;
    assert_eq!((span.after, span.to), (0, 1));
    let span = bus.publish(&topic(), numbers(2), None).await.unwrap().span;
    assert_eq!((span.after, span.to), (6, 8));
    assert_eq!(payloads(&bus).await.len(), 8);
}

/// From now on the server takes records of so many bytes at most; of any size if that is -1.
async fn takes_records_of(server: &NatsServer, bytes: i32) {
    let js = jetstream(server).await;
    let state = js.get_stream("alluvium-state").await.unwrap();
    let mut config = state.cached_info().config.clone();
    config.max_message_size = bytes;
    js.update_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_record_was_refused_stands_once_though_others_wrote_behind_it() {
    let server = server!();
    let (bus, other) = (connect(settings(&server)).await, connect(settings(&server)).await);
    bus.publish(&topic(), numbers(1), Some(record(1))).await.unwrap();
    takes_records_of(&server, 1).await;
    for _ in 0..2 {
        // All of it stands, and its record does not.
        let refused = bus.publish(&topic(), numbers(3), Some(record(2))).await;
        assert!(matches!(&refused, Err(BusError::Rejected(_))), "{refused:?}");
        other.publish(&topic(), numbers(2), None).await.unwrap();
    }
    takes_records_of(&server, -1).await;
    let span = bus.publish(&topic(), numbers(3), Some(record(2))).await.unwrap().span;
    assert_eq!((span.after, span.to), (1, 4));
    assert_eq!(bus.cursor(&topic()).await.unwrap(), Some(record(2)));
    let expected = [1, 3, 2, 2].map(|count| sent(&numbers(count)));
    assert_eq!(payloads(&bus).await, expected.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_a_kill_cuts_in_two_is_finished_and_not_repeated() {
    let mut server = server!();
    let settings = NatsSettings { max_unlanded_bytes: u64::MAX, ..settings(&server) };
    let bus = connect(settings).await;
    let (_, begin) = bus.end(&topic()).await.unwrap();
    assert_eq!(begin, 0);
    let watched = stream(&server).await;
    let publisher = Arc::clone(&bus);
    let publishing =
        tokio::spawn(async move { publisher.publish(&topic(), numbers(20_000), None).await });
    while watched.get_info().await.unwrap().state.last_sequence == 0 {
        tokio::task::yield_now().await;
    }
    tokio::task::block_in_place(|| {
        server.server.kill();
        server.server.resume();
    });
    let published = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap().unwrap();
    assert_eq!((published.span.after, published.span.to), (0, 20_000));
    assert_eq!(payloads(&bus).await, sent(&numbers(20_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_is_said_to_be_so_and_trying_again_may_help() {
    let mut server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), numbers(2), Some(record(1))).await.unwrap();
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    drain(&mut raw).await;
    tokio::task::block_in_place(|| server.server.kill());
    let cursor = bus.cursor(&topic()).await.unwrap_err();
    let end = bus.end(&topic()).await.unwrap_err();
    let fetched = raw.fetch(super::limit(Duration::from_millis(100))).await.unwrap_err();
    let published = bus.publish(&topic(), numbers(2), Some(record(2))).await.unwrap_err();
    for error in [cursor, end, fetched, published] {
        assert!(matches!(error, BusError::Unavailable(_)), "{error:?}");
        assert_eq!(error.remedy(), Remedy::Retry);
    }
    tokio::task::block_in_place(|| server.server.resume());
    let again =
        async { while bus.publish(&topic(), numbers(2), Some(record(2))).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(payloads(&bus).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_two_processes_stand_one_after_another() {
    let server = server!();
    let buses = [connect(settings(&server)).await, connect(settings(&server)).await];
    let publish = |n: u8, bus: &Arc<NatsBus>| {
        let bus = Arc::clone(bus);
        let page = page((0..4).map(|m| vec![n, m]));
        tokio::spawn(async move { bus.publish(&topic(), page, None).await.unwrap().span })
    };
    let tasks: Vec<_> = (0..40).map(|n| publish(n, &buses[usize::from(n) % 2])).collect();
    let mut spans: Vec<Span> = Vec::new();
    for task in tasks {
        spans.push(task.await.unwrap());
    }
    // Of a page that another one broke into, the beginning stands twice; each stands whole.
    let got = payloads(&buses[0]).await;
    assert!(got.len() >= 160, "{}", got.len());
    for (n, span) in spans.iter().enumerate() {
        let there = &got[usize::try_from(span.after).unwrap()..usize::try_from(span.to).unwrap()];
        let expected: Vec<Bytes> = (0..4).map(|m| Bytes::from(vec![n as u8, m])).collect();
        assert_eq!(there, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_poll_only_one_advances() {
    let server = server!();
    let (old, new) = (connect(settings(&server)).await, connect(settings(&server)).await);
    let by = |token: u64, number| alluvium_model::CursorRecord {
        token: alluvium_model::FencingToken(token),
        ..record(number)
    };
    old.publish(&topic(), numbers(1), Some(by(1, 1))).await.unwrap();
    new.publish(&topic(), numbers(1), Some(by(2, 2))).await.unwrap();
    let refused = old.publish(&topic(), numbers(1), Some(by(1, 3))).await;
    assert!(matches!(&refused, Err(BusError::Fenced { token: 2, page: 2, .. })), "{refused:?}");
    let refused = old.publish(&topic(), EncodedPage::default(), Some(by(2, 2))).await;
    assert!(matches!(&refused, Err(BusError::Fenced { .. })), "{refused:?}");
    assert_eq!(old.cursor(&topic()).await.unwrap(), Some(by(2, 2)));
    assert_eq!(old.end(&topic()).await.unwrap().1, 2, "nothing of the old poller's page stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_waits_for_a_raw_layer_in_another_process() {
    let server = server!();
    let (publisher, reader) = (connect(settings(&server)).await, connect(settings(&server)).await);
    let large = || page([vec![b'x'; 60 << 10]]);
    for _ in 0..4 {
        publisher.publish(&topic(), large(), None).await.unwrap();
    }
    let waiting = tokio::spawn(async move { publisher.publish(&topic(), large(), None).await });
    let mut raw = reader.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let landed = drain(&mut raw).await;
    assert_eq!(landed.len(), 4);
    assert!(!waiting.is_finished());
    let epoch = landed[0].epoch;
    raw.commit(&Span { epoch, after: 0, to: landed[3].offset }).await.unwrap();
    tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_what_it_needs_and_nothing_of_it_is_sent_where_one_message_is_too_large() {
    let server = server!("max_payload: 400KB");
    let settings = NatsSettings { max_message_bytes: 8 << 20, ..settings(&server) };
    let bus = connect(settings).await;
    let limit = (400 << 10) - 512;
    let large = page([vec![1], vec![b'x'; limit + 1]]);
    let refused = bus.publish(&topic(), large, None).await;
    assert!(
        matches!(&refused, Err(BusError::TooLarge { limit: l, .. }) if *l == limit),
        "{refused:?}"
    );
    assert_eq!(bus.end(&topic()).await.unwrap().1, 0);
    bus.publish(&topic(), page([vec![b'x'; limit]]), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_look_to_others_as_cloud_events_do_on_nats() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    let headers = Headers::default().with("ce_id", "polled/1/0").with("content-type", "x/y");
    let message = EncodedMessage { headers, payload: Bytes::from("{}\n{}"), records: 2 };
    bus.publish(&topic(), EncodedPage { messages: vec![message] }, None).await.unwrap();
    let stored = stream(&server).await.get_raw_message(1).await.unwrap();
    assert_eq!(stored.subject.as_str(), "alluvium.changes.shop.orders");
    let header = |name: &str| stored.headers.get(name).map(|v| v.as_str().to_owned());
    assert_eq!(header("ce-id").as_deref(), Some("polled/1/0"));
    assert_eq!(header("content-type").as_deref(), Some("x/y"));
    assert_eq!(header("alluvium-records").as_deref(), Some("2"));
    assert!(header("Nats-Msg-Id").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_stand_on_a_stream_of_their_own_each_once() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    for id in ["batch/1", "batch/1", "batch/2"] {
        let event = serde_json::json!({ "id": id, "type": "io.alluvium.batch.applied" });
        bus.audit(id, "shop.orders", event.to_string().into_bytes()).await.unwrap();
    }
    let mut audit = jetstream(&server).await.get_stream("alluvium-audit").await.unwrap();
    assert_eq!(audit.info().await.unwrap().state.messages, 2);
    let last = audit.get_last_raw_message_by_subject("alluvium.audit.shop.orders").await.unwrap();
    let event: serde_json::Value = serde_json::from_slice(&last.payload).unwrap();
    assert_eq!(event["id"], "batch/2");
    let kind = last.headers.get("content-type").unwrap();
    assert_eq!(kind.as_str(), "application/cloudevents+json");
}

//! Readers on NATS: what they show to its tools, who takes over from whom, and that nothing is
//! passed over.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::clock::ManualClock;
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, Clock as _, FencingToken, FetchLimit, Layer, Publisher, Span};
use async_nats::Request;
use async_nats::jetstream::consumer;
use futures::TryStreamExt as _;

use super::line::Line;
use super::{STREAM, all, connect, drain, limit, put, server, settings, stream};
use crate::support::{OWNER, page, topic};
use alluvium_bus::testkit::noise;

const SOON: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

async fn consumers(server: &alluvium_testkit::NatsServer) -> Vec<consumer::Info> {
    stream(server).await.consumers().try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_of_nats_show_how_far_a_layer_is_behind() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    let pages = page((0..5).map(|n| vec![n]));
    let epoch = bus.publish(&topic(), pages, None).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, FencingToken(7)).await.unwrap();
    let one = FetchLimit { records: 2, ..limit(Duration::from_secs(20)) };
    assert_eq!(raw.fetch(one).await.unwrap().messages.len(), 2);
    raw.commit(&Span { epoch, after: 0, to: 2 }).await.unwrap();
    let mut found = consumers(&server).await;
    while found[0].ack_floor.stream_sequence < 2 {
        tokio::task::yield_now().await;
        found = consumers(&server).await;
    }
    assert_eq!(found.len(), 1);
    assert!(found[0].name.starts_with("raw-7-"), "{}", found[0].name);
    // What was sent ahead and is not committed counts as pending acknowledgement.
    assert_eq!(found[0].num_pending + found[0].num_ack_pending as u64, 3);
    drop((raw, bus));
    assert_eq!(consumers(&server).await.len(), 1, "the lag stays to be seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_owner_puts_out_the_older_which_is_told_so() {
    let server = server!();
    let (old, new) = (connect(settings(&server)).await, connect(settings(&server)).await);
    let (older, newer) = (FencingToken(1), FencingToken(2));
    old.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let mut before = old.subscribe(&topic(), Layer::Raw, older).await.unwrap();
    assert_eq!(drain(&mut before).await.len(), 1);
    let mut after = new.subscribe(&topic(), Layer::Raw, newer).await.unwrap();
    assert_eq!(drain(&mut after).await.len(), 1);
    old.publish(&topic(), page([vec![2]]), None).await.unwrap();
    let told = before.fetch(limit(Duration::from_secs(20))).await;
    assert!(
        matches!(&told, Err(BusError::Unavailable(text)) if text.contains("taken over")),
        "{told:?}"
    );
    let mut again = old.subscribe(&topic(), Layer::Raw, older).await.unwrap();
    let told = again.fetch(limit(Duration::from_secs(20))).await;
    assert!(
        matches!(&told, Err(BusError::Unavailable(text)) if text.contains("raw-2-")),
        "{told:?}"
    );
    let mut other = old.subscribe(&topic(), Layer::Bronze, older).await.unwrap();
    assert_eq!(drain(&mut other).await.len(), 2, "another layer is another matter");
    assert_eq!(drain(&mut after).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_somebody_removed_is_missed_and_not_passed_over() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), page((0..5).map(|n| vec![n])), None).await.unwrap();
    stream(&server).await.delete_message(3).await.unwrap();
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let first = raw.fetch(limit(Duration::from_secs(20))).await.unwrap();
    assert_eq!(first.span.to, 2);
    let missing = raw.fetch(limit(Duration::from_secs(20))).await;
    assert!(
        matches!(&missing, Err(BusError::Corrupt(text)) if text.contains("offset 3")),
        "{missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_somebody_removed_is_made_again() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(drain(&mut raw).await.len(), 1);
    let name = consumers(&server).await.remove(0).name;
    stream(&server).await.delete_consumer(&name).await.unwrap();
    bus.publish(&topic(), page([vec![2]]), None).await.unwrap();
    let next = raw.fetch(limit(Duration::from_secs(20))).await.unwrap();
    assert_eq!(next.messages[0].payload.as_ref(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn much_is_fetched_at_once_within_the_limit_and_large_messages_come_too() {
    let server = server!("max_payload: 8MB\n");
    let settings = NatsSettings {
        max_message_bytes: 16 << 20,
        max_unlanded_bytes: u64::MAX,
        ..settings(&server)
    };
    let bus = connect(settings).await;
    let small: Vec<Vec<u8>> = (0..60).map(|n| noise(n, 250 << 10)).collect();
    bus.publish(&topic(), page(small.clone()), None).await.unwrap();
    let large = noise(99, 7 << 20);
    bus.publish(&topic(), page([large.clone(), vec![1]]), None).await.unwrap();
    let mut silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let first = silver.fetch(FetchLimit { bytes: 12 << 20, ..limit(SOON) }).await.unwrap();
    assert!(first.bytes() <= 12 << 20 && first.bytes() > 11 << 20, "{}", first.bytes());
    let rest = drain(&mut silver).await;
    let mut got = first.messages;
    got.extend(rest);
    assert_eq!(got.len(), 62);
    for (n, sent) in small.iter().enumerate() {
        assert_eq!(got[n].payload.as_ref(), sent.as_slice());
    }
    assert_eq!(got[60].payload.as_ref(), large.as_slice());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_one_process_share_messages() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let mut shared = Vec::new();
    for layer in Layer::ALL {
        let mut subscriber = bus.subscribe(&topic(), layer, OWNER).await.unwrap();
        shared.push(drain(&mut subscriber).await.remove(0));
    }
    assert!(Arc::ptr_eq(&shared[0], &shared[1]) && Arc::ptr_eq(&shared[0], &shared[2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_put_on_a_topic_is_read_by_its_lines() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    bus.end(&topic()).await.unwrap();
    let body = "{\"op\":\"c\"}\n{\"op\":\"d\"}\n";
    put(&server, body).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let got = all(&bus).await;
    assert_eq!((got.len(), got[0].records, got[0].payload.as_ref()), (2, 2, body.as_bytes()));
}

/// As where a connection breaks while the server sends. What somebody else put there is counted in no
/// totals, so that they do not tell that it is missing.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_messages_of_a_topic_come_again_where_they_went_astray() {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let bus = connect(NatsSettings { servers: vec![line.url()], ..settings(&server) }).await;
    bus.end(&topic()).await.unwrap();
    for body in ["1", "2", "3"] {
        put(&server, body).await;
    }
    line.stop_before("$JS.API.CONSUMER.MSG.NEXT.", 1);
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut came = Vec::new();
        while came.len() < 3 {
            // While the line stands, nobody answers.
            if let Ok(delivery) = raw.fetch(limit(SOON)).await {
                came.extend(delivery.messages);
            }
        }
        came
    });
    line.has_stopped().await;
    let name = consumers(&server).await.remove(0).name;
    let elsewhere = async_nats::connect(server.url()).await.unwrap();
    for _ in 0..2 {
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}");
        // What comes has the topic's subject, so only an inbox of its own takes it.
        let request = Request::new().payload("1".into()).inbox(elsewhere.new_inbox());
        elsewhere.send_request(next, request).await.unwrap();
    }
    line.go_on();
    let came = tokio::time::timeout(PATIENCE, reading).await.expect("all come").unwrap();
    assert_eq!(came.iter().map(|message| message.offset).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_times_never_go_back_whatever_the_clocks_of_publishers_and_server_say() {
    let server = server!();
    let at = |time: &str| Arc::new(ManualClock::at(time.parse().unwrap()));
    // The server's own clock is between the two.
    let (ahead, behind) = (at("2124-01-01T00:00:00Z"), at("2001-01-01T00:00:00Z"));
    let open = async |clock: &Arc<ManualClock>| {
        NatsBus::connect(settings(&server), Arc::clone(clock) as _).await.unwrap()
    };
    let (first, second) = (open(&ahead).await, open(&behind).await);
    second.publish(&topic(), page([vec![1]]), None).await.unwrap();
    first.publish(&topic(), page([vec![2], vec![3]]), None).await.unwrap();
    second.publish(&topic(), page([vec![4]]), None).await.unwrap();
    put(&server, "{}").await;
    let mut raw = first.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let messages = drain(&mut raw).await;
    let times: Vec<i64> = messages.iter().map(|message| message.published_at_us).collect();
    let (early, late) = (behind.now().as_microsecond(), ahead.now().as_microsecond());
    assert_eq!(times, [early, late, late, late, late]);
    // Also where nothing is left of what was published before.
    second.publish(&topic(), page([vec![5]]), None).await.unwrap();
    first.publish(&topic(), page([vec![6]]), None).await.unwrap();
    drain(&mut raw).await;
    raw.commit(&Span { epoch: messages[0].epoch, after: 0, to: 7 }).await.unwrap();
    first.retain().await.unwrap();
    assert_eq!(stream(&server).await.cached_info().state.messages, 0);
    drop((first, second));
    let second = open(&behind).await;
    second.publish(&topic(), page([vec![7]]), None).await.unwrap();
    assert_eq!(all(&second).await.remove(0).published_at_us, late);
}

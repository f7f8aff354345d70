//! What the mock cluster does not do is put into the bus from within: time that passes without pages,
//! and brokers that do not show what was published.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, Cursor, CursorRecord, EncodedMessage, EncodedPage, EntityId, Epoch, FencingToken,
    FetchLimit, Headers, Layer, Publisher, Span, SystemClock,
};
use alluvium_testkit::KafkaMock;
use rdkafka::bindings::rd_kafka_resp_err_t as Answer;
use rdkafka::types::RDKafkaApiKey as Call;

use super::cursors::{Landed, landed_entry};
use super::landed::Telling;
use super::{KafkaBus, KafkaSettings};
use crate::{carry, fence};

const OWNER: FencingToken = FencingToken(1);
/// More rounds than a client is kept for.
const LONG: u32 = 30;

fn topic() -> EntityId {
    "shop.orders".parse().unwrap()
}

fn cluster() -> KafkaMock {
    KafkaMock::with_topics(["alluvium.cursors", "alluvium.shop.orders"])
}

async fn connect(cluster: &KafkaMock) -> Arc<KafkaBus> {
    let settings = KafkaSettings { bootstrap_servers: cluster.servers(), ..Default::default() };
    KafkaBus::connect(settings, Arc::new(SystemClock)).await.unwrap()
}

fn page(text: &'static str) -> EncodedPage {
    let (headers, payload) = (Headers::default(), text.as_bytes().into());
    EncodedPage { messages: vec![EncodedMessage { headers, payload, records: 1 }] }
}

fn record(token: u64, page: u64) -> CursorRecord {
    CursorRecord { token: FencingToken(token), page, cursor: Cursor(page.into()) }
}

/// So many rounds of the keeper pass. Whether the client is still there.
async fn rest(bus: &KafkaBus, rounds: u32) -> bool {
    let topic = bus.shared.topic(&topic()).await.unwrap();
    let mut owner = topic.owner.lock().await;
    (0..rounds).for_each(|_| owner.idles(&bus.shared, &topic));
    owner.client.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_used_now_and_then_is_kept_and_an_idle_one_comes_back() {
    let cluster = cluster();
    let bus = connect(&cluster).await;
    for number in 1..=3 {
        bus.publish(&topic(), page("1"), Some(record(1, number))).await.unwrap();
        assert!(rest(&bus, 8).await, "page {number}");
    }
    assert!(!rest(&bus, LONG).await);
    bus.publish(&topic(), page("2"), Some(record(1, 4))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_keeps_no_client_of_a_topic_that_it_is_done_with() {
    let (here, there) = (cluster(), cluster());
    let (old, new) = (connect(&here).await, connect(&there).await);
    fence(old.as_ref(), &topic(), OWNER, None).await.unwrap();
    assert!(!rest(&old, 0).await);
    carry(old.as_ref(), new.as_ref(), &topic()).await.unwrap();
    assert!(!rest(&new, 0).await);
    for bus in [old, new] {
        bus.publish(&topic(), page("1"), Some(record(1, 2))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_after_somebody_else_has_published_is_fenced() {
    let cluster = cluster();
    let (old, young) = (connect(&cluster).await, connect(&cluster).await);
    old.publish(&topic(), page("1"), Some(record(1, 1))).await.unwrap();
    assert!(!rest(&old, LONG).await);
    young.publish(&topic(), page("2"), Some(record(1, 2))).await.unwrap();
    let refused = old.publish(&topic(), page("3"), Some(record(1, 3))).await;
    assert!(matches!(&refused, Err(BusError::Fenced { token: 1, page: 2, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_fenced_takes_nothing_back_however_long_it_waits() {
    let cluster = cluster();
    let bus = connect(&cluster).await;
    bus.publish(&topic(), page("1"), Some(record(1, 1))).await.unwrap();
    cluster.with(|brokers| {
        let answer = [Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH];
        brokers.request_errors(Call::EndTxn, &answer);
    });
    for _ in 0..3 {
        let refused = bus.publish(&topic(), EncodedPage::default(), Some(record(1, 2))).await;
        assert!(matches!(&refused, Err(BusError::Fenced { .. })), "{refused:?}");
        rest(&bus, LONG).await;
    }
    // The mock cluster rolls nothing back, so that page 2 stands.
    bus.publish(&topic(), page("3"), Some(record(2, 3))).await.unwrap();
}

/// As if it stood behind somebody's open transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_brokers_show_is_delivered_though_they_do_not_show_everything() {
    let cluster = cluster();
    let bus = connect(&cluster).await;
    let shown = bus.publish(&topic(), page("1"), None).await.unwrap().span;
    let topic = topic();
    bus.shared.topic(&topic).await.unwrap().ends(shown.to + 10, 1000);
    let mut raw = bus.subscribe(&topic, Layer::Raw, OWNER).await.unwrap();
    let delivery = tokio::time::timeout(Duration::from_secs(20), raw.fetch(FetchLimit::default()));
    let delivery = delivery.await.expect("well before patience ends").unwrap();
    assert_eq!((delivery.messages.len(), delivery.span.to), (1, shown.to));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_raw_tells_from_elsewhere_gives_room_and_removes_nothing() {
    let cluster = cluster();
    let bus = connect(&cluster).await;
    let first = bus.publish(&topic(), page("1"), None).await.unwrap().span;
    let last = bus.publish(&topic(), page("2"), None).await.unwrap().span;
    let topic = topic();
    let known = bus.shared.topic(&topic).await.unwrap();
    tell(&bus, last.epoch, last.to).await;
    Telling::default().round(&bus.shared, vec![Arc::clone(&known)]).await.unwrap();
    assert_eq!((known.backlog.bytes(), known.to_shorten()), (0, None), "raw runs elsewhere");
    let mut raw = bus.subscribe(&topic, Layer::Raw, OWNER).await.unwrap();
    assert_eq!(known.to_shorten(), None, "raw has not said how far it is");
    raw.commit(&first).await.unwrap();
    assert_eq!(known.to_shorten().map(|(landed, _)| landed), Some(first.to));
    drop(raw);
    assert_eq!(known.to_shorten(), None, "it may run elsewhere by now");
}

/// Tells how far raw has landed, as another process does.
async fn tell(bus: &KafkaBus, epoch: Epoch, landed: u64) {
    let landed = Landed { landed, next: 0 };
    let (key, value) = landed_entry(&topic(), epoch, landed).unwrap();
    let cursors = &bus.shared.cursors.topic;
    bus.shared.pusher.write(&bus.shared, cursors, &key, &value).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_word_of_how_far_raw_is_comes_from_who_lands_it() {
    let cluster = cluster();
    let bus = connect(&cluster).await;
    bus.keeper.abort();
    let Span { epoch, to, .. } = bus.publish(&topic(), page("1"), None).await.unwrap().span;
    let known = bus.shared.topic(&topic()).await.unwrap();
    let mut telling = Telling::default();
    let mut told = async || {
        telling.round(&bus.shared, vec![Arc::clone(&known)]).await.unwrap();
        bus.shared.cursors.refresh(&bus.shared.looker).await.unwrap();
        bus.shared.cursors.landed(&topic(), epoch).map(|told| told.landed)
    };
    assert_eq!(told().await, None, "raw runs nowhere");
    tell(&bus, Epoch(epoch.0 - 1), to).await;
    assert_eq!(told().await, None, "that was of another topic");
    assert!(known.backlog.is_waiting());
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    raw.commit(&Span { epoch, after: 0, to }).await.unwrap();
    assert_eq!(told().await, Some(to));
    let end = bus.shared.looker.marks(&bus.shared.cursors.topic).await.unwrap().unwrap().high;
    assert_eq!(told().await, Some(to));
    let again = bus.shared.looker.marks(&bus.shared.cursors.topic).await.unwrap().unwrap().high;
    assert_eq!(again, end, "what was told is not told again");
    // Of a process that stood still.
    tell(&bus, epoch, 0).await;
    assert_eq!(told().await, Some(to));
}

/// As after an election of a broker that had not got everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_came_back_shorter_than_raw_has_landed_is_refused() {
    let cluster = cluster();
    let bus = connect(&cluster).await;
    let last = bus.publish(&topic(), page("1"), None).await.unwrap().span;
    tell(&bus, last.epoch, last.to + 1).await;
    for bus in [connect(&cluster).await, connect(&cluster).await] {
        let refused = bus.publish(&topic(), page("2"), None).await;
        assert!(matches!(&refused, Err(BusError::Corrupt(why)) if why.contains("up to offset 2")));
        assert!(bus.subscribe(&topic(), Layer::Raw, OWNER).await.is_err());
    }
    // It is not waited until that is told: a process knows what it has landed itself.
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    raw.commit(&last).await.unwrap();
    let known = bus.shared.topic(&topic()).await.unwrap();
    let other = connect(&cluster).await;
    tell(&bus, last.epoch, last.to).await;
    assert!(other.publish(&topic(), page("2"), None).await.is_ok(), "now it has all");
    assert!(known.landed_of(last.epoch).is_some_and(|landed| known.has_all(landed).is_ok()));
    assert!(known.has_all(last.to + 9).is_err());
    drop(raw);
    assert_eq!(known.landed_of(last.epoch), Some(last.to), "also where it has ended");
    assert_eq!(known.landed_of(Epoch(last.epoch.0 + 1)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_only_reads_knows_since_when_a_layer_waits() {
    let cluster = cluster();
    let (bus, elsewhere) = (connect(&cluster).await, connect(&cluster).await);
    bus.keeper.abort();
    let mut times = Vec::new();
    for text in ["1", "2", "3"] {
        elsewhere.publish(&topic(), page(text), None).await.unwrap();
        times.push(elsewhere.shared.topic(&topic()).await.unwrap().stats(0).last_published_at_us);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(times.is_sorted() && times[1] < times[2], "{times:?}");
    let mut silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let limit = FetchLimit { records: 1, ..FetchLimit::default() };
    let first = silver.fetch(limit).await.unwrap();
    assert_eq!(first.messages.len(), 1);
    silver.commit(&first.span).await.unwrap();
    drop(silver);
    let known = bus.shared.topic(&topic()).await.unwrap();
    for _ in 0..2 {
        bus.shared.ask_since(&known).await.unwrap();
    }
    let layers = known.stats(0).layers;
    assert_eq!(layers.len(), 1, "what stands still is told: {layers:?}");
    let waits = (layers[0].committed, layers[0].waiting_records, layers[0].waiting_since_us);
    assert_eq!(waits, (first.span.to, 2, times[1]));
}

#[test]
fn a_reader_sees_what_is_committed_and_is_told_of_every_hole() {
    let config = KafkaSettings::default().consumer("somebody", 1 << 20);
    for (name, value) in [
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
    ] {
        assert_eq!(config.get(name), Some(value), "{name}");
    }
}

#[test]
fn a_page_is_acknowledged_by_all_replicas_and_stands_once() {
    let settings = KafkaSettings::default();
    let polled = settings.transactions("somebody");
    for config in [&settings.producer(), &polled] {
        assert_eq!(
            (config.get("acks"), config.get("enable.idempotence")),
            (Some("all"), Some("true"))
        );
    }
    assert_eq!(polled.get("transactional.id"), Some("somebody"));
}

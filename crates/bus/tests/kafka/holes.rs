//! What a reader makes of messages as they should not be: one is missing before them, or their time
//! goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::KafkaBus;
use alluvium_model::clock::ManualClock;
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, Clock, FetchLimit, Layer, Message, Position, Publisher, Subscriber, SystemClock,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::kafka::mock::Mock;
use crate::support::{OWNER, page, record, topic};

const PATIENCE: Duration = Duration::from_secs(60);
/// More messages than a reader reads again of what it had.
const MUCH: u8 = 40;

/// Puts a record into the topic as it is; its offset.
async fn put(mock: &Mock, payload: &str, time_ms: i64, headers: &[(&str, &str)]) -> u64 {
    let servers = mock.settings().bootstrap_servers;
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(*value) })
    });
    let record: FutureRecord<'_, (), str> =
        FutureRecord::to("alluvium.shop.orders").partition(0).payload(payload);
    let sent = producer.send(record.headers(headers).timestamp(time_ms), PATIENCE).await;
    u64::try_from(sent.unwrap().offset).unwrap()
}

/// The headers of what stands at `offset`.
async fn headers(mock: &Mock, offset: u64) -> BTreeMap<String, String> {
    let reader: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.settings().bootstrap_servers)
        .set("group.id", "somebody")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(offset).unwrap());
    from.add_partition_offset("alluvium.shop.orders", 0, offset).unwrap();
    reader.assign(&from).unwrap();
    let read = tokio::time::timeout(PATIENCE, reader.recv()).await.unwrap().unwrap();
    let mut found = BTreeMap::new();
    for header in read.headers().unwrap().iter() {
        let value = String::from_utf8_lossy(header.value.unwrap()).into_owned();
        found.insert(header.key.to_owned(), value);
    }
    found
}

async fn reader(bus: &Arc<KafkaBus>, after: Option<u64>) -> Box<dyn Subscriber> {
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    if let Some(offset) = after {
        let (epoch, _) = bus.end(&topic()).await.unwrap();
        raw.seek(&Position { epoch, offset, index: 0 }).await.unwrap();
    }
    raw
}

/// Everything that comes until nothing more does, or an error.
async fn drain(reader: &mut Box<dyn Subscriber>) -> (Vec<Arc<Message>>, Option<BusError>) {
    let limit = FetchLimit { wait: Duration::ZERO, ..FetchLimit::default() };
    let mut all = Vec::new();
    loop {
        match reader.fetch(limit).await {
            Ok(delivery) if delivery.is_empty() => return (all, None),
            Ok(delivery) => all.extend(delivery.messages),
            Err(error) => return (all, Some(error)),
        }
    }
}

fn payloads(messages: &[Arc<Message>]) -> Vec<&[u8]> {
    messages.iter().map(|message| &message.payload[..]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_missing_between_two_is_told_however_often_one_asks() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let two = page([b"1".to_vec(), b"2".to_vec()]);
    let first = bus.publish(&topic(), two, Some(record(1))).await.unwrap().span;
    let pushed = bus.publish(&topic(), page([b"pushed".to_vec()]), None).await.unwrap().span;
    let epoch = first.epoch.to_string();
    put(&mock, "4", 0, &[("alluvium-epoch", &epoch), ("alluvium-polled", "4")]).await;

    let mut raw = reader(&bus, None).await;
    let (came, missing) = drain(&mut raw).await;
    assert_eq!(payloads(&came), [b"1".as_slice(), b"2", b"pushed"]);
    assert!(matches!(&missing, Some(BusError::Corrupt(_))), "{missing:?}");
    for after in [None, Some(first.to), Some(pushed.to)] {
        let (came, missing) = match after {
            None => drain(&mut raw).await,
            after => drain(&mut reader(&bus, after).await).await,
        };
        assert!(!payloads(&came).contains(&b"4".as_slice()), "after {after:?}");
        assert!(matches!(&missing, Some(BusError::Corrupt(_))), "after {after:?}: {missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_missing_is_told_again_however_much_was_pushed_before_it() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let two = page([b"1".to_vec(), b"2".to_vec()]);
    let first = bus.publish(&topic(), two, Some(record(1))).await.unwrap().span;
    let much = page((0..MUCH).map(|n| vec![n]));
    let pushed = bus.publish(&topic(), much, None).await.unwrap().span;
    let epoch = first.epoch.to_string();
    put(&mock, "4", 0, &[("alluvium-epoch", &epoch), ("alluvium-polled", "4")]).await;

    let mut raw = reader(&bus, None).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let (came, missing) = drain(&mut raw).await;
        all.extend(came);
        assert!(matches!(&missing, Some(BusError::Corrupt(_))), "{missing:?}");
        assert_eq!(all.len(), 2 + usize::from(MUCH));
        let here = Position { epoch: first.epoch, offset: pushed.to, index: 0 };
        raw.seek(&here).await.unwrap();
    }
}

/// It begins where no number is near.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_tells_a_reader_that_begins_anew_where_the_one_before_it_ended() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let much = || page((0..MUCH).map(|n| vec![n]));
    let two = |a: &str, b: &str| page([a.as_bytes().to_vec(), b.as_bytes().to_vec()]);
    let first = bus.publish(&topic(), two("1", "2"), Some(record(1))).await.unwrap().span;
    let pushed = bus.publish(&topic(), much(), None).await.unwrap().span;
    // A page without messages leaves it as it was, and another process finds it.
    bus.publish(&topic(), page([]), Some(record(2))).await.unwrap();
    let other = mock.connect().await;
    let next = other.publish(&topic(), two("3", "4"), Some(record(3))).await.unwrap().span;
    let (came, missing) = drain(&mut reader(&bus, Some(pushed.to)).await).await;
    assert!(missing.is_none(), "{missing:?}");
    assert_eq!(payloads(&came), [b"3", b"4"]);
    let told = |headers: BTreeMap<String, String>| headers.get("alluvium-polled-after").cloned();
    assert_eq!(told(headers(&mock, next.to - 1).await), Some(first.to.to_string()));
    assert_eq!(told(headers(&mock, next.to).await), None, "the first of a page tells it");

    // As if the one at the end of these had been polled, and were lost.
    let lost = bus.publish(&topic(), much(), None).await.unwrap().span;
    let (epoch, before) = (first.epoch.to_string(), lost.to.to_string());
    let said = [
        ("alluvium-epoch", &*epoch),
        ("alluvium-polled", "6"),
        ("alluvium-polled-after", &*before),
    ];
    put(&mock, "6", 0, &said).await;
    for after in [next.to, lost.to - 20, lost.to] {
        let (came, missing) = drain(&mut reader(&bus, Some(after)).await).await;
        assert!(!payloads(&came).contains(&b"6".as_slice()), "after {after}");
        assert!(matches!(&missing, Some(BusError::Corrupt(_))), "after {after}: {missing:?}");
    }
}

/// Each finds the number of the last message where the one before left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pollers_that_follow_each_other_leave_no_hole() {
    let mock = Mock::new();
    let mut expected = Vec::new();
    for number in 1..=6 {
        let bus = mock.connect().await;
        let (first, second) = (vec![number, 1], vec![number, 2]);
        expected.extend([first.clone(), second.clone(), vec![number]]);
        let polled = page([first, second]);
        bus.publish(&topic(), polled, Some(record(number.into()))).await.unwrap();
        bus.publish(&topic(), page([vec![number]]), None).await.unwrap();
    }
    let (came, missing) = drain(&mut reader(&mock.connect().await, None).await).await;
    assert!(missing.is_none(), "{missing:?}");
    assert_eq!(payloads(&came), expected.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_never_older_than_the_one_before_whatever_clocks_say() {
    let mock = Mock::new();
    let now = SystemClock.now();
    let at = |seconds: i64| {
        let time = now.as_second() + seconds;
        Arc::new(ManualClock::at(jiff::Timestamp::from_second(time).unwrap()))
    };
    for (number, seconds) in (1..).zip([0, -100, -200, 7]) {
        let bus = KafkaBus::connect(mock.settings(), at(seconds)).await.unwrap();
        // The cursor record tells a poller, and the last message everybody.
        let cursor = (number != 3).then(|| record(number));
        bus.publish(&topic(), page([vec![b'x']]), cursor).await.unwrap();
    }
    let (came, _) = drain(&mut reader(&mock.connect().await, None).await).await;
    let times: Vec<i64> = came.iter().map(|message| message.published_at_us).collect();
    let us = |seconds: i64| (now.as_second() + seconds) * 1_000_000;
    assert_eq!(times, [us(0), us(0), us(0), us(7)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_times_come_from_their_header_and_never_go_back() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let (epoch, _) = bus.end(&topic()).await.unwrap();
    let epoch = epoch.to_string();
    let ours = |told: &'static str| [("alluvium-epoch", &*epoch), ("alluvium-published", told)];
    put(&mock, "1", 9_000, &ours("5000001")).await;
    let foreign = put(&mock, "2", 7_000, &[]).await;
    put(&mock, "3", 99_000, &ours("6000000")).await;
    put(&mock, "4", 1_000, &[]).await;
    put(&mock, "5", 8_000, &[]).await;
    let times = |messages: &[Arc<Message>]| -> Vec<i64> {
        messages.iter().map(|message| message.published_at_us).collect()
    };
    let (came, _) = drain(&mut reader(&bus, None).await).await;
    assert_eq!(times(&came), [5_000_001, 7_000_000, 7_000_000, 7_000_000, 8_000_000]);
    assert!(came.iter().all(|message| message.headers.0.is_empty()));
    let (rest, _) = drain(&mut reader(&bus, Some(foreign)).await).await;
    assert_eq!(times(&rest), times(&came[2..]), "the same, wherever one begins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_says_when_it_was_published_and_which_one_it_is() {
    let mock = Mock::new();
    let now = SystemClock.now();
    let bus = KafkaBus::connect(mock.settings(), Arc::new(ManualClock::at(now))).await.unwrap();
    let two = page([b"1".to_vec(), b"2".to_vec()]);
    let span = bus.publish(&topic(), two, Some(record(1))).await.unwrap().span;
    let said = headers(&mock, span.to).await;
    assert_eq!(said["alluvium-published"], now.as_microsecond().to_string());
    assert_eq!(said["alluvium-polled"], "2");
}

//! What the Kafka bus keeps where brokers answer with errors, or are not as they should be.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{Bus, KafkaBus, KafkaSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, CursorRecord, EncodedPage, FencingToken, FetchLimit, Layer, Position, Publisher,
    Secret, SystemClock,
};
use rdkafka::ClientConfig;
use rdkafka::bindings::rd_kafka_resp_err_t as Answer;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaApiKey as Call;

use crate::kafka::mock::Mock;
use crate::support::{OWNER, page, record, topic};
use alluvium_bus::testkit::noise;

fn one(text: &str) -> EncodedPage {
    page([text.as_bytes().to_vec()])
}

fn with(token: u64, page: u64) -> CursorRecord {
    CursorRecord { token: FencingToken(token), ..record(page) }
}

pub(super) async fn read(bus: &KafkaBus) -> Vec<String> {
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let mut all = Vec::new();
    let limit = FetchLimit { wait: Duration::ZERO, ..FetchLimit::default() };
    loop {
        let delivery = raw.fetch(limit).await.unwrap();
        if delivery.is_empty() {
            return all;
        }
        all.extend(delivery.messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into()));
    }
}

fn fails(mock: &Mock, call: Call, answers: &[Answer]) {
    mock.with(|cluster| cluster.request_errors(call, answers));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_pass_do_not_reach_the_publisher() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let busy = [
        Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Answer::RD_KAFKA_RESP_ERR__TRANSPORT,
        Answer::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    fails(&mock, Call::Produce, &busy);
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    fails(&mock, Call::AddPartitionsToTxn, &[Answer::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS]);
    bus.publish(&topic(), one("2"), Some(record(2))).await.unwrap();
    fails(&mock, Call::Produce, &[Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]);
    bus.publish(&topic(), one("3"), None).await.unwrap();
    assert_eq!(read(&bus).await, ["1", "2", "3"]);
}

/// The brokers committed, and their answer did not arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_asked_for_again() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    fails(&mock, Call::EndTxn, &[Answer::RD_KAFKA_RESP_ERR__TRANSPORT; 2]);
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    assert_eq!(bus.cursor(&topic()).await.unwrap(), Some(record(1)));
    let again = bus.publish(&topic(), one("1"), Some(record(1))).await;
    assert!(matches!(&again, Err(BusError::Fenced { token: 1, page: 1, .. })), "{again:?}");
    assert_eq!(read(&bus).await, ["1"]);
}

/// The brokers say that somebody else has the entity's transactional id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_fenced_takes_nothing_back_but_with_a_younger_token() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    bus.publish(&topic(), one("1"), Some(with(1, 1))).await.unwrap();
    fails(&mock, Call::EndTxn, &[Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH]);
    for _ in 0..2 {
        let refused = bus.publish(&topic(), EncodedPage::default(), Some(with(1, 2))).await;
        assert!(matches!(&refused, Err(BusError::Fenced { .. })), "{refused:?}");
    }
    bus.publish(&topic(), one("3"), Some(with(2, 3))).await.unwrap();
    assert_eq!(bus.cursor(&topic()).await.unwrap(), Some(with(2, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_the_brokers_refuse_leaves_the_next_one_alone() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    fails(&mock, Call::Produce, &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let refused = bus.publish(&topic(), one("2"), Some(record(2))).await;
    assert!(
        matches!(&refused, Err(BusError::TooLarge { size: 1, message: Some(0), .. })),
        "{refused:?}"
    );
    fails(&mock, Call::Produce, &[Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let refused = bus.publish(&topic(), one("2"), Some(record(2))).await;
    assert!(matches!(&refused, Err(BusError::Refused(_))), "{refused:?}");
    assert_eq!(bus.cursor(&topic()).await.unwrap(), Some(record(1)));
    bus.publish(&topic(), one("2"), Some(record(2))).await.unwrap();
    bus.publish(&topic(), one("3"), None).await.unwrap();
    assert_eq!(read(&bus).await, ["1", "2", "3"]);
}

/// On the mock cluster stands what was sent, committed or not: neither was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_its_transaction_may_not_have_leaves_no_cursor_behind() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    fails(&mock, Call::AddPartitionsToTxn, &[Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let refused = bus.publish(&topic(), one("2"), Some(record(2))).await;
    assert!(matches!(&refused, Err(BusError::Refused(_))), "{refused:?}");
    assert_eq!(mock.connect().await.cursor(&topic()).await.unwrap(), Some(record(1)));
    assert_eq!(read(&bus).await, ["1"]);
    bus.publish(&topic(), one("2"), Some(record(2))).await.unwrap();
    assert_eq!(read(&bus).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_cursor_its_transaction_may_not_have_is_not_published() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    // The page is asked for first.
    let answers =
        [Answer::RD_KAFKA_RESP_ERR_NO_ERROR, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    fails(&mock, Call::AddPartitionsToTxn, &answers);
    let refused = bus.publish(&topic(), one("2"), Some(record(2))).await;
    assert!(matches!(&refused, Err(BusError::Refused(_))), "{refused:?}");
    assert_eq!(mock.connect().await.cursor(&topic()).await.unwrap(), Some(record(1)));
    bus.publish(&topic(), one("2"), Some(record(2))).await.unwrap();
    let again = bus.publish(&topic(), one("2"), Some(record(2))).await;
    assert!(matches!(&again, Err(BusError::Fenced { token: 1, page: 2, .. })), "{again:?}");
    // The mock cluster rolls nothing back, so that what was refused stands too.
    assert_eq!(read(&bus).await, ["1", "2", "2"]);
}

/// A publisher that stops waiting leaves no transaction open behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_stops_waiting_is_in_nobodys_way() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    bus.publish(&topic(), one("1"), Some(record(1))).await.unwrap();
    mock.with(|cluster| cluster.broker_round_trip_time(1, Duration::from_millis(200))).unwrap();
    let topic = topic();
    let left = bus.publish(&topic, one("2"), Some(record(2)));
    assert!(tokio::time::timeout(Duration::from_millis(50), left).await.is_err());
    mock.with(|cluster| cluster.broker_round_trip_time(1, Duration::ZERO)).unwrap();
    let next = bus.publish(&topic, one("3"), Some(record(3))).await;
    next.expect("the page before it is finished first");
    assert_eq!(bus.cursor(&topic).await.unwrap(), Some(record(3)));
    assert_eq!(read(&bus).await, ["1", "2", "3"]);
}

/// Who comes to a new topic at the same time agrees on its epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_begin_a_topic_together_agree_on_its_epoch() {
    let mock = Mock::new();
    let buses = [mock.connect().await, mock.connect().await, mock.connect().await];
    let ends = buses.each_ref().map(|bus| {
        let bus = Arc::clone(bus);
        tokio::spawn(async move { bus.end(&topic()).await.unwrap() })
    });
    let mut found = Vec::new();
    for end in ends {
        found.push(end.await.unwrap());
    }
    assert!(found.iter().all(|(epoch, end)| (*epoch, *end) == (found[0].0, 0)), "{found:?}");
    for (number, bus) in (0..).zip(&buses) {
        bus.publish(&topic(), one(&number.to_string()), None).await.unwrap();
    }
    assert_eq!(read(&buses[0]).await, ["0", "1", "2"]);
}

/// The mock cluster keeps 5 MB of a topic: what raw has not landed goes, and is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_brokers_remove_is_told_and_never_skipped() {
    let mock = Mock::new();
    let settings = KafkaSettings { max_unlanded_bytes: 1 << 30, ..mock.settings() };
    let bus = KafkaBus::connect(settings, Arc::new(SystemClock)).await.unwrap();
    let mut silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let (epoch, _) = bus.end(&topic()).await.unwrap();
    let full = |number| page((0..10).map(|n| noise(number * 10 + n, 60 << 10)));
    let mut last = 0;
    for number in 1..=12 {
        last = bus.publish(&topic(), full(number), Some(record(number))).await.unwrap().span.to;
    }
    let gone = silver.fetch(FetchLimit::default()).await;
    assert!(
        matches!(&gone, Err(BusError::Gone { first_after, asked: 1, .. }) if *first_after > 1),
        "{gone:?}"
    );
    let gone = silver.seek(&Position { epoch, offset: 1, index: 0 }).await;
    assert!(matches!(&gone, Err(BusError::Gone { asked: 2, .. })), "{gone:?}");
    let mut fresh = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let mut at = 0;
    while at < last {
        at = fresh.fetch(FetchLimit::default()).await.unwrap().span.to;
    }
    let again = mock.connect().await;
    assert_eq!(again.end(&topic()).await.unwrap(), (epoch, last), "the epoch outlives its mark");
    assert_eq!(again.cursor(&topic()).await.unwrap(), Some(record(12)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_ours_is_refused() {
    let mock = Mock::new();
    let servers = mock.settings().bootstrap_servers;
    let foreign: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let somebody = FutureRecord::to("alluvium.shop.orders").key("k").payload("v");
    foreign.send(somebody, Duration::from_secs(60)).await.unwrap();
    let bus = mock.connect().await;
    let refused = bus.end(&topic()).await;
    assert!(matches!(&refused, Err(BusError::Refused(why)) if why.contains("none of Alluvium's")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_several_partitions_is_refused() {
    let mock = Mock::new();
    mock.with(|cluster| cluster.create_topic("alluvium.shop.wide", 3, 1)).unwrap();
    let bus = mock.connect().await;
    let refused = bus.end(&"shop.wide".parse().unwrap()).await;
    assert!(matches!(&refused, Err(BusError::Refused(why)) if why.contains("3 partitions")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_cannot_be_made_is_told_with_the_command_that_makes_it() {
    let mock = Mock::new();
    // The mock cluster never says whom to ask to make one.
    let patience = Duration::from_secs(1);
    let settings = KafkaSettings { replication: Some(3), patience, ..mock.settings() };
    let bus = KafkaBus::connect(settings.clone(), Arc::new(SystemClock)).await.unwrap();
    let refused = bus.end(&"shop.unknown".parse().unwrap()).await.unwrap_err();
    let command = format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic alluvium.shop.unknown \
         --partitions 1 --replication-factor 3 --config cleanup.policy=delete \
         --config retention.ms=-1 --config retention.bytes=-1 \
         --config message.timestamp.type=LogAppendTime --config max.message.bytes={} \
         --config min.insync.replicas=2",
        settings.bootstrap_servers,
        (64 << 10) + (64 << 10)
    );
    assert!(refused.to_string().contains(&command), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_on_which_a_promise_rests_are_refused() {
    for name in [
        "acks",
        "enable.idempotence",
        "enable.auto.commit",
        "isolation.level",
        "auto.offset.reset",
        "transactional.id",
        "group.id",
    ] {
        let options = [(name.to_owned(), Secret::new("1"))].into();
        let settings = KafkaSettings { options, ..KafkaSettings::default() };
        let refused = KafkaBus::connect(settings, Arc::new(SystemClock)).await.map(drop);
        assert!(
            matches!(&refused, Err(BusError::Refused(why)) if why.contains(&format!("`{name}`"))),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_there_is_told() {
    let mock = Mock::new();
    let settings = KafkaSettings { patience: Duration::from_secs(1), ..mock.settings() };
    mock.with(|cluster: &MockCluster<'_, _>| cluster.broker_down(-1)).unwrap();
    let gone = KafkaBus::connect(settings, Arc::new(SystemClock)).await.map(drop);
    assert!(matches!(&gone, Err(BusError::Unavailable(_))), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_tells_how_far_its_layers_are() {
    let mock = Mock::new();
    let bus = mock.connect().await;
    let three = page((0..3).map(|n| vec![b'x'; 10 + n]));
    let span = bus.publish(&topic(), three, Some(record(1))).await.unwrap().span;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let stats = bus.topic_stats().remove(0);
    assert_eq!((stats.topic, stats.end, stats.unlanded_bytes), (topic(), span.to, 33));
    assert_eq!((stats.layers[0].committed, stats.layers[0].waiting_records), (0, 3));
    let first = FetchLimit { records: 1, ..FetchLimit::default() };
    let delivery = raw.fetch(first).await.unwrap();
    raw.commit(&delivery.span).await.unwrap();
    let stats = bus.topic_stats().remove(0);
    assert_eq!((stats.unlanded_bytes, stats.layers[0].committed), (23, delivery.span.to));
}

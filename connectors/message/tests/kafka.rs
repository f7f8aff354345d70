//! Topics with many partitions: nothing lost, nothing twice, and the order of each key.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_connector::contract::{drain, order_of};
use alluvium_model::{Cursor, SourceError};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};

use crate::world::{Kafka, Sent, all_told, entity, open, origin, run};

async fn spread(kafka: &Kafka, topic: &str, partitions: i32, values: std::ops::Range<i32>) {
    for at in values {
        let (key, partition) = ((at % 7).to_string(), (at % 7) % partitions);
        let row = json!({"id": at % 7, "value": at.to_string()}).to_string();
        let sent =
            Sent { partition, key: Some(&key), value: Some(row.as_bytes()), ..Sent::default() };
        kafka.send(topic, sent).await;
    }
}

#[tokio::test]
async fn of_many_partitions_each_message_comes_once_and_each_key_in_its_order() {
    let kafka = Kafka::start();
    kafka.topic("many", 5);
    spread(&kafka, "many", 5, 0..60).await;
    let declared = entity(json!({"topic": "many", "page_messages": 10}));
    let (mut source, declared) = open(&kafka.connection(), &declared).await.unwrap();
    let first = drain(&mut *source, &declared, None).await.unwrap();
    spread(&kafka, "many", 5, 60..100).await;
    let second = drain(&mut *source, &declared, first.cursor.clone()).await.unwrap();
    let (mut places, mut values) = (BTreeMap::new(), BTreeMap::<String, Vec<i32>>::new());
    let mut orders = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for change in first.changes().into_iter().chain(second.changes()) {
        let place = (origin(change, "partition").as_i64(), origin(change, "offset").as_i64());
        *places.entry(place).or_insert(0) += 1;
        let row: Value = serde_json::from_str(change.after.as_ref().unwrap().get()).unwrap();
        let key = row["id"].to_string();
        values
            .entry(key.clone())
            .or_default()
            .push(row["value"].as_str().unwrap().parse().unwrap());
        orders.entry(key).or_default().push(order_of(&declared, change));
    }
    assert_eq!((places.len(), places.values().max()), (100, Some(&1)));
    assert!(values.values().all(|values| values.is_sorted()), "{values:?}");
    assert!(orders.values().all(|orders| orders.is_sorted_by(|a, b| a < b)));
    let pages = first.pages.iter().map(|(_, records)| records.len());
    assert!(pages.clone().max() <= Some(10), "{:?}", pages.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_partition_that_is_found_later_is_read_from_its_beginning() {
    let kafka = Kafka::start();
    kafka.topic("grows", 2);
    spread(&kafka, "grows", 2, 0..10).await;
    let declared = entity(json!({"topic": "grows", "start": "latest"}));
    let first = run(&kafka.connection(), &declared, None).await.unwrap();
    assert!(first.changes().is_empty(), "it begins after what is there");
    let mut cursor = first.cursor.unwrap();
    assert_eq!(cursor.0["partitions"].as_object().unwrap().len(), 2);
    cursor.0["partitions"].as_object_mut().unwrap().remove("1");
    let second = run(&kafka.connection(), &declared, Some(cursor)).await.unwrap();
    let partitions = second.changes().into_iter().map(|change| origin(change, "partition"));
    assert_eq!(partitions.collect::<Vec<_>>(), vec![json!(1); 4], "ids 1, 3, 5 and 1 again");
}

#[tokio::test]
async fn what_comes_after_the_start_is_read_also_where_the_first_run_brought_nothing() {
    let kafka = Kafka::start();
    kafka.topic("late", 1);
    kafka.say("late", "1", r#"{"id":1,"value":"old"}"#).await;
    let declared = entity(json!({"topic": "late", "start": "latest"}));
    let first = run(&kafka.connection(), &declared, None).await.unwrap();
    assert!(first.changes().is_empty());
    kafka.say("late", "1", r#"{"id":1,"value":"new"}"#).await;
    let second = run(&kafka.connection(), &declared, first.cursor).await.unwrap();
    assert_eq!(all_told(&second), [r#"u {"id":1,"value":"new"}"#]);
}

#[tokio::test]
async fn a_run_that_waits_brings_what_comes_meanwhile() {
    let kafka = Kafka::start();
    kafka.topic("slow", 2);
    let declared = entity(json!({"topic": "slow", "wait_seconds": 10}));
    let (mut source, declared) = open(&kafka.connection(), &declared).await.unwrap();
    let cursor = Cursor(json!({"of": "slow", "partitions": {"0": {"next": 0}, "1": {"next": 0}}}));
    let (page, ()) = tokio::join!(
        source.poll(&declared, Some(&cursor)),
        kafka.say("slow", "1", r#"{"id":1,"value":"a"}"#)
    );
    assert_eq!(page.unwrap().records.len(), 1);
}

#[tokio::test]
async fn times_that_go_back_do_not_change_the_order_of_a_key() {
    let kafka = Kafka::start();
    kafka.topic("clocks", 1);
    for (at, time) in [(0, 5_000), (1, 9_000), (2, 4_000), (3, 9_000)] {
        let row = json!({"id": 1, "value": at.to_string()}).to_string();
        let value = Some(row.as_bytes());
        let sent = Sent { value, time_ms: Some(time), ..Sent::default() };
        kafka.send("clocks", sent).await;
    }
    // However the pages are cut.
    for page in [1, 10] {
        let declared = entity(json!({"topic": "clocks", "page_messages": page}));
        let run = run(&kafka.connection(), &declared, None).await.unwrap();
        let times: Vec<_> = run.changes().iter().map(|c| c.sequence[0].clone()).collect();
        let nine = json!("1970-01-01T00:00:09Z");
        assert_eq!(times, [json!("1970-01-01T00:00:05Z"), nine.clone(), nine.clone(), nine]);
    }
}

#[tokio::test]
async fn a_time_that_no_calendar_has_changes_neither_the_order_nor_the_times_of_what_follows() {
    let kafka = Kafka::start();
    kafka.topic("units", 1);
    // Of the second one its producer took microseconds for milliseconds.
    let times = [1_795_222_800_000, 1_795_222_800_000_000, 1_795_222_801_000, 1_795_222_802_000];
    for (at, time) in (0..).zip(times) {
        let row = json!({"id": 1, "value": at.to_string()}).to_string();
        let value = Some(row.as_bytes());
        kafka.send("units", Sent { value, time_ms: Some(time), ..Sent::default() }).await;
    }
    let expected = ["01:00:00Z", "01:00:00Z", "01:00:01Z", "01:00:02Z"];
    let expected = expected.map(|time| json!(format!("2026-11-21T{time}")));
    let declared = entity(json!({"topic": "units", "page_messages": 1}));
    let (mut source, declared) = open(&kafka.connection(), &declared).await.unwrap();
    let whole = drain(&mut *source, &declared, None).await.unwrap();
    let orders: Vec<_> = whole.changes().iter().map(|c| order_of(&declared, c)).collect();
    assert!(orders.is_sorted_by(|a, b| a < b));
    let times: Vec<_> = whole.changes().iter().map(|c| c.sequence[0].clone()).collect();
    assert_eq!(times, expected);
    assert_eq!(whole.changes()[1].changed_at_ms, None);
    // As an older release left it, which took that time up.
    let mut cursor = Cursor(json!({"of": "units", "partitions": {"0": {"next": 2}}}));
    cursor.0["partitions"]["0"]["time_us"] = json!(1_795_222_800_000_000_000_i64);
    let rest = run(&kafka.connection(), &declared, Some(cursor)).await.unwrap();
    let times: Vec<_> = rest.changes().iter().map(|c| c.sequence[0].clone()).collect();
    assert_eq!(times, expected[2..]);
}

#[tokio::test]
async fn what_is_acknowledged_stands_in_a_consumer_group_for_people() {
    let kafka = Kafka::start();
    kafka.topic("noted", 1);
    kafka.say("noted", "1", r#"{"id":1,"value":"a"}"#).await;
    let declared = entity(json!({"topic": "noted"}));
    let (mut source, declared) = open(&kafka.connection(), &declared).await.unwrap();
    let run = drain(&mut *source, &declared, None).await.unwrap();
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.servers())
        .set("group.id", "alluvium.shop.things")
        .create()
        .unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition("noted", 0);
    for _ in 0..600 {
        source.acknowledge(&declared, run.cursor.as_ref().unwrap()).await.unwrap();
        let noted = other.committed_offsets(asked.clone(), Duration::from_secs(10));
        if noted.is_ok_and(|noted| noted.elements()[0].offset() == Offset::Offset(1)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the offset was not noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_ends_does_not_wait_for_an_answer_to_its_last_offsets() {
    let kafka = Kafka::start();
    kafka.topic("mute", 2);
    spread(&kafka, "mute", 2, 0..6).await;
    kafka.order(|cluster| {
        let nobody = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 500];
        cluster.request_errors(RDKafkaApiKey::FindCoordinator, &nobody);
    });
    // One that has brought its last page, and one that would read on.
    for page in [10, 1] {
        let declared = entity(json!({"topic": "mute", "page_messages": page}));
        let (mut source, declared) = open(&kafka.connection(), &declared).await.unwrap();
        let cursor = source.poll(&declared, None).await.unwrap().next.unwrap();
        source.acknowledge(&declared, &cursor).await.unwrap();
        let ended = tokio::task::spawn_blocking(move || drop(source));
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_run_goes_on_after_its_last_page_was_noted() {
    let kafka = Kafka::start();
    kafka.topic("on", 2);
    spread(&kafka, "on", 2, 0..6).await;
    let declared = entity(json!({"topic": "on"}));
    let (mut source, declared) = open(&kafka.connection(), &declared).await.unwrap();
    let first = drain(&mut *source, &declared, None).await.unwrap();
    spread(&kafka, "on", 2, 6..10).await;
    let second = drain(&mut *source, &declared, first.cursor.clone()).await.unwrap();
    let third = drain(&mut *source, &declared, second.cursor.clone()).await.unwrap();
    let counts = [first, second, third].map(|run| run.changes().len());
    assert_eq!(counts, [6, 4, 0]);
}

#[tokio::test]
async fn metadata_that_do_not_fit_are_named() {
    let kafka = Kafka::start();
    for (source, word) in [
        (json!({}), "`topic`"),
        (json!({"stream": "S"}), "`topic`"),
        (json!({"topic": "t", "subject": "s"}), "`subject`"),
        (json!({"topic": "t", "map": "opp=x"}), "`opp`"),
        (json!({"topic": "t", "map": "op=x", "format": "plain"}), "format"),
    ] {
        let error = run(&kafka.connection(), &entity(source), None).await.err().unwrap();
        assert!(matches!(error, SourceError::Misconfigured(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let mut full = entity(json!({"topic": "t"}));
    full.load = alluvium_model::metadata::Load::Full;
    let error = run(&kafka.connection(), &full, None).await.err().unwrap();
    assert!(error.to_string().contains("`delta`"), "{error}");
    for (option, value) in [("isolation.level", "read_uncommitted"), ("client.rack", "here")] {
        let mut connection = kafka.connection();
        connection["options"] = json!({option: value});
        let error = run(&connection, &entity(json!({"topic": "t"})), None).await.err().unwrap();
        assert!(error.to_string().contains(&format!("`{option}`")), "{error}");
    }
}

//! Our own topics, as our own buses write them, read by others: a program that knows only Debezium's
//! envelope and CloudEvents, and another Alluvium.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{KafkaBus, KafkaSettings, NatsBus, NatsSettings};
use alluvium_model::{
    Change, Control, Cursor, CursorRecord, EncodedPage, EntityId, FencingToken, Op, Publisher,
    Record, RunId, SystemClock,
};
use alluvium_wire::{LineFormat, Mapping, PublishContext, encode_lines, encode_page};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::world::{Kafka, Nats, all_told, entity, run};

/// What the buses call the topic of the entity `shop.things`.
const STREAM: &str = "alluvium-changes-shop-things";
const TOPIC: &str = "alluvium.shop.things";

fn row(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn things() -> EntityId {
    "shop.things".parse().unwrap()
}

fn context(page: u32) -> PublishContext {
    PublishContext {
        entity: things(),
        run: Some(RunId("run-1".to_owned())),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        delivery: format!("poll/{page}"),
        ordinal: 0,
        now: "2026-11-21T08:00:00.25Z".parse().unwrap(),
    }
}

/// Polled pages: one with changes of all operations and a control record, one of a single change.
fn polled() -> [EncodedPage; 2] {
    let put = |op, json: &str| Change { op, ..Change::upsert(row(json)) };
    let first = [
        put(Op::Create, r#"{"id":1,"value":"a"}"#),
        put(Op::Read, r#"{"id":2,"value":"b"}"#),
        Change {
            changed_at_ms: Some(1_795_222_800_000),
            before: Some(row(r#"{"id":1,"value":"a"}"#)),
            ..put(Op::Update, "{\n\"id\":1,\"value\":\"Ås\\n\"}")
        },
        Change { before: None, ..put(Op::Truncate, "{}") },
        put(Op::Create, r#"{"id":3,"value":"c"}"#),
    ];
    let truncate = |change: Change| match change.op {
        Op::Truncate => Change { after: None, ..change },
        _ => change,
    };
    let mut records: Vec<_> = first.into_iter().map(truncate).map(Record::Change).collect();
    let (snapshot, sequence) = ("full-1".to_owned(), vec![json!(7)]);
    records.push(Record::Control(Control::SnapshotEnd { snapshot, sequence, rows: 1 }));
    records.push(Record::Change(Change::delete(row(r#"{"id":3}"#))));
    let single = [Record::Change(put(Op::Create, r#"{"id":4,"value":"d"}"#))];
    [encode_page(&records, &context(1)).unwrap(), encode_page(&single, &context(2)).unwrap()]
}

/// What somebody pushes.
fn pushed(lines: &'static str, format: &LineFormat, delivery: u32) -> EncodedPage {
    EncodedPage { messages: encode_lines(lines.into(), format, &context(delivery)) }
}

/// Publishes what was polled as a run does, and lines of the envelope that somebody pushed.
async fn publish(bus: &dyn Publisher) {
    for (page, number) in polled().into_iter().zip(1..) {
        let cursor = Cursor(json!({"after": number}));
        let record = CursorRecord { token: FencingToken(1), page: number, cursor };
        bus.publish(&things(), page, Some(record)).await.unwrap();
    }
    let line = r#"{"op":"c","before":null,"after":{"id":5,"value":"e"},"source":{},"ts_ms":1}"#;
    bus.publish(&things(), pushed(line, &LineFormat::Envelope, 3), None).await.unwrap();
}

/// Publishes lines of other shapes too, which only their headers tell.
async fn publish_shapes(bus: &dyn Publisher) {
    let plain = r#"{"id":6,"value":"f","op":"c","before":1}"#;
    bus.publish(&things(), pushed(plain, &LineFormat::Plain, 4), None).await.unwrap();
    let mapping: Mapping = "op=what,row=row".parse().unwrap();
    let mapped = pushed(r#"{"what":"d","row":{"id":6}}"#, &LineFormat::Map(mapping), 5);
    bus.publish(&things(), mapped, None).await.unwrap();
}

async fn nats_bus(nats: &Nats) -> Arc<NatsBus> {
    let settings = NatsSettings { servers: vec![nats.server.url()], ..NatsSettings::default() };
    NatsBus::connect(settings, Arc::new(SystemClock)).await.unwrap()
}

/// The mock cluster makes no topics for its clients.
async fn kafka_bus(kafka: &Kafka) -> Arc<KafkaBus> {
    for topic in ["alluvium.cursors", TOPIC] {
        kafka.topic(topic, 1);
    }
    let bootstrap_servers = kafka.servers().to_owned();
    let settings = KafkaSettings { bootstrap_servers, ..KafkaSettings::default() };
    KafkaBus::connect(settings, Arc::new(SystemClock)).await.unwrap()
}

/// All messages of a topic, as any client of Kafka gets them: a line each of headers and payload.
fn lines_of(servers: &str, topic: &str) -> String {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "others");
    let consumer: BaseConsumer = config.set("enable.partition.eof", "true").create().unwrap();
    let mut begin = TopicPartitionList::new();
    begin.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&begin).unwrap();
    let mut lines = String::new();
    for _ in 0..300 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => lines.push_str(&line_of(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => return lines,
            Some(Err(error)) => eprintln!("{error}"),
            None => {}
        }
    }
    panic!("the end of {topic} was not met: {lines}");
}

fn line_of(message: &BorrowedMessage<'_>) -> String {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.map(|header| (header.key.to_owned(), Value::from(text(header.value))));
    let headers: Map<String, Value> = headers.collect();
    json!({"headers": headers, "payload": text(message.payload())}).to_string() + "\n"
}

fn read(arguments: &[&str]) -> Option<Value> {
    let readers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/readers");
    let mut command = Command::new("python3");
    let Ok(output) = command.arg(readers.join("read_topic.py")).args(arguments).output() else {
        assert!(!alluvium_testkit::required(), "python3 is not there");
        eprintln!("SKIPPED: python3 is not there");
        return None;
    };
    let (text, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{told}");
    Some(serde_json::from_str(&text).unwrap())
}

fn assert_understood(told: &Value) {
    assert_eq!(told["problems"], json!([]));
    let types = json!({"alluvium.changes.v1": 4, "alluvium.control.v1": 1});
    assert_eq!(told["types"], types);
    assert_eq!(told["operations"], json!({"c": 4, "r": 1, "u": 1, "t": 1, "d": 1}));
    assert_eq!(told["rows"], json!([{"id": 4, "value": "d"}, {"id": 5, "value": "e"}]));
}

#[tokio::test]
async fn a_program_that_knows_only_debezium_and_cloudevents_reads_our_stream_on_nats() {
    let Some(nats) = Nats::start(None).await else { return };
    publish(&*nats_bus(&nats).await).await;
    let url = nats.server.url();
    let address = url.strip_prefix("nats://").unwrap();
    if let Some(told) = read(&["nats", address, STREAM]) {
        assert_understood(&told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_program_reads_our_topic_on_kafka_from_a_plain_client() {
    let kafka = Kafka::start();
    publish(&*kafka_bus(&kafka).await).await;
    let file = std::env::temp_dir().join(format!("alluvium-topic-{}.ndjson", std::process::id()));
    std::fs::write(&file, lines_of(kafka.servers(), TOPIC)).unwrap();
    let told = read(&["lines", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    if let Some(told) = told {
        assert_understood(&told);
    }
}

/// What another Alluvium gets to know.
const CHANGES: [&str; 10] = [
    r#"c {"id":1,"value":"a"}"#,
    r#"r {"id":2,"value":"b"}"#,
    r#"u {"id":1,"value":"Ås\n"}"#,
    "t -",
    r#"c {"id":3,"value":"c"}"#,
    r#"d {"id":3}"#,
    r#"c {"id":4,"value":"d"}"#,
    r#"c {"id":5,"value":"e"}"#,
    r#"u {"id":6,"value":"f","op":"c","before":1}"#,
    r#"d {"id":6}"#,
];

#[tokio::test]
async fn another_alluvium_reads_our_stream_on_nats_by_its_headers() {
    let Some(nats) = Nats::start(None).await else { return };
    let bus = nats_bus(&nats).await;
    publish(&*bus).await;
    publish_shapes(&*bus).await;
    let run = run(&nats.connection(), &entity(json!({"stream": STREAM})), None).await.unwrap();
    assert_eq!(all_told(&run), CHANGES);
    // Its snapshot's end speaks of a sequence that the rows do not carry here.
    assert_eq!(run.cursor.unwrap().0["passed"], json!({"controls": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_alluvium_reads_our_topic_on_kafka_by_its_headers() {
    let kafka = Kafka::start();
    let bus = kafka_bus(&kafka).await;
    publish(&*bus).await;
    publish_shapes(&*bus).await;
    let run = run(&kafka.connection(), &entity(json!({"topic": TOPIC})), None).await.unwrap();
    assert_eq!(all_told(&run), CHANGES);
    // With a mark the bus begins a topic.
    assert_eq!(run.cursor.unwrap().0["passed"], json!({"controls": 2}));
}

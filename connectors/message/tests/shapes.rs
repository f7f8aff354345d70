//! What other programs write becomes changes: Debezium's events, plain rows, other shapes, and what
//! is none of them.

use alluvium_connector::contract::order_of;
use alluvium_model::{EntityId, Headers, Record};
use alluvium_wire::headers::CONTENT_TYPE;
use alluvium_wire::{Decoder, PublishContext, encode_page};
use serde_json::{Value, json};

use crate::world::{Kafka, Sent, all_told, entity, open, origin, run};

fn event(op: &str, before: &str, after: &str) -> String {
    let snapshot = op == "r";
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"version":"2.7.0","connector":"postgresql","name":"shop","ts_ms":1795222800000,"snapshot":"{snapshot}","lsn":24023128}},"op":"{op}","ts_ms":1795222800500,"transaction":null}}"#
    )
}

fn wrapped(payload: &str) -> String {
    format!(r#"{{"schema":{{"type":"struct","fields":[],"optional":false}},"payload":{payload}}}"#)
}

async fn debezium(kafka: &Kafka, topic: &'static str) {
    kafka.topic(topic, 1);
    let (a, b) = (r#"{"id":1,"value":"a"}"#, r#"{"id":1,"value":"b"}"#);
    let key = r#"{"id":1}"#;
    kafka.say(topic, key, &event("c", "null", a)).await;
    kafka.say(topic, key, &wrapped(&event("u", a, b))).await;
    kafka.say(topic, key, &event("d", b, "null")).await;
    kafka.tombstone(topic, key).await;
    kafka.say(topic, &wrapped(key), &wrapped(&event("d", b, "null"))).await;
    kafka.tombstone(topic, &wrapped(key)).await;
    kafka.say(topic, key, &event("r", "null", a)).await;
}

const DEBEZIUM: [&str; 5] = [
    r#"c {"id":1,"value":"a"}"#,
    r#"u {"id":1,"value":"b"}"#,
    r#"d {"id":1,"value":"b"}"#,
    r#"d {"id":1,"value":"b"}"#,
    r#"r {"id":1,"value":"a"}"#,
];

#[tokio::test]
async fn debeziums_events_become_changes_and_their_tombstones_nothing() {
    let kafka = Kafka::start();
    debezium(&kafka, "shop").await;
    for source in [
        json!({"topic": "shop"}),
        json!({"topic": "shop", "format": "debezium"}),
        // Each delete ends a page, and its tombstone begins the next one.
        json!({"topic": "shop", "page_messages": 1}),
        json!({"topic": "shop", "page_messages": 3}),
    ] {
        let run = run(&kafka.connection(), &entity(source.clone()), None).await.unwrap();
        assert_eq!(all_told(&run), DEBEZIUM, "{source}");
        assert_eq!(run.cursor.unwrap().0["passed"], json!({"tombstones": 2}), "{source}");
    }
}

#[tokio::test]
async fn a_change_tells_where_it_stood_and_what_its_source_said() {
    let kafka = Kafka::start();
    debezium(&kafka, "shop").await;
    let run = run(&kafka.connection(), &entity(json!({"topic": "shop"})), None).await.unwrap();
    let update = run.changes()[1];
    for (member, value) in [
        ("topic", json!("shop")),
        ("partition", json!(0)),
        ("offset", json!(1)),
        ("index", json!(0)),
    ] {
        assert_eq!(origin(update, member), value);
    }
    assert_eq!(origin(update, "source")["lsn"], 24_023_128);
    assert_eq!(update.changed_at_ms, Some(1_795_222_800_000));
    assert_eq!(update.sequence[1..], [json!(0), json!(1), json!(0)]);
    assert_eq!(run.changes()[4].snapshot.as_deref(), Some("debezium"));
}

#[tokio::test]
async fn a_sequence_of_debeziums_source_counts_where_it_is_declared() {
    let kafka = Kafka::start();
    debezium(&kafka, "shop").await;
    let map = "sequence=source.ts_ms+source.lsn";
    let mut declared = entity(json!({"topic": "shop", "format": "debezium", "map": map}));
    let error = run(&kafka.connection(), &declared, None).await.err().unwrap().to_string();
    assert!(error.contains("sequence_by"), "{error}");
    declared.sequence_by =
        serde_json::from_value(json!([{"carried": "timestamp"}, {"carried": "long"}])).unwrap();
    let run = run(&kafka.connection(), &declared, None).await.unwrap();
    for change in run.changes() {
        assert_eq!(change.sequence, [json!(1_795_222_800_000_i64), json!(24_023_128)]);
    }
}

/// As Debezium documents it for PostgreSQL, of a snapshot before which nothing was committed.
const SNAPSHOT: &str = r#"{"before":null,"after":{"id":1,"value":"a"},"source":{"version":"3.0.0.Final","connector":"postgresql","name":"shop","ts_ms":1795222800000,"snapshot":"first","db":"postgres","sequence":"[null,\"24023128\"]","schema":"public","table":"things","txId":555,"lsn":24023128,"xmin":null},"op":"r","ts_ms":1795222800500}"#;

#[tokio::test]
async fn a_first_snapshot_of_postgresql_has_the_sequence_that_the_readme_recommends() {
    let kafka = Kafka::start();
    kafka.topic("first", 1);
    kafka.say("first", r#"{"id":1}"#, SNAPSHOT).await;
    let map = "sequence=source.ts_ms+source.lsn";
    assert!(include_str!("../README.md").contains(map));
    let mut mapped = entity(json!({"topic": "first", "format": "debezium", "map": map}));
    let by = json!([{"carried": "timestamp"}, {"carried": "long"}]);
    mapped.sequence_by = serde_json::from_value(by).unwrap();
    let by_log = run(&kafka.connection(), &mapped, None).await.unwrap();
    let expected = [json!(1_795_222_800_000_i64), json!(24_023_128)];
    assert_eq!(by_log.changes()[0].sequence, expected);
    // What Debezium calls its sequence has no first part yet.
    let mut own = entity(json!({"topic": "first", "format": "debezium"}));
    own.sequence_by = mapped.sequence_by;
    let by_own = run(&kafka.connection(), &own, None).await.unwrap();
    assert_eq!(by_own.changes()[0].sequence, [json!(null), json!("24023128")]);
}

#[tokio::test]
async fn documents_of_mongodb_go_on_to_quarantine_as_they_are() {
    let kafka = Kafka::start();
    kafka.topic("documents", 1);
    let events = [
        r#"{"after":"{\"_id\" : {\"$numberLong\" : \"1004\"},\"value\" : \"a\"}","source":{"connector":"mongodb","ts_ms":1795222800000},"op":"c","ts_ms":1795222800500}"#,
        r#"{"after":null,"updateDescription":{"removedFields":null,"updatedFields":"{\"value\": \"b\"}"},"source":{"connector":"mongodb","ts_ms":1795222800000},"op":"u","ts_ms":1795222800500}"#,
    ];
    for event in events {
        kafka.say("documents", r#"{"id":"{\"$numberLong\" : \"1004\"}"}"#, event).await;
    }
    for format in ["auto", "debezium"] {
        let source = json!({"topic": "documents", "format": format});
        let run = run(&kafka.connection(), &entity(source), None).await.unwrap();
        let rows = run.changes().into_iter().map(|change| change.after.as_ref().unwrap().get());
        let texts: Vec<String> = rows.map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!(texts, events, "{format}");
    }
}

#[tokio::test]
async fn plain_rows_are_upserts_and_a_message_without_a_value_deletes_its_key() {
    let kafka = Kafka::start();
    kafka.topic("compacted", 1);
    kafka.say("compacted", "1", r#"{"id":1,"value":"a"}"#).await;
    kafka.say("compacted", "2", r#"{"value":"its key stands beside it"}"#).await;
    kafka.tombstone("compacted", "1").await;
    kafka.tombstone("compacted", r#"{"id":2}"#).await;
    for format in ["plain", "auto"] {
        let source = json!({"topic": "compacted", "format": format});
        let run = run(&kafka.connection(), &entity(source), None).await.unwrap();
        let expected = [
            r#"u {"id":1,"value":"a"}"#,
            r#"u {"id":2,"value":"its key stands beside it"}"#,
            r#"d {"id":1}"#,
            r#"d {"id":2}"#,
        ];
        assert_eq!(all_told(&run), expected, "{format}");
    }
}

#[tokio::test]
async fn other_shapes_are_read_by_a_mapping() {
    let kafka = Kafka::start();
    kafka.topic("other", 1);
    let says = |text: &'static str| kafka.say("other", "x", text);
    says(r#"{"meta":{"kind":"add","id":7},"row":{"value":"a"}}"#).await;
    says(r#"{"meta":{"kind":"gone","id":7}}"#).await;
    let map = "op=meta.kind,key=meta.id,row=row,ops=add:c+gone:d";
    let source = json!({"topic": "other", "map": map});
    let run = run(&kafka.connection(), &entity(source), None).await.unwrap();
    assert_eq!(all_told(&run), [r#"c {"id":7,"value":"a"}"#, r#"d {"id":7}"#]);
}

#[tokio::test]
async fn many_rows_in_one_message_are_told_apart_by_their_index() {
    let kafka = Kafka::start();
    kafka.topic("batches", 1);
    kafka.say("batches", "x", r#"[{"id":1,"value":"a"},{"id":2,"value":"b"}]"#).await;
    let headers = Headers::default().with(CONTENT_TYPE, "application/x-ndjson");
    let value = Some(&b"{\"id\":1,\"value\":\"c\"}\n{\"id\":1,\"value\":\"d\"}\n"[..]);
    kafka.send("batches", Sent { value, headers, ..Sent::default() }).await;
    let (mut source, entity) =
        open(&kafka.connection(), &entity(json!({"topic": "batches"}))).await.unwrap();
    let run = alluvium_connector::contract::drain(&mut *source, &entity, None).await.unwrap();
    let changes = run.changes();
    let places: Vec<_> =
        changes.iter().map(|c| (origin(c, "offset"), origin(c, "index"))).collect();
    let expected = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(o, i)| (json!(o), json!(i)));
    assert_eq!(places, expected);
    assert!(order_of(&entity, changes[2]) < order_of(&entity, changes[3]));
}

#[tokio::test]
async fn what_is_no_change_goes_on_to_quarantine_with_its_bytes_and_stops_nothing() {
    let kafka = Kafka::start();
    kafka.topic("poison", 1);
    let large = format!(r#"{{"id":9,"value":"{}"}}"#, "x".repeat(2000));
    let values: [&[u8]; 6] = [
        b"{\"id\":1,\n broken",
        b"\xff\xfe",
        b"[1,2]",
        br#"{"op":"m","source":{},"message":{}}"#,
        large.as_bytes(),
        br#"{"id":2,"value":"good"}"#,
    ];
    for value in values {
        kafka.send("poison", Sent { value: Some(value), ..Sent::default() }).await;
    }
    kafka.send("poison", Sent::default()).await;
    let source = json!({"topic": "poison", "max_message_bytes": 1000});
    let run = run(&kafka.connection(), &entity(source), None).await.unwrap();
    let records: Vec<Record> = run.changes().into_iter().cloned().map(Record::Change).collect();
    assert_eq!(records.len(), 7);
    let context = PublishContext {
        entity: "shop.things".parse::<EntityId>().unwrap(),
        run: None,
        traceparent: None,
        delivery: "poll/1".to_owned(),
        ordinal: 0,
        now: "2026-11-21T08:00:00Z".parse().unwrap(),
    };
    let page = encode_page(&records, &context).unwrap();
    let decoder = Decoder::for_headers(&page.messages[0].headers).unwrap();
    let text = std::str::from_utf8(&page.messages[0].payload).unwrap();
    let mut read = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let code = decoder.decode(line.as_bytes()).err().map(|malformed| malformed.code);
        read.push((code, row["after"].as_str().unwrap_or("a row").to_owned()));
    }
    let bad = Some("bad_row");
    let expected = [
        (bad, "{\"id\":1,\n broken"),
        (bad, "data:application/octet-stream;base64,//4="),
        (bad, "[1,2]"),
        (bad, r#"{"op":"m","source":{},"message":{}}"#),
        (bad, "a message of 2019 bytes, left out: too large"),
        (None, "a row"),
        (bad, ""),
    ];
    assert_eq!(read, expected.map(|(code, text)| (code, text.to_owned())));
}

//! Our own topics, read by others: a program that knows only Debezium's envelope and CloudEvents,
//! and another Alluvium.

use std::path::Path;
use std::process::Command;

use alluvium_model::{Change, Control, EncodedMessage, EntityId, Headers, Op, Record, RunId};
use alluvium_wire::{LineFormat, Mapping, PublishContext, encode_lines, encode_page};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::world::{Nats, all_told, entity, run};

fn row(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn context(page: u32) -> PublishContext {
    PublishContext {
        entity: "shop.things".parse::<EntityId>().unwrap(),
        run: Some(RunId("run-1".to_owned())),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        delivery: format!("poll/{page}"),
        ordinal: 0,
        now: "2026-11-21T08:00:00.25Z".parse().unwrap(),
    }
}

/// A page with changes of all operations and a control record, one of a single change, and lines
/// that somebody published.
fn messages() -> Vec<EncodedMessage> {
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
    let mut messages = encode_page(&records, &context(1)).unwrap().messages;
    let single = [Record::Change(put(Op::Create, r#"{"id":4,"value":"d"}"#))];
    messages.extend(encode_page(&single, &context(2)).unwrap().messages);
    let line = r#"{"op":"c","before":null,"after":{"id":5,"value":"e"},"source":{},"ts_ms":1}"#;
    messages.extend(encode_lines(line.into(), &LineFormat::Envelope, &context(3)));
    messages
}

/// The headers as CloudEvents' binding for NATS writes them.
fn on_nats(headers: &Headers) -> Headers {
    let name = |name: &str| match name.strip_prefix("ce_") {
        Some(rest) => format!("ce-{rest}"),
        None => name.to_owned(),
    };
    let value = |value: &str| value.replace('%', "%25").replace('"', "%22").replace(' ', "%20");
    Headers(headers.0.iter().map(|(n, text)| (name(n), value(text))).collect())
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
async fn a_program_that_knows_only_debezium_and_cloudevents_reads_a_stream_of_ours() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("OURS").await;
    for message in messages() {
        nats.send("ours.things", &on_nats(&message.headers), &message.payload).await;
    }
    let url = nats.server.url();
    let address = url.strip_prefix("nats://").unwrap();
    if let Some(told) = read(&["nats", address, "OURS"]) {
        assert_understood(&told);
    }
}

#[test]
fn the_same_program_reads_our_headers_as_kafka_carries_them() {
    let file = std::env::temp_dir().join(format!("alluvium-topic-{}.ndjson", std::process::id()));
    let line = |message: EncodedMessage| {
        let payload = std::str::from_utf8(&message.payload).unwrap();
        json!({"headers": message.headers, "payload": payload}).to_string() + "\n"
    };
    let lines: String = messages().into_iter().map(line).collect();
    std::fs::write(&file, lines).unwrap();
    let told = read(&["lines", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    if let Some(told) = told {
        assert_understood(&told);
    }
}

#[tokio::test]
async fn another_alluvium_reads_a_stream_of_ours_by_its_headers() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("OURS").await;
    let plain = encode_lines(
        "{\"id\":6,\"value\":\"f\",\"op\":\"c\",\"before\":1}".into(),
        &LineFormat::Plain,
        &context(4),
    );
    let mapping: Mapping = "op=what,row=row".parse().unwrap();
    let line = r#"{"what":"d","row":{"id":6}}"#;
    let mapped = encode_lines(line.into(), &LineFormat::Map(mapping), &context(5));
    for message in messages().into_iter().chain(plain).chain(mapped) {
        nats.send("ours.things", &on_nats(&message.headers), &message.payload).await;
    }
    // With this a bus begins a topic.
    nats.send("ours.things", &Headers::default().with("alluvium-mark", "epoch"), b"").await;
    let run = run(&nats.connection(), &entity(json!({"stream": "OURS"})), None).await.unwrap();
    let expected = [
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
    assert_eq!(all_told(&run), expected);
    // Its snapshot's end speaks of a sequence that the rows do not carry here.
    assert_eq!(run.cursor.unwrap().0["passed"], json!({"controls": 2}));
}

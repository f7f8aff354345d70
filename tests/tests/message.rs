//! Topics and streams that other programs write: from their messages to silver's rows, all of them
//! once, whatever comes twice and whatever is none.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use alluvium_testkit::{KafkaMock, NatsServer, Put};
use alluvium_tests::TestPlatform;
use serde_json::{Value, json};

use crate::lost_bus::{SETTINGS, assert_proved};

/// When the first message was written, in milliseconds since 1970.
const BEGAN: i64 = 1_795_222_800_000;

/// A project of one entity of a log: its key, and one column beside it.
fn project(settings: &str, connection: &Value, source: &Value) -> TestPlatform {
    let systems = json!({"systems": [
        {"name": "shop", "type": "message", "connection": connection}
    ]});
    TestPlatform::new(settings, &systems, &entities(source))
}

fn entities(source: &Value) -> Value {
    let mut source = source.clone();
    source["wait_seconds"] = json!(0);
    json!({"entities": [{
        "system": "shop", "name": "things", "load": "delta", "source": source, "keys": ["id"],
        "columns": [
            {"name": "id", "type": "long", "nullable": false},
            {"name": "name", "type": "string"}
        ]
    }]})
}

fn on_kafka(settings: &str, kafka: &KafkaMock, source: &Value) -> TestPlatform {
    let servers = [kafka.servers()];
    project(settings, &json!({"engine": "kafka", "servers": servers}), source)
}

/// The versions of all rows: their name, and whether they are open.
fn versions(platform: &TestPlatform) -> Vec<Value> {
    let sql = "SELECT id, name, _is_current AS open FROM silver.shop.things \
               ORDER BY id, _valid_from";
    platform.query(sql)
}

fn version(id: u64, name: &str, open: bool) -> Value {
    json!({"id": id, "name": name, "open": open})
}

/// How many changes a run brings.
#[track_caller]
fn polled(platform: &TestPlatform) -> Value {
    platform.rows(&["ingest", "shop"])[0]["polled"].clone()
}

/// An event of Debezium's.
fn event(op: &str, before: &Value, after: &Value) -> Value {
    let snapshot = if op == "r" { "true" } else { "false" };
    let source = json!({
        "version": "2.7.0", "connector": "postgresql", "name": "shop", "ts_ms": BEGAN,
        "snapshot": snapshot, "sequence": "[null,\"24023128\"]", "lsn": 24_023_128
    });
    json!({"before": before, "after": after, "source": source, "op": op, "ts_ms": BEGAN + 500})
}

fn wrapped(payload: &Value) -> Value {
    json!({"schema": {"type": "struct", "fields": [], "optional": false}, "payload": payload})
}

/// Puts what Debezium says of a row, some seconds after the first message. As Debezium has it, all
/// of a key go into one partition.
fn say(kafka: &KafkaMock, second: i64, id: Option<i32>, value: Option<&Value>) {
    let key = id.map(|id| json!({"id": id}).to_string());
    let value = value.map(Value::to_string);
    kafka.put(Put {
        topic: "shop.things",
        partition: id.unwrap_or(0) % 3,
        time_ms: BEGAN + second * 1000,
        key: key.as_deref(),
        value: value.as_deref(),
        ..Put::default()
    });
}

/// All kinds of Debezium's events, over three partitions.
fn say_all(kafka: &KafkaMock) {
    let row = |id: i32, name: &str| json!({"id": id, "name": name});
    let none = Value::Null;
    say(kafka, 0, Some(1), Some(&event("c", &none, &row(1, "a"))));
    say(kafka, 1, Some(1), Some(&wrapped(&event("u", &row(1, "a"), &row(1, "b")))));
    say(kafka, 2, Some(1), Some(&event("d", &row(1, "b"), &none)));
    say(kafka, 2, Some(1), None);
    say(kafka, 0, Some(2), Some(&event("r", &none, &row(2, "x"))));
    say(kafka, 3, Some(2), Some(&event("u", &none, &row(2, "y"))));
    say(kafka, 4, None, Some(&event("t", &none, &none)));
    say(kafka, 5, Some(3), Some(&event("c", &none, &row(3, "z"))));
    say(kafka, 6, Some(1), Some(&event("c", &none, &row(1, "again"))));
}

#[test]
fn debeziums_events_of_many_partitions_become_the_versions_of_their_rows() {
    for page in [10_000, 1] {
        let kafka = KafkaMock::with_topics([] as [&str; 0]);
        kafka.with(|cluster| cluster.create_topic("shop.things", 3, 1)).unwrap();
        say_all(&kafka);
        let source = json!({"topic": "shop.things", "page_messages": page});
        let platform = on_kafka(SETTINGS, &kafka, &source);
        assert_eq!(polled(&platform), 8, "all but the tombstone");
        let mut expected = vec![
            version(1, "a", false),
            version(1, "b", false),
            version(1, "again", true),
            version(2, "x", false),
            version(2, "y", false),
            version(3, "z", true),
        ];
        assert_eq!(versions(&platform), expected, "{page} a page");
        assert_eq!(polled(&platform), 0, "it is read on from where it was");
        let later = event("u", &Value::Null, &json!({"id": 3, "name": "last"}));
        say(&kafka, 7, Some(3), Some(&later));
        assert_eq!(polled(&platform), 1);
        expected.pop();
        expected.extend([version(3, "z", false), version(3, "last", true)]);
        assert_eq!(versions(&platform), expected, "{page} a page");
        assert_proved(&platform);
    }
}

#[test]
fn a_message_that_the_bus_does_not_take_is_told_and_the_others_go_on() {
    let kafka = KafkaMock::with_topics(["shop.things"]);
    let names = ["a".to_owned(), "x".repeat(400_000), "c".to_owned()];
    for (id, name) in (1..).zip(&names) {
        let value = json!({"id": id, "name": name}).to_string();
        let value = Some(value.as_str());
        kafka.put(Put { topic: "shop.things", time_ms: BEGAN + id, value, ..Put::default() });
    }
    let settings = format!("{SETTINGS}\n[bus.embedded]\nmax_message_bytes = \"300KB\"\n");
    let platform = on_kafka(&settings, &kafka, &json!({"topic": "shop.things"}));
    assert_eq!(polled(&platform), 3);
    assert_eq!(versions(&platform), [version(1, "a", true), version(3, "c", true)]);
    let listed = platform.rows(&["quarantine", "list"]);
    let of_silver: Vec<_> = listed.iter().filter(|row| row["layer"] == "silver").collect();
    assert_eq!(of_silver.len(), 1, "{listed:#?}");
    let shown = &platform.rows(&["quarantine", "show", &of_silver[0]["id"].to_string()])[0];
    let record = shown["record"].as_str().unwrap();
    assert!(record.contains("left out: larger than the bus takes"), "{record}");
    assert!(record.contains(r#""partition":0,"offset":1"#), "{record}");
    assert_proved(&platform);
}

#[test]
fn a_delete_that_the_bus_does_not_take_with_its_row_deletes_all_the_same() {
    let kafka = KafkaMock::with_topics(["shop.things"]);
    let none = Value::Null;
    say(&kafka, 0, Some(3), Some(&event("c", &none, &json!({"id": 3, "name": "a"}))));
    let before = json!({"id": 3, "name": "x".repeat(400_000)});
    say(&kafka, 1, Some(3), Some(&event("d", &before, &none)));
    say(&kafka, 1, Some(3), None);
    let settings = format!("{SETTINGS}\n[bus.embedded]\nmax_message_bytes = \"300KB\"\n");
    let platform = on_kafka(&settings, &kafka, &json!({"topic": "shop.things"}));
    assert_eq!(polled(&platform), 2, "all but the tombstone");
    assert_eq!(versions(&platform), [version(3, "a", false)]);
    assert_proved(&platform);
}

/// A client of NATS that asks one thing at a time.
struct Nats(BufReader<TcpStream>);

impl Nats {
    fn to(server: &NatsServer) -> Self {
        let url = server.url();
        let line = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Self(BufReader::new(line));
        client.say("CONNECT {\"verbose\":false}\r\nSUB answers 1\r\n");
        client
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Sends a message, and gives the answer, which must be a good one.
    fn ask(&mut self, subject: &str, body: &Value) -> Value {
        let body = body.to_string();
        self.say(&format!("PUB {subject} answers {}\r\n{body}\r\n", body.len()));
        let mut line = String::new();
        while !line.starts_with("MSG") {
            if line.starts_with("PING") {
                self.say("PONG\r\n");
            }
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the server hung up");
            assert!(!line.starts_with("-ERR"), "{line}");
        }
        let size: usize = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let mut answer = vec![0; size + 2];
        self.0.read_exact(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }
}

#[test]
fn rows_of_a_stream_that_is_read_anew_are_known_again() {
    let Some(server) = NatsServer::start() else { return };
    let mut nats = Nats::to(&server);
    let stream = json!({"name": "HOME", "subjects": ["home.>"], "storage": "file"});
    nats.ask("$JS.API.STREAM.CREATE.HOME", &stream);
    for (id, name) in [(1, "a"), (2, "b"), (1, "c")] {
        nats.ask("home.things", &json!({"id": id, "name": name}));
    }
    let connection = json!({"engine": "nats", "servers": [server.url()]});
    let platform = project(SETTINGS, &connection, &json!({"stream": "HOME"}));
    assert_eq!(polled(&platform), 3);
    let expected = [version(1, "a", false), version(1, "c", true), version(2, "b", true)];
    assert_eq!(versions(&platform), expected);
    // A cursor is of a stream and its subjects: of others there is none yet.
    let anew = entities(&json!({"stream": "HOME", "subject": "home.>"}));
    platform.write("entities.json", &anew.to_string());
    assert_eq!(polled(&platform), 3, "all of them once more");
    assert_eq!(versions(&platform), expected);
    let sql = "SELECT duplicate FROM ledger.layer_total WHERE layer = 'silver'";
    assert_eq!(platform.number(sql), 3);
    assert_proved(&platform);
}

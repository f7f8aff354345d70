//! Streams of NATS: their own order, a part of their subjects, a server that comes and goes.

use alluvium_connector::contract::{drain, order_of};
use alluvium_model::SourceError;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use serde_json::json;

use crate::world::{Nats, all_told, entity, open, origin, run};

#[tokio::test]
async fn plain_json_of_one_subject_is_read_in_the_order_of_the_stream() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("SHOP").await;
    for at in 0..30 {
        let subject = if at % 3 == 0 { "shop.other" } else { "shop.things" };
        nats.say(subject, &json!({"id": 1, "value": at.to_string()}).to_string()).await;
    }
    let source = json!({"stream": "SHOP", "subject": "shop.things", "page_messages": 7});
    let (mut source, entity) = open(&nats.connection(), &entity(source)).await.unwrap();
    let run = drain(&mut *source, &entity, None).await.unwrap();
    let changes = run.changes();
    assert_eq!(changes.len(), 20);
    assert!(changes.iter().all(|change| origin(change, "subject") == "shop.things"));
    let orders: Vec<_> = changes.iter().map(|change| order_of(&entity, change)).collect();
    assert!(orders.is_sorted_by(|a, b| a < b));
    let cursor = &run.cursor.as_ref().unwrap().0;
    assert_eq!(cursor["partitions"]["0"]["next"], 31, "past what is of other subjects");
    let again = drain(&mut *source, &entity, run.cursor.clone()).await.unwrap();
    assert!(again.changes().is_empty());
}

#[tokio::test]
async fn a_page_of_large_messages_ends_with_its_bytes() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("LARGE").await;
    for at in 0..20 {
        let value = format!("{at}{}", "x".repeat(200_000));
        nats.say("large.x", &json!({"id": at, "value": value}).to_string()).await;
    }
    let declared = entity(json!({"stream": "LARGE", "page_bytes": 1 << 20}));
    let (mut source, declared) = open(&nats.connection(), &declared).await.unwrap();
    let run = drain(&mut *source, &declared, None).await.unwrap();
    assert_eq!(run.changes().len(), 20);
    let orders: Vec<_> = run.changes().iter().map(|c| order_of(&declared, c)).collect();
    assert!(orders.is_sorted_by(|a, b| a < b));
    // What is asked for last may be a message of a MiB.
    let most = run.pages.iter().map(|(_, records)| records.len()).max();
    assert!(most <= Some(11), "{most:?} messages in a page");
}

#[tokio::test]
async fn a_message_that_came_when_the_server_took_larger_ones_is_read_all_the_same() {
    let Some(mut nats) = Nats::with("max_payload: 4MB").await else { return };
    nats.stream("ONCE").await;
    for (at, bytes) in [(0, 9), (1, 9), (2, 3 << 20), (3, 9), (4, 3 << 20)] {
        let value = "x".repeat(bytes);
        nats.say("once.x", &json!({"id": at, "value": value}).to_string()).await;
    }
    nats.server.server.terminate();
    let file = nats.server.server.folder().join("nats.conf");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("max_payload: 4MB", "max_payload: 1MB")).unwrap();
    nats.server.server.resume();
    for page_bytes in [1 << 10, 64 << 10, 8 << 20] {
        let declared = entity(json!({"stream": "ONCE", "page_bytes": page_bytes}));
        let run = run(&nats.connection(), &declared, None).await.unwrap();
        let offsets: Vec<_> = run.changes().iter().map(|c| origin(c, "offset")).collect();
        assert_eq!(offsets, [1, 2, 3, 4, 5], "pages of {page_bytes} bytes");
    }
}

#[tokio::test]
async fn a_run_that_waits_brings_what_comes_meanwhile() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("SLOW").await;
    let declared = entity(json!({"stream": "SLOW", "wait_seconds": 10}));
    let (mut source, declared) = open(&nats.connection(), &declared).await.unwrap();
    let says = nats.say("slow.x", r#"{"id":1,"value":"a"}"#);
    let (page, ()) = tokio::join!(source.poll(&declared, None), says);
    assert_eq!(page.unwrap().records.len(), 1);
}

#[tokio::test]
async fn a_server_that_went_down_and_came_back_is_read_on() {
    let Some(mut nats) = Nats::start(None).await else { return };
    nats.stream("SHOP").await;
    nats.say("shop.x", r#"{"id":1,"value":"a"}"#).await;
    let declared = entity(json!({"stream": "SHOP"}));
    let mut connection = nats.connection();
    // Long for a server that is there. The poll of the one that is down waits for all of it.
    connection["timeout_seconds"] = json!(10);
    let (mut source, declared) = open(&connection, &declared).await.unwrap();
    let first = drain(&mut *source, &declared, None).await.unwrap();
    nats.server.server.terminate();
    let down = source.poll(&declared, first.cursor.as_ref()).await.unwrap_err();
    assert!(matches!(down, SourceError::Unavailable(_)), "{down}");
    nats.server.server.resume();
    let client = async_nats::connect(nats.server.url()).await.unwrap();
    nats.jetstream = async_nats::jetstream::new(client);
    nats.say("shop.x", r#"{"id":1,"value":"b"}"#).await;
    let second = run(&nats.connection(), &declared, first.cursor).await.unwrap();
    assert_eq!(all_told(&second), [r#"u {"id":1,"value":"b"}"#]);
}

#[tokio::test]
async fn what_could_not_be_read_again_is_refused() {
    let Some(nats) = Nats::start(None).await else { return };
    let config = Config {
        name: "QUEUE".to_owned(),
        subjects: vec!["queue.>".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    };
    nats.jetstream.create_stream(config).await.unwrap();
    for (source, word) in [
        (json!({"stream": "QUEUE"}), "retention `limits`"),
        (json!({"stream": "MISSING"}), "no stream `MISSING`"),
        (json!({"subject": "core.only"}), "a stream NATS keeps nothing"),
    ] {
        let error = run(&nats.connection(), &entity(source), None).await.err().unwrap();
        assert!(matches!(error, SourceError::Misconfigured(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn core_nats_without_jetstream_is_refused() {
    let config = "accounts { CORE { users: [ { user: core, password: core } ] } }";
    let Some(server) = alluvium_testkit::NatsServer::with(config) else { return };
    let connection = json!({
        "engine": "nats", "servers": [server.url()],
        "options": {"user": "core", "password": "core"},
    });
    let error = run(&connection, &entity(json!({"stream": "SHOP"})), None).await.err().unwrap();
    assert!(matches!(error, SourceError::Misconfigured(_)), "{error}");
    assert!(error.to_string().contains("what core NATS sends is kept nowhere"), "{error}");
}

#[tokio::test]
async fn a_wrong_log_in_is_refused_and_a_wrong_option_named() {
    let Some(nats) = Nats::start(Some("right")).await else { return };
    let mut connection = nats.connection();
    connection["options"]["token"] = json!("wrong");
    let declared = entity(json!({"stream": "SHOP"}));
    let error = run(&connection, &declared, None).await.err().unwrap();
    assert!(matches!(error, SourceError::Refused(_)), "{error}");
    connection["options"] = json!({"tokn": "right"});
    let error = run(&connection, &declared, None).await.err().unwrap();
    assert!(error.to_string().contains("`tokn`"), "{error}");
}

//! Messages that were removed before they were read, and logs that are not the same any more.

use alluvium_model::{Cursor, SourceError};
use serde_json::json;

use crate::world::{Kafka, Nats, Sent, all_told, entity, run};

/// The mock cluster keeps 5 MiB of a partition.
async fn overflow(kafka: &Kafka, topic: &str) {
    let row = format!(r#"{{"id":1,"value":"{}"}}"#, "x".repeat(900_000));
    for _ in 0..8 {
        kafka.send(topic, Sent { value: Some(row.as_bytes()), ..Sent::default() }).await;
    }
}

#[tokio::test]
async fn what_kafkas_retention_removed_unread_stops_the_entity_until_somebody_decides() {
    let kafka = Kafka::start();
    kafka.topic("short", 1);
    kafka.say("short", "1", r#"{"id":1,"value":"a"}"#).await;
    let stop = entity(json!({"topic": "short"}));
    let first = run(&kafka.connection(), &stop, None).await.unwrap();
    assert_eq!(all_told(&first).len(), 1);
    overflow(&kafka, "short").await;
    let cursor = first.cursor;
    let error = run(&kafka.connection(), &stop, cursor.clone()).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, SourceError::Misconfigured(_)), "{text}");
    for word in ["partition 0 of topic `short`", "up to 1:", "removed up to", "`on_loss`"] {
        assert!(text.contains(word), "{text}");
    }
    let on = entity(json!({"topic": "short", "on_loss": "continue"}));
    let rest = run(&kafka.connection(), &on, cursor).await.unwrap();
    let lost = rest.cursor.as_ref().unwrap().0["passed"]["lost"].as_u64().unwrap();
    assert!(lost > 0);
    assert_eq!(rest.changes().len() as u64 + lost, 8, "what was lost is counted");
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let kafka = Kafka::start();
    kafka.topic("anew", 1);
    kafka.say("anew", "1", r#"{"id":1,"value":"a"}"#).await;
    let cursor = Cursor(json!({"of": "anew", "partitions": {"0": {"next": 100}}}));
    let stop = entity(json!({"topic": "anew"}));
    let error = run(&kafka.connection(), &stop, Some(cursor.clone())).await.err().unwrap();
    assert!(error.to_string().contains("ends at 1, but was read up to 100"), "{error}");
    let on = entity(json!({"topic": "anew", "on_loss": "continue"}));
    let rest = run(&kafka.connection(), &on, Some(cursor)).await.unwrap();
    assert_eq!(rest.changes().len(), 1);
}

#[tokio::test]
async fn what_a_stream_dropped_unread_stops_the_entity_until_somebody_decides() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("SHORT").await;
    for id in 1..=3 {
        nats.say("short.x", &json!({"id": id, "value": "a"}).to_string()).await;
    }
    let stop = entity(json!({"stream": "SHORT", "page_messages": 1}));
    let (mut source, stop) = crate::world::open(&nats.connection(), &stop).await.unwrap();
    let first = source.poll(&stop, None).await.unwrap();
    let stream = nats.jetstream.get_stream("SHORT").await.unwrap();
    stream.purge().sequence(3).await.unwrap();
    let cursor = first.next;
    let error = source.poll(&stop, cursor.as_ref()).await.unwrap_err().to_string();
    for word in ["stream `SHORT` begins at 3", "up to 2:", "up to 1 messages", "`on_loss`"] {
        assert!(error.contains(word), "{error}");
    }
    let on = entity(json!({"stream": "SHORT", "on_loss": "continue"}));
    let rest = run(&nats.connection(), &on, cursor).await.unwrap();
    assert_eq!(all_told(&rest), [r#"u {"id":3,"value":"a"}"#]);
    assert_eq!(rest.cursor.unwrap().0["passed"]["lost"], 1);
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_not_taken_for_the_old_one() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("ANEW").await;
    nats.say("anew.x", r#"{"id":1,"value":"a"}"#).await;
    let stop = entity(json!({"stream": "ANEW"}));
    let first = run(&nats.connection(), &stop, None).await.unwrap();
    nats.jetstream.delete_stream("ANEW").await.unwrap();
    nats.stream("ANEW").await;
    nats.say("anew.x", r#"{"id":1,"value":"b"}"#).await;
    let error = run(&nats.connection(), &stop, first.cursor.clone()).await.err().unwrap();
    assert!(error.to_string().contains("made anew"), "{error}");
    let on = entity(json!({"stream": "ANEW", "on_loss": "continue"}));
    let rest = run(&nats.connection(), &on, first.cursor).await.unwrap();
    assert_eq!(all_told(&rest), [r#"u {"id":1,"value":"b"}"#]);
}

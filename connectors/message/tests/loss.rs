//! Messages that were removed before they were read, and logs that are not the same any more.

use alluvium_model::{Cursor, EntitySpec, Page, Record, SourceError};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::world::{Kafka, Nats, Sent, all_told, entity, open, run};

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
async fn a_topic_that_was_made_anew_and_is_longer_is_not_taken_for_the_old_one_either() {
    let (old, new) = (Kafka::start(), Kafka::start());
    for (kafka, count) in [(&old, 3), (&new, 5)] {
        kafka.topic("anew", 2);
        for at in 0..count {
            let row = json!({"id": at, "value": count.to_string()}).to_string();
            kafka.say("anew", &at.to_string(), &row).await;
        }
    }
    let stop = entity(json!({"topic": "anew", "page_messages": 2}));
    let first = run(&old.connection(), &stop, None).await.unwrap();
    let again = run(&old.connection(), &stop, first.cursor.clone()).await.unwrap();
    assert!(again.changes().is_empty(), "it is still the same");
    let error = run(&new.connection(), &stop, first.cursor.clone()).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, SourceError::Misconfigured(_)), "{text}");
    for word in ["partition 0 of topic `anew`", "not the one", "before 3", "`on_loss`"] {
        assert!(text.contains(word), "{text}");
    }
    let on = entity(json!({"topic": "anew", "on_loss": "continue", "page_messages": 2}));
    let rest = run(&new.connection(), &on, first.cursor.clone()).await.unwrap();
    assert_eq!(rest.changes().len(), 5, "from its beginning");
    let again = run(&new.connection(), &stop, rest.cursor).await.unwrap();
    assert!(again.changes().is_empty(), "now it is the one that was read");
    // As older releases wrote it: what is not known is not compared.
    let mut older = first.cursor.unwrap();
    older.0["partitions"]["0"].as_object_mut().unwrap().remove("last").unwrap();
    let rest = run(&new.connection(), &stop, Some(older)).await.unwrap();
    assert_eq!(rest.changes().len(), 2);
}

#[tokio::test]
async fn a_topic_of_the_same_length_is_told_from_the_old_one_though_nothing_new_is_there() {
    let (old, new) = (Kafka::start(), Kafka::start());
    let declared = entity(json!({"topic": "same"}));
    for (kafka, value) in [(&old, "a"), (&new, "b")] {
        kafka.topic("same", 1);
        kafka.say("same", "1", &json!({"id": 1, "value": value}).to_string()).await;
    }
    let first = run(&old.connection(), &declared, None).await.unwrap();
    let error = run(&new.connection(), &declared, first.cursor).await.err().unwrap();
    assert!(error.to_string().contains("not the one"), "{error}");
}

#[tokio::test]
async fn a_partition_that_is_not_there_any_more_stops_the_entity_until_somebody_decides() {
    let (old, new) = (Kafka::start(), Kafka::start());
    for (kafka, partitions) in [(&old, 3), (&new, 2)] {
        kafka.topic("fewer", partitions);
        for partition in 0..partitions {
            let row = json!({"id": partition, "value": "a"}).to_string();
            let (value, time_ms) = (Some(row.as_bytes()), Some(5_000));
            let sent = Sent { partition, value, time_ms, ..Sent::default() };
            kafka.send("fewer", sent).await;
        }
    }
    let stop = entity(json!({"topic": "fewer"}));
    let first = run(&old.connection(), &stop, None).await.unwrap();
    assert_eq!(first.changes().len(), 3);
    let error = run(&new.connection(), &stop, first.cursor.clone()).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, SourceError::Misconfigured(_)), "{text}");
    for word in ["partition 2 of topic `fewer`", "up to 1,", "not there any more", "`on_loss`"] {
        assert!(text.contains(word), "{text}");
    }
    let on = entity(json!({"topic": "fewer", "on_loss": "continue"}));
    let rest = run(&new.connection(), &on, first.cursor).await.unwrap();
    assert!(rest.changes().is_empty(), "the others are the same");
    assert_eq!(rest.cursor.unwrap().0["partitions"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_stream_dropped_unread_stops_the_entity_until_somebody_decides() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("SHORT").await;
    for id in 1..=3 {
        nats.say("short.x", &json!({"id": id, "value": "a"}).to_string()).await;
    }
    let stop = entity(json!({"stream": "SHORT", "page_messages": 1}));
    let (mut source, stop) = open(&nats.connection(), &stop).await.unwrap();
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

/// A stream of 300 messages of which the first was read, and the next page of it: before its request
/// for messages after so many others passes, all before 290 are removed.
async fn overtaken(
    nats: &Nats,
    after: usize,
    settings: Value,
) -> (Result<Page, SourceError>, EntitySpec) {
    nats.stream("FAST").await;
    for id in 1..=300 {
        nats.say("fast.x", &json!({"id": id, "value": "a"}).to_string()).await;
    }
    let gate = Gate::to(&nats.server.url(), "CONSUMER.MSG.NEXT").await;
    let mut connection = nats.connection();
    connection["servers"] = json!([gate.url]);
    let first = entity(json!({"stream": "FAST", "page_messages": 1}));
    let (mut source, first) = open(&connection, &first).await.unwrap();
    let cursor = source.poll(&first, None).await.unwrap().next;
    let next = entity(settings);
    gate.hold_after(after);
    let purge = async {
        gate.held().await;
        let stream = nats.jetstream.get_stream("FAST").await.unwrap();
        stream.purge().sequence(290).await.unwrap();
        gate.release();
    };
    let (page, ()) = tokio::join!(source.poll(&next, cursor.as_ref()), purge);
    (page, next)
}

fn count(page: &Page) -> usize {
    page.records.iter().filter(|record| matches!(record, Record::Change(_))).count()
}

#[tokio::test]
async fn what_a_stream_dropped_while_a_page_began_is_an_error_at_once() {
    let Some(nats) = Nats::start(None).await else { return };
    let settings = json!({"stream": "FAST", "page_messages": 5});
    let error = overtaken(&nats, 0, settings).await.0.unwrap_err().to_string();
    for word in ["stream `FAST` begins at 290", "up to 2:", "up to 288 messages", "`on_loss`"] {
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn what_a_stream_dropped_within_a_page_is_told_by_the_page_after_it() {
    let Some(nats) = Nats::start(None).await else { return };
    let settings = json!({"stream": "FAST", "page_messages": 260});
    let (page, declared) = overtaken(&nats, 1, settings).await;
    let page = page.unwrap();
    assert_eq!((count(&page), page.more), (256, true), "what came before it is kept");
    let error = run(&nats.connection(), &declared, page.next).await.err().unwrap().to_string();
    assert!(error.contains("begins at 290, but was read only up to 258"), "{error}");
}

#[tokio::test]
async fn what_a_stream_dropped_within_a_page_is_counted_where_it_is_gone_on_without() {
    let Some(nats) = Nats::start(None).await else { return };
    let settings = json!({"stream": "FAST", "page_messages": 260, "on_loss": "continue"});
    let page = overtaken(&nats, 1, settings).await.0.unwrap();
    assert_eq!(count(&page), 260);
    assert_eq!(page.next.unwrap().0["passed"]["lost"], 32);
}

#[tokio::test]
async fn what_stands_on_other_subjects_or_was_deleted_is_no_loss() {
    let Some(nats) = Nats::start(None).await else { return };
    nats.stream("HOLES").await;
    for subject in ["a", "b", "a", "a", "b", "a", "b"] {
        nats.say(&format!("holes.{subject}"), r#"{"id":1,"value":"a"}"#).await;
    }
    let stream = nats.jetstream.get_stream("HOLES").await.unwrap();
    stream.delete_message(4).await.unwrap();
    let source = json!({"stream": "HOLES", "subject": "holes.a", "page_messages": 1});
    let run = run(&nats.connection(), &entity(source), None).await.unwrap();
    assert_eq!(run.changes().len(), 3);
    assert_eq!(run.cursor.unwrap().0["partitions"]["0"]["next"], 8);
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

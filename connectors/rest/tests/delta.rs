//! Delta loads: marks, overlap, and what orders the rows.

use std::sync::{Arc, Mutex};

use alluvium_connector::server::{Reply, Server};
use alluvium_model::SequenceType;
use alluvium_model::metadata::SequenceBy;
use serde_json::{Value, json};

use crate::world::{Api, entity, ids};

type Feed = Arc<Mutex<Vec<Value>>>;

/// A feed that always gives everything it has.
async fn feed() -> (Feed, Server) {
    let feed: Feed = Arc::default();
    let shared = feed.clone();
    let server = Server::start(move |_| {
        Reply::json(Value::from(shared.lock().unwrap().clone()).to_string())
    });
    (feed, server.await)
}

fn row(id: i64, updated: &str) -> Value {
    json!({"id": id, "updated": updated})
}

fn incremental(overlap: u64) -> Value {
    json!({"path": "feed", "incremental": {"column": "updated", "overlap_seconds": overlap}})
}

#[tokio::test]
async fn a_feed_that_gives_everything_is_cut_at_the_mark_inclusively() {
    let (feed, server) = feed().await;
    let mut api = Api::new(server, entity("delta", incremental(0))).await;
    assert_eq!(api.entity.sequence_by, [SequenceBy::Column("updated".into())]);
    *feed.lock().unwrap() = vec![row(1, "2026-11-21T07:00:00Z"), row(2, "2026-11-21T07:10:00Z")];
    let first = api.run(None).await.unwrap();
    assert_eq!(ids(&first), [1, 2]);
    assert_eq!(first.changes()[0].changed_at_ms, Some(1_795_244_400_000));

    feed.lock().unwrap().push(row(3, "2026-11-21T08:10:00+01:00"));
    let second = api.run(first.cursor).await.unwrap();
    assert_eq!(ids(&second), [2, 3], "a row with an equal time that came later is not lost");
}

#[tokio::test]
async fn a_row_that_the_source_shows_late_is_read_within_the_overlap() {
    let (feed, server) = feed().await;
    let mut api = Api::new(server, entity("delta", incremental(600))).await;
    *feed.lock().unwrap() = vec![row(1, "2026-11-21T07:00:00Z"), row(2, "2026-11-21T07:10:00Z")];
    let first = api.run(None).await.unwrap();
    *feed.lock().unwrap() = vec![
        row(2, "2026-11-21T07:10:00Z"),
        row(3, "2026-11-21T07:00:00Z"),
        row(4, "2026-11-21T06:59:59Z"),
    ];
    let second = api.run(first.cursor).await.unwrap();
    assert_eq!(ids(&second), [2, 3], "4 is older than the overlap reaches");
}

#[tokio::test]
async fn a_time_in_the_future_does_not_stop_the_reading() {
    let (feed, server) = feed().await;
    let mut api = Api::new(server, entity("delta", incremental(0))).await;
    *feed.lock().unwrap() = vec![row(1, "2126-01-01T00:00:00Z")];
    let first = api.run(None).await.unwrap();
    feed.lock().unwrap().push(row(2, "2026-11-21T08:30:00Z"));
    assert_eq!(ids(&api.run(first.cursor).await.unwrap()), [1, 2]);
}

#[tokio::test]
async fn a_row_without_a_cursor_value_is_always_read() {
    let (feed, server) = feed().await;
    let mut api = Api::new(server, entity("delta", incremental(0))).await;
    *feed.lock().unwrap() = vec![row(1, "2026-11-21T07:00:00Z"), json!({"id": 2, "updated": null})];
    let first = api.run(None).await.unwrap();
    feed.lock().unwrap()[0] = row(1, "2026-11-21T06:00:00Z");
    assert_eq!(ids(&api.run(first.cursor).await.unwrap()), [2]);
}

#[tokio::test]
async fn the_parameter_carries_the_mark_less_the_overlap_in_its_format() {
    let (feed, server) = feed().await;
    *feed.lock().unwrap() = vec![json!({"id": 1, "updated": 1_763_708_400_000_i64})];
    let mut source = incremental(60);
    source["incremental"]["param"] = json!("updatedafter");
    source["incremental"]["initial"] = json!("2018-01-01");
    let mut api = Api::new(server, entity("delta", source)).await;
    let first = api.run(None).await.unwrap();
    api.run(first.cursor).await.unwrap();
    let asked = api.server.asked();
    assert_eq!(asked[0].param("updatedafter"), Some("2018-01-01T00:00:00Z"));
    assert_eq!(asked[1].param("updatedafter"), Some("2025-11-21T06:59:00Z"));
}

#[tokio::test]
async fn without_mark_and_sequence_the_time_of_the_poll_orders_the_rows() {
    let (feed, server) = feed().await;
    let mut api = Api::new(server, entity("delta", json!({"path": "feed"}))).await;
    assert_eq!(api.entity.sequence_by, [SequenceBy::carried(SequenceType::Timestamp)]);
    *feed.lock().unwrap() = vec![row(1, "x")];
    let first = api.run(None).await.unwrap();
    let second = api.run(first.cursor.clone()).await.unwrap();
    let (a, b) = (&first.changes()[0].sequence, &second.changes()[0].sequence);
    assert_eq!(a, &[Value::from("2026-11-21T08:00:01Z")]);
    assert_eq!(b, &[Value::from("2026-11-21T08:00:02Z")]);
    assert!(second.changes()[0].snapshot.is_none());
}

#[tokio::test]
async fn a_cursor_of_another_column_means_nothing() {
    let (feed, server) = feed().await;
    let mut api = Api::new(server, entity("delta", incremental(0))).await;
    *feed.lock().unwrap() = vec![row(1, "2026-11-21T07:00:00Z"), row(2, "2026-11-21T07:10:00Z")];
    let first = api.run(None).await.unwrap();
    api.entity.source["incremental"]["column"] = json!("value");
    assert_eq!(ids(&api.run(first.cursor).await.unwrap()), [1, 2], "everything again");
}

//! Full loads: snapshots with an end, and conditional requests.

use alluvium_connector::server::{Reply, Server};
use alluvium_model::metadata::SequenceBy;
use alluvium_model::{Control, Op, Record, SequenceType, SourceError};
use serde_json::{Value, json};

use crate::world::{Api, entity, ids};

#[tokio::test]
async fn a_full_load_is_a_snapshot_with_an_end_that_counts_its_rows() {
    let server = Server::scripted([
        Reply::json(r#"[{"id": 1}, {"id": 2}]"#).header("link", "<?p=2>; rel=\"next\""),
        Reply::json(r#"[{"id": 3}]"#),
    ])
    .await;
    let source = json!({"path": "things", "pagination": {"type": "link_header"}});
    let mut api = Api::new(server, entity("full", source)).await;
    let carried = SequenceBy::carried(SequenceType::Timestamp);
    assert_eq!(api.entity.sequence_by, [carried]);

    let run = api.run(None).await.unwrap();
    assert_eq!(ids(&run), [1, 2, 3]);
    let start = Value::from("2026-11-21T08:00:01Z");
    for change in run.changes() {
        assert_eq!(change.op, Op::Read);
        assert_eq!(change.sequence, std::slice::from_ref(&start));
        assert_eq!(change.snapshot.as_deref(), start.as_str());
    }
    let Some(Record::Control(end)) = run.pages.last().unwrap().1.last() else { panic!("no end") };
    let snapshot = start.as_str().unwrap().to_owned();
    assert_eq!(*end, Control::SnapshotEnd { snapshot, sequence: vec![start], rows: 3 });
    let asked = api.server.asked();
    assert_eq!((asked.len(), asked[1].param("p")), (2, Some("2")));
}

#[tokio::test]
async fn an_answer_that_did_not_change_is_asked_for_but_once() {
    let server = Server::start(|asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Reply::status(304),
        _ => Reply::json(r#"{"id": 1}"#).header("etag", "\"v1\""),
    })
    .await;
    let mut api = Api::new(server, entity("full", json!({"path": "things"}))).await;
    let first = api.run(None).await.unwrap();
    assert_eq!(ids(&first), [1], "an object is a record");
    let second = api.run(first.cursor.clone()).await.unwrap();
    assert!(second.text().is_empty(), "no snapshot: {:?}", second.text());
    assert_eq!(second.cursor, first.cursor);
}

#[tokio::test]
async fn rows_keep_their_bytes_but_for_white_space() {
    let server = Server::scripted([Reply::json(
        "{\"data\": [\n {\"id\": 1, \"big\": 12345678901234567890.10, \"t\": \"a b\"}\n]}",
    )])
    .await;
    let source = json!({"path": "things", "records": "$.data[*]"});
    let mut api = Api::new(server, entity("full", source)).await;
    let run = api.run(None).await.unwrap();
    let row = run.changes()[0].after.as_ref().unwrap().get();
    assert_eq!(row, r#"{"id":1,"big":12345678901234567890.10,"t":"a b"}"#);
}

#[tokio::test]
async fn a_message_with_status_200_is_not_taken_for_an_empty_snapshot() {
    let server = Server::scripted([Reply::json(r#"{"error": "try later"}"#)]).await;
    let source = json!({"path": "things", "records": "$.data[*]"});
    let mut api = Api::new(server, entity("full", source)).await;
    let error = api.run(None).await.err().unwrap();
    assert!(matches!(&error, SourceError::BadAnswer(text) if text.contains("$.data")), "{error}");
}

#[tokio::test]
async fn a_full_load_refuses_an_order_of_its_own() {
    let mut declared = entity("full", json!({"path": "things"}));
    declared.sequence_by = vec![SequenceBy::Column("updated".into())];
    let server = Server::scripted([]).await;
    let context =
        alluvium_connector::ConnectContext::new(std::sync::Arc::new(alluvium_model::SystemClock));
    let system = crate::world::system(server.url(), json!({}));
    let mut source = crate::world::registry().connect(&system, context).await.unwrap();
    let error = source.discover(&[declared]).await.unwrap().all().unwrap_err().to_string();
    assert!(error.contains("api.things") && error.contains("sequence_by"), "{error}");
}

#[tokio::test]
async fn a_post_sends_its_body_and_its_credentials() {
    let server = Server::scripted([Reply::json("[]")]).await;
    let source = json!({
        "path": "search", "method": "POST", "body": {"q": "all"}, "params": {"limit": 5},
    });
    let connection = json!({"auth": {"type": "bearer", "token": "t0ken"}});
    let mut api = Api::with(server, entity("full", source), connection).await;
    api.run(None).await.unwrap();
    let asked = &api.server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.body.as_str()), ("POST", r#"{"q":"all"}"#));
    assert_eq!(asked.header("authorization"), Some("Bearer t0ken"));
    assert_eq!((asked.path.as_str(), asked.param("limit")), ("/search", Some("5")));
}

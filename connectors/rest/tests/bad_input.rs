//! Sources and metadata that are not as they should be, and the examples of the README.

use alluvium_connector::server::{Reply, Server};
use alluvium_model::{EntitySpec, SourceError, SystemSpec};
use serde_json::{Value, json};

use crate::world::{Api, entity, registry};

#[tokio::test]
async fn a_failure_in_the_middle_leaves_the_cursor_where_it_was() {
    use SourceError::{BadAnswer, Unavailable};
    let first = || Reply::json(r#"{"d": [{"id": 1}], "next": "2"}"#);
    let source = json!({"path": "x", "records": "$.d[*]",
        "pagination": {"type": "cursor", "param": "t", "path": "$.next"}});
    for (reply, bad_answer) in [
        (Reply::status(500), false),
        (Reply::hang(), false),
        (Reply::json(r#"{"d": [{"id": 2}], "next": null}"#).half(), false),
        (Reply::html("<html>"), true),
        (Reply::json("5"), true),
    ] {
        let server = Server::scripted([first(), reply]).await;
        let connection = json!({"timeout_seconds": 1});
        let mut api = Api::with(server, entity("full", source.clone()), connection).await;
        let entity = api.entity.clone();
        let cursor = api.source().poll(&entity, None).await.unwrap().next;
        let error = api.source().poll(&entity, cursor.as_ref()).await.unwrap_err();
        assert_eq!(matches!(error, BadAnswer(_)), bad_answer, "{error}");
        assert_eq!(matches!(error, Unavailable(_)), !bad_answer, "{error}");
    }
}

#[tokio::test]
async fn records_that_are_no_objects_are_handed_on_to_be_quarantined() {
    let server = Server::scripted([Reply::json(r#"[{"id": 1}, 5]"#)]).await;
    let mut api = Api::new(server, entity("full", json!({"path": "x"}))).await;
    let run = api.run(None).await.unwrap();
    assert_eq!(run.changes()[1].after.as_ref().unwrap().get(), "5");
}

#[tokio::test]
async fn metadata_that_do_not_fit_are_named() {
    let server = Server::scripted([]).await;
    let system = crate::world::system(server.url(), json!({}));
    let clock = std::sync::Arc::new(alluvium_model::SystemClock);
    let context = alluvium_connector::ConnectContext::new(clock);
    let mut source = registry().connect(&system, context).await.unwrap();
    let cursor = json!({"path": "x", "incremental": {"column": "nothing"}});
    let mut keyless = entity("full", json!({"path": "x"}));
    keyless.keys.clear();
    for (declared, word) in [
        (entity("delta", cursor), "nothing"),
        (entity("full", json!({"path": "x", "incremental": {"column": "id"}})), "delta"),
        (entity("full", json!({"path": "x", "records": "features"})), "JSONPath"),
        (entity("full", json!({"path": "x", "pagination": {"type": "pages"}})), "next_url"),
        (keyless, "keys"),
    ] {
        let error = source.discover(&[declared]).await.unwrap().all().unwrap_err();
        assert!(matches!(error, SourceError::Misconfigured(_)));
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_examples_are_valid() {
    let file = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut systems = file(include_str!("../examples/systems.json"));
    let mut entities = file(include_str!("../examples/entities.json"));
    let systems: Vec<SystemSpec> = serde_json::from_value(systems["systems"].take()).unwrap();
    let entities: Vec<EntitySpec> = serde_json::from_value(entities["entities"].take()).unwrap();
    for system in &systems {
        registry().check_connection(system).unwrap();
    }
    for entity in &entities {
        registry().check_source("rest", entity).unwrap();
        assert!(systems.iter().any(|system| system.name == entity.system));
    }
    let readme = include_str!("../README.md");
    for block in readme.split("```json").skip(1) {
        let text = block.split("```").next().unwrap();
        serde_json::from_str::<Value>(text).unwrap();
    }
}

//! Pagination: each kind to its end, and no circle without one.

use alluvium_connector::server::{Asked, Reply, Server};
use alluvium_model::SourceError;
use serde_json::{Value, json};

use crate::world::{Api, entity, ids};

/// Rows `first..last` as an array.
fn rows(first: u64, last: u64) -> Value {
    (first..last).map(|id| json!({"id": id})).collect()
}

/// Five rows by number; never more than two, whatever is asked for.
fn by_number(asked: &Asked) -> Reply {
    let page: u64 = asked.param("page").unwrap().parse().unwrap();
    Reply::json(rows((page * 2).min(5), (page * 2 + 2).min(5)).to_string())
}

#[tokio::test]
async fn numbered_pages_end_with_an_empty_one_even_if_the_source_gives_less_than_asked() {
    let source = json!({"path": "things", "pagination":
        {"type": "page", "param": "page", "size_param": "size", "size": 100, "start": 0}});
    let mut api = Api::new(Server::start(by_number).await, entity("full", source)).await;
    assert_eq!(ids(&api.run(None).await.unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(api.server.asked().len(), 4);
    assert_eq!(api.server.asked()[0].param("size"), Some("100"));
}

#[tokio::test]
async fn a_short_page_ends_the_run_where_the_metadata_say_so() {
    let source = json!({"path": "things", "pagination":
        {"type": "page", "param": "page", "size": 2, "start": 0, "short_page_ends": true}});
    let mut api = Api::new(Server::start(by_number).await, entity("full", source)).await;
    assert_eq!(ids(&api.run(None).await.unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(api.server.asked().len(), 3);
}

#[tokio::test]
async fn offsets_advance_by_what_came() {
    let server = Server::start(|asked| {
        let skip: u64 = asked.param("skip").unwrap().parse().unwrap();
        Reply::json(rows(skip, (skip + 2).min(5)).to_string())
    })
    .await;
    let source = json!({"path": "things", "pagination":
        {"type": "offset", "param": "skip", "size_param": "top", "size": 100}});
    let mut api = Api::new(server, entity("full", source)).await;
    assert_eq!(ids(&api.run(None).await.unwrap()), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn the_next_address_is_followed_as_it_is_given() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/things" => Reply::json(r#"{"d": [{"id": 1}], "next": "/v1/more?at=7"}"#),
        "/v1/more" => Reply::json(r#"{"d": [{"id": 2}], "next": null}"#),
        _ => Reply::status(404),
    })
    .await;
    let source = json!({"path": "v1/things", "records": "$.d[*]", "params": {"a": true},
        "pagination": {"type": "next_url", "path": "$.next"}});
    let mut api = Api::new(server, entity("full", source)).await;
    assert_eq!(ids(&api.run(None).await.unwrap()), [1, 2]);
    let asked = api.server.asked();
    assert_eq!((asked[0].param("a"), asked[1].param("a")), (Some("true"), None));
}

#[tokio::test]
async fn a_key_that_the_source_repeats_in_the_next_address_is_not_stored() {
    let server = Server::start(|asked| match asked.param("p") {
        None => Reply::json("[{\"id\": 1}]").header("link", "</x?key=canary&p=2>; rel=next"),
        Some(_) => Reply::json("[{\"id\": 2}]"),
    })
    .await;
    let source = json!({"path": "x", "pagination": {"type": "link_header"}});
    let auth = json!({"type": "api_key", "name": "key", "value": "canary", "in": "query"});
    let mut api = Api::with(server, entity("full", source), json!({"auth": auth})).await;
    let run = api.run(None).await.unwrap();
    assert_eq!(ids(&run), [1, 2]);
    assert!(run.pages.iter().all(|(cursor, _)| !format!("{cursor:?}").contains("canary")));
    assert!(api.server.asked().iter().all(|asked| asked.param("key") == Some("canary")));
}

#[tokio::test]
async fn a_next_address_at_another_host_is_not_followed() {
    let answer = r#"{"d": [], "next": "http://127.0.0.1:1/x"}"#;
    let source = json!({"path": "things", "records": "$.d[*]",
        "pagination": {"type": "next_url", "path": "$.next"}});
    let server = Server::scripted([Reply::json(answer)]).await;
    let mut api = Api::new(server, entity("full", source)).await;
    let error = api.run(None).await.err().unwrap();
    assert!(matches!(&error, SourceError::BadAnswer(text) if text.contains("host")), "{error}");
}

#[tokio::test]
async fn pages_that_lead_in_a_circle_are_an_error() {
    let token = json!({"type": "cursor", "param": "t", "path": "$.next"});
    let number = json!({"type": "page", "param": "p"});
    let answer = |next: &str| Reply::json(format!(r#"{{"d": [{{"id": 1}}], "next": {next}}}"#));
    for (pagination, replies) in [
        (&token, vec![answer("5")]),
        (&token, vec![answer("5"), answer("6"), answer("5")]),
        (&number, vec![answer("null")]),
    ] {
        let source = json!({"path": "x", "records": "$.d[*]", "pagination": pagination});
        let mut api = Api::new(Server::scripted(replies).await, entity("full", source)).await;
        let error = api.run(None).await.err().unwrap();
        assert!(matches!(error, SourceError::BadAnswer(_)), "{error}");
        assert!(api.server.asked().len() <= 4);
    }
}

#[tokio::test]
async fn a_run_has_no_more_pages_than_allowed() {
    let server = Server::start(|asked| {
        let page: u64 = asked.param("p").unwrap().parse().unwrap();
        Reply::json(rows(page, page + 1).to_string())
    })
    .await;
    let source = json!({"path": "x", "max_pages": 3, "pagination": {"type": "page", "param": "p"}});
    let mut api = Api::new(server, entity("full", source)).await;
    let error = api.run(None).await.err().unwrap();
    assert!(error.to_string().contains("max_pages"), "{error}");
    assert_eq!(api.server.asked().len(), 3);
}

#[tokio::test]
async fn a_token_that_expired_while_we_were_away_begins_the_run_anew() {
    let server = Server::start(|asked| match asked.param("t") {
        None => Reply::json(r#"{"d": [{"id": 1}], "next": "old"}"#),
        Some(_) => Reply::status(410),
    })
    .await;
    let source = json!({"path": "x", "records": "$.d[*]",
        "pagination": {"type": "cursor", "param": "t", "path": "$.next"}});
    let mut api = Api::new(server, entity("full", source)).await;
    let entity = api.entity.clone();
    let first = api.source().poll(&entity, None).await.unwrap();
    let cursor = first.next.unwrap();
    let refused = api.source().poll(&entity, Some(&cursor)).await.unwrap_err();
    assert!(matches!(refused, SourceError::Misconfigured(_)), "somebody hears of it: {refused}");
    let anew = api.source().poll(&entity, Some(&cursor)).await.unwrap();
    assert!(anew.records.is_empty() && anew.more);
    let again = api.source().poll(&entity, anew.next.as_ref()).await.unwrap();
    assert_eq!(again.records.len(), 1, "from the first page");
}

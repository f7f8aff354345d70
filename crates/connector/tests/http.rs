//! The HTTP helper against a server that answers as it is told.

use std::sync::Arc;
use std::time::Duration;

use alluvium_connector::ConnectContext;
use alluvium_connector::http::{
    ApiKeyPlace, Auth, HttpClient, HttpSettings, RateLimitSettings, Request,
};
use alluvium_connector::server::{Reply, Server};
use alluvium_model::{Secret, SourceError, SystemClock};
use url::Url;

const CANARY: &str = "canary-5150";

/// Whoever is to be answered has time for it, however slow the machine is.
fn settings() -> HttpSettings {
    HttpSettings {
        timeout: Duration::from_secs(10),
        max_body_bytes: 10_000,
        retries: 0,
        backoff: Duration::from_millis(1),
        ..HttpSettings::default()
    }
}

fn context() -> ConnectContext {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    ConnectContext::new(Arc::new(SystemClock))
}

fn query_key() -> Auth {
    let (name, value) = ("key".to_owned(), Secret::new(CANARY));
    Auth::ApiKey { name, value, place: ApiKeyPlace::Query }
}

fn client(base: &Url, auth: Auth, settings: HttpSettings) -> HttpClient {
    HttpClient::new(base, auth, [], settings, &context()).unwrap()
}

fn request(server: &Server) -> Request {
    Request::get("things", server.url().join("things?a=1").unwrap())
}

/// The error of one request to a server that gives `reply`.
async fn error_of(reply: Reply) -> SourceError {
    error_with(settings(), reply).await
}

async fn error_with(settings: HttpSettings, reply: Reply) -> SourceError {
    let server = Server::scripted([reply]).await;
    let client = client(server.url(), query_key(), settings);
    let error = match client.fetch(&request(&server)).await {
        Ok(answer) => answer.json().map(|json| json.get().len()).unwrap_err(),
        Err(error) => error,
    };
    let text = format!("{error} {error:?}");
    assert!(!text.contains(CANARY) && !text.contains("a=1"), "{text}");
    error
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_remedy() {
    use SourceError::{BadAnswer, Misconfigured, RateLimited, Refused, TooLarge, Unavailable};
    let json = || Reply::json(r#"{"secret row":"do not show"}"#);
    assert!(matches!(error_of(Reply::status(500)).await, Unavailable(_)));
    let hasty = HttpSettings { timeout: Duration::from_millis(500), ..settings() };
    assert!(matches!(error_with(hasty, Reply::hang()).await, Unavailable(_)));
    assert!(matches!(error_of(json().half()).await, Unavailable(_)));
    assert!(matches!(error_of(json().gzip().half()).await, Unavailable(_)));
    assert!(matches!(error_of(Reply::json(r#"[{"a":"#)).await, Unavailable(_)), "breaks off");
    assert!(matches!(error_of(Reply::status(401)).await, Refused(_)));
    assert!(matches!(error_of(Reply::status(404)).await, Misconfigured(_)));
    assert!(matches!(error_of(Reply::endless()).await, TooLarge(_)), "the cap holds");
    assert!(matches!(error_of(Reply::json("{not json")).await, BadAnswer(_)));
    assert!(matches!(error_of(Reply::json("")).await, BadAnswer(_)));
    let html = error_of(Reply::html("<html>do not show</html>")).await;
    assert!(matches!(&html, BadAnswer(text) if text.contains("text/html, 24 bytes")), "{html}");
    assert!(!html.to_string().contains("do not show"));
    let limited = error_of(Reply::status(429).header("retry-after", "17")).await;
    assert!(matches!(limited, RateLimited(wait) if wait == Duration::from_secs(17)));
    let busy = error_of(Reply::status(503).header("retry-after", "17")).await;
    assert!(matches!(busy, RateLimited(_)), "{busy}");
    let used_up = Reply::status(403).header("x-ratelimit-remaining", "0");
    let used_up = error_of(used_up.header("x-ratelimit-reset", "9")).await;
    assert!(matches!(used_up, RateLimited(_)), "{used_up}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_unavailable_and_its_key_is_not_shown() {
    let gone = Server::scripted([]).await.url().clone();
    let client = client(&gone, query_key(), settings());
    let error = client.fetch(&Request::get("things", gone.clone())).await.err().unwrap();
    assert!(matches!(error, SourceError::Unavailable(_)));
    assert!(!format!("{error:?}").contains(CANARY), "{error}");
}

#[tokio::test]
async fn a_packed_answer_that_unpacks_beyond_the_cap_is_stopped() {
    let bomb = Reply::json(" ".repeat(5_000_000)).gzip();
    let error = error_of(bomb).await;
    assert!(matches!(error, SourceError::TooLarge(_)), "{error}");
    let text = error.to_string();
    for said in ["larger than the limit", "10000 bytes", "`max_body_bytes`", "GET `"] {
        assert!(text.contains(said), "{text}");
    }
    assert!(!text.contains(CANARY), "{text}");
}

#[tokio::test]
async fn a_short_wait_that_the_source_asks_for_is_waited_within_the_poll() {
    let server = Server::scripted([
        Reply::status(503).header("retry-after", "0"),
        Reply::status(429).header("retry-after", "0"),
        Reply::json(r#"{"ok": true}"#).gzip(),
    ])
    .await;
    let client = client(server.url(), Auth::None, HttpSettings { retries: 2, ..settings() });
    let answer = client.fetch(&request(&server)).await.unwrap();
    assert_eq!(answer.json().unwrap().get(), r#"{"ok": true}"#);
    assert_eq!(server.asked().len(), 3);
    assert!(server.asked()[0].header("user-agent").unwrap().starts_with("alluvium/"));
}

#[tokio::test]
async fn a_refusal_and_a_failure_are_not_repeated_within_the_poll() {
    for status in [401, 500] {
        let server = Server::scripted([Reply::status(status)]).await;
        let client = client(server.url(), Auth::None, HttpSettings { retries: 2, ..settings() });
        assert!(client.fetch(&request(&server)).await.is_err());
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn credentials_are_sent_home_and_never_follow_a_redirect_to_another_host() {
    let elsewhere = Server::scripted([Reply::json("[]")]).await;
    let target = elsewhere.url().join(&format!("x?key={CANARY}&b=2")).unwrap();
    let home = Server::start(move |asked| match asked.path.as_str() {
        "/things" => Reply::status(302).header("location", "/moved"),
        _ => Reply::status(302).header("location", target.as_str()),
    })
    .await;
    let header = Auth::ApiKey {
        name: "x-key".into(),
        value: Secret::new(CANARY),
        place: ApiKeyPlace::Header,
    };
    for auth in [query_key(), header, Auth::Bearer { token: Secret::new(CANARY) }] {
        let custom = [("x-tenant".to_owned(), Secret::new(CANARY))];
        let client = HttpClient::new(home.url(), auth, custom, settings(), &context()).unwrap();
        client.fetch(&request(&home)).await.unwrap();
    }
    for asked in home.asked() {
        assert!(format!("{asked:?}").matches(CANARY).count() >= 2, "auth and header: {asked:?}");
    }
    assert_eq!(elsewhere.asked().len(), 3);
    let query = format!("{:?}", elsewhere.asked()[0]);
    assert!(!query.contains(CANARY), "the key in the query is taken out: {query}");
    for asked in &elsewhere.asked()[1..] {
        assert!(!format!("{:?}", asked.headers).contains(CANARY), "{asked:?}");
    }
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let error = error_of(Reply::status(302).header("location", "/again")).await;
    assert!(
        matches!(&error, SourceError::BadAnswer(text) if text.contains("redirects")),
        "{error}"
    );
}

#[tokio::test]
async fn basic_auth_is_sent_as_the_standard_says() {
    let server = Server::scripted([Reply::json("[]")]).await;
    let auth = Auth::Basic { username: "aladdin".into(), password: Secret::new("opensesame") };
    client(server.url(), auth, settings()).fetch(&request(&server)).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some("Basic YWxhZGRpbjpvcGVuc2VzYW1l"));
}

#[tokio::test]
async fn a_rate_limit_is_shared_by_all_who_use_the_credential() {
    let server = Server::scripted([Reply::json("[]")]).await;
    let limit = RateLimitSettings { requests_per_second: 20.0, burst: 1 };
    let settings = HttpSettings { rate_limit: Some(limit), ..settings() };
    let context = context();
    let client =
        |auth| HttpClient::new(server.url(), auth, [], settings.clone(), &context).unwrap();
    let (one, two) = (client(query_key()), client(query_key()));
    let began = tokio::time::Instant::now();
    for _ in 0..2 {
        one.fetch(&request(&server)).await.unwrap();
        two.fetch(&request(&server)).await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(140), "four requests, three waits of 50 ms");
}

#[tokio::test]
async fn a_pause_that_the_source_asked_for_is_kept_by_all_who_use_the_credential() {
    let server = Server::scripted([Reply::status(429).header("retry-after", "60")]).await;
    let context = context();
    let client = || HttpClient::new(server.url(), query_key(), [], settings(), &context).unwrap();
    assert!(client().fetch(&request(&server)).await.is_err());
    let error = client().fetch(&request(&server)).await.err().unwrap();
    assert!(matches!(error, SourceError::RateLimited(_)), "{error}");
    assert_eq!(server.asked().len(), 1, "the second did not go out");
}

#[test]
fn an_address_with_a_password_is_refused_without_showing_it() {
    let base = Url::parse(&format!("http://user:{CANARY}@127.0.0.1/")).unwrap();
    let error = HttpClient::new(&base, Auth::None, [], settings(), &context()).err().unwrap();
    assert!(!error.to_string().contains(CANARY));
}

//! The API over a real socket, in front of a runtime with scripted sources and layers.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

use std::net::SocketAddr;
use std::time::Duration;

use alluvium_api::{ApiState, serve};
use alluvium_model::{Layer, StageError};
use alluvium_runtime::testkit::lake::Fault;
use alluvium_runtime::testkit::source::Fault as SourceFault;
use alluvium_runtime::testkit::{PATIENCE, World, name, until};
use alluvium_runtime::{Phase, RuntimeHandle};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

struct Server {
    world: World,
    runtime: RuntimeHandle,
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    client: Client,
}

impl Server {
    async fn start(world: World) -> Self {
        Self::start_with(world, 64).await
    }

    async fn start_with(world: World, connections: usize) -> Self {
        // Who installed it first does not matter.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = world.start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = ApiState::new(runtime.clone(), world.ledger.clone(), world.metrics.clone())
            .called(["localhost", "lake.example"].map(str::to_owned))
            .with_connections(connections);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, state, stop.clone()));
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        let mut phases = runtime.phases();
        phases.wait_for(|phase| *phase == Phase::Running).await.unwrap();
        Self { world, runtime, address, stop, serving, client }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path)).await
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_by_hand_and_found_again() {
    let mut world = World::new().await;
    world.system("shop", &["orders", "items"]).has("orders", 12);
    let server = Server::start(world).await;
    let (status, started) = server.post("/v1/systems/shop/runs?entity=orders").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let id = started["run"].as_str().unwrap().to_owned();
    let ended = || server.runtime.status().systems[0].last_run.is_some();
    until("the run ended", ended).await;
    let (_, listed) = server.get("/v1/runs?system=shop&status=succeeded&limit=5").await;
    assert_eq!(listed["runs"][0]["id"], id);
    assert_eq!(listed["runs"][0]["published"], 12);
    let (status, run) = server.get(&format!("/v1/runs/{id}")).await;
    assert_eq!((status, &run["status"]), (StatusCode::OK, &Value::from("succeeded")));
    assert!(run["steps"].is_array());
    let (_, status) = server.get("/v1/status").await;
    assert_eq!(status["systems"][0]["last_run"]["run"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_is_refused_while_one_is_under_way() {
    let mut world = World::new().await;
    let script = world.system("shop", &["orders"]);
    let (_release, held) = oneshot::channel();
    script.fault("orders", SourceFault::Hold(held));
    let server = Server::start(world).await;
    assert_eq!(server.post("/v1/systems/shop/runs").await.0, StatusCode::ACCEPTED);
    let (status, error) = server.post("/v1/systems/shop/runs").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(error["error"], "system `shop` has a run already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_of_another_site_can_start_nothing() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]);
    let server = Server::start(world).await;
    let path = "/v1/systems/shop/runs";
    for (header, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "evil.example"),
    ] {
        let (status, error) =
            answer(server.request(Method::POST, path).header(header, value)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{header}: {value}");
        assert!(error["error"].is_string());
    }
    let foreign = server.request(Method::GET, "/v1/status").header("host", "evil.example:80");
    assert_eq!(answer(foreign).await.0, StatusCode::FORBIDDEN, "bent to our address");
    let named = server.request(Method::GET, "/v1/status").header("host", "lake.example");
    assert_eq!(answer(named).await.0, StatusCode::OK);
    let own =
        server.request(Method::POST, path).header("origin", format!("http://{}", server.address));
    assert_eq!(answer(own).await.0, StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_when_a_layer_has_stopped_or_it_is_stopping() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 3);
    let damaged = StageError::Corrupt("a file is missing".to_owned());
    world.lake.fault("shop.orders", Layer::Silver, Fault::Fail(damaged));
    let server = Server::start(world).await;
    let (status, ready) = server.get("/readyz").await;
    assert_eq!((status, &ready["ready"]), (StatusCode::OK, &Value::from(true)));
    server.runtime.ingest(&name("shop"), None, |_| {}).await.unwrap_err();
    let (status, ready) = server.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let reason = ready["reasons"][0].as_str().unwrap();
    assert!(reason.contains("silver of shop.orders") && reason.contains("missing"), "{reason}");
    server.runtime.shutdown(PATIENCE).await;
    assert_eq!(server.get("/readyz").await.1["phase"], "stopped");
    let alive = server.request(Method::GET, "/livez").send().await.unwrap();
    assert_eq!(alive.text().await.unwrap(), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_as_prometheus_reads_them() {
    let mut world = World::new().await;
    world.system("shop", &["orders"]).has("orders", 3);
    let server = Server::start(world).await;
    server.runtime.ingest(&name("shop"), None, |_| {}).await.unwrap();
    let response = server.request(Method::GET, "/metrics").send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = response.text().await.unwrap();
    let published = "entity=\"orders\",system=\"shop\"} 3";
    assert!(text.lines().any(|l| l.contains("published") && l.ends_with(published)), "{text}");
    assert!(server.world.events.0.lock().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_told_as_json() {
    let server = Server::start(World::new().await).await;
    for (path, expected) in [
        ("/v1/nothing", StatusCode::NOT_FOUND),
        ("/v1/runs/none", StatusCode::NOT_FOUND),
        ("/v1/runs?limit=many", StatusCode::BAD_REQUEST),
        ("/v1/runs?status=odd", StatusCode::BAD_REQUEST),
        ("/v1/runs?colour=red", StatusCode::BAD_REQUEST),
        ("/v1/systems/shop/runs", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let (status, error) = server.get(path).await;
        assert_eq!(status, expected, "{path}");
        assert!(error["error"].is_string(), "{path}");
    }
    assert_eq!(server.post("/v1/systems/shop/runs").await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.post("/v1/systems/..%2Fx/runs").await.0, StatusCode::BAD_REQUEST);
    let large = server.request(Method::POST, "/v1/systems/shop/runs").body(vec![0; 1 << 20]);
    assert_eq!(large.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// Waits until the other side closes; gives what it said.
async fn said(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    // Ended by force is ended too.
    drop(tokio::time::timeout(PATIENCE, read).await.unwrap());
    String::from_utf8(said).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_ends_a_request_is_not_waited_for() {
    let server = Server::start(World::new().await).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-").await.unwrap();
    let silent = TcpStream::connect(server.address).await.unwrap();
    for stream in [slow, silent] {
        let said = said(stream).await;
        assert!(!said.contains("200 OK"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_most_wait_until_one_ends() {
    let server = Server::start_with(World::new().await, 1).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    first.write_all(request).await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(request).await.unwrap();
    let answer = second.read_exact(&mut byte);
    let early = tokio::time::timeout(Duration::from_millis(200), answer).await;
    assert!(early.is_err(), "it was answered beside the first");
    drop(first);
    let answer = tokio::time::timeout(PATIENCE, second.read_exact(&mut byte)).await;
    answer.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_ends_when_it_is_asked_to() {
    let server = Server::start(World::new().await).await;
    assert_eq!(server.get("/readyz").await.0, StatusCode::OK);
    server.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, server.serving).await;
    ended.unwrap().unwrap();
    let refused = server.client.get(format!("http://{}/livez", server.address)).send().await;
    assert!(refused.is_err());
}

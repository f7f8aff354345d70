//! Serving: the routes, and what bounds a request.

use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::Ledger;
use alluvium_runtime::RuntimeHandle;
use alluvium_telemetry::Metrics;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::{connections, error, guard, probes, runs};

/// No request has a body that means anything.
const BODY_BYTES: usize = 64 << 10;
/// A request that takes longer is answered with 503.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many connections are served at a time where nobody says otherwise.
const CONNECTIONS: usize = 256;

/// What the routes work with.
#[derive(Clone)]
pub struct ApiState {
    /// The runtime.
    pub(crate) runtime: RuntimeHandle,
    /// The ledger.
    pub(crate) ledger: Arc<dyn Ledger>,
    /// What is measured.
    pub(crate) metrics: Arc<Metrics>,
    /// Names by which we may be called, beside addresses. A request for another name is refused: a
    /// web page may have bent its own name to our address.
    hosts: Vec<String>,
    connections: usize,
    /// Whether runs are listed and started here, beside health and metrics.
    answers_runs: bool,
}

impl ApiState {
    /// What is called by an address only.
    pub fn new(runtime: RuntimeHandle, ledger: Arc<dyn Ledger>, metrics: Arc<Metrics>) -> Self {
        Self {
            runtime,
            ledger,
            metrics,
            hosts: Vec::new(),
            connections: CONNECTIONS,
            answers_runs: true,
        }
    }

    /// The same, also called by these names.
    #[must_use]
    pub fn called(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.hosts.extend(hosts);
        self
    }

    /// The same, which lists and starts runs, or leaves that to other processes.
    #[must_use]
    pub fn answering_runs(mut self, answers: bool) -> Self {
        self.answers_runs = answers;
        self
    }

    /// The same, with so many connections at a time, at least one.
    #[must_use]
    pub fn with_connections(mut self, most: usize) -> Self {
        self.connections = most;
        self
    }
}

/// Serves on `listener` until `stop` is cancelled; then answers what is under way, for a few
/// seconds at most.
pub async fn serve(listener: TcpListener, state: ApiState, stop: CancellationToken) {
    let most = state.connections;
    connections::serve(listener, routes(state), most, stop).await;
}

fn routes(state: ApiState) -> Router {
    let probes = Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .route("/v1/status", get(probes::status));
    let routes = match state.answers_runs {
        false => probes,
        true => probes
            .route("/v1/runs", get(runs::list))
            .route("/v1/runs/{id}", get(runs::one))
            .route("/v1/systems/{system}/runs", post(runs::start)),
    };
    routes
        .fallback(error::no_such_place)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn_with_state(Arc::from(state.hosts.clone()), guard::check))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, PATIENCE))
        .layer(CatchPanicLayer::custom(error::panicked))
        .with_state(state)
}

//! Health, metrics and status.

use alluvium_runtime::{Phase, Status};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::ApiError;
use crate::serve::ApiState;

/// Prometheus's text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether everything is at work.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    ready: bool,
    phase: Phase,
    /// What is not as it should be.
    reasons: Vec<String>,
}

pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(state): State<ApiState>) -> (StatusCode, Json<Readiness>) {
    let readiness = Readiness::of(&state.runtime.status());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

pub(crate) async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let text = state.metrics.encode();
    let text = text.map_err(|error| {
        tracing::error!(%error, "the metrics were not written out");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

pub(crate) async fn status(State(state): State<ApiState>) -> Json<Status> {
    Json(state.runtime.status())
}

impl Readiness {
    fn of(status: &Status) -> Self {
        let mut reasons = match status.phase {
            Phase::Running => Vec::new(),
            Phase::Starting => vec!["layers are asking the lake how far they got".to_owned()],
            Phase::Draining => vec!["it is stopping".to_owned()],
            Phase::Stopped => vec!["it has stopped".to_owned()],
        };
        if status.worker.as_ref().is_some_and(|worker| !worker.is_heard) {
            let what = "the ledger has not heard of this worker in time: others may have its work";
            reasons.push(what.to_owned());
        }
        reasons.extend(status.stopped_layers().map(|(entity, layer)| {
            let why = layer.state.error.as_deref().unwrap_or("for an unknown reason");
            format!("{} of {entity} has stopped: {why}", layer.layer)
        }));
        Self { ready: reasons.is_empty(), phase: status.phase, reasons }
    }
}

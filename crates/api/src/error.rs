//! Answers that are errors: a status, and one sentence as JSON.

use std::any::Any;

use alluvium_ledger::LedgerError;
use alluvium_runtime::RuntimeError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "a request could not be answered");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        let status = match &error {
            RuntimeError::UnknownSystem(_) | RuntimeError::UnknownEntity(_) => {
                StatusCode::NOT_FOUND
            }
            RuntimeError::Busy(_) | RuntimeError::Held { .. } => StatusCode::CONFLICT,
            RuntimeError::Defect(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

pub(crate) async fn no_such_place() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing here")
}

pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this method has no meaning here")
}

/// The panic's text is logged by its hook; callers do not see it.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    let message = "a defect of Alluvium; see its log";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
}

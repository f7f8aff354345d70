//! Runs: listing them, looking at one, starting one.

use alluvium_ledger::{RunFilter, RunRow, RunStatus, RunStep};
use alluvium_model::{EntityName, RunId, SystemName};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::serve::ApiState;

/// How many runs are listed at most.
const MOST: u32 = 1_000;

/// Which runs to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    system: Option<SystemName>,
    status: Option<RunStatus>,
    limit: Option<u32>,
}

/// Which entity to run; without one, all of the system's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Only {
    entity: Option<EntityName>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Runs {
    runs: Vec<RunRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RunDetail {
    #[serde(flatten)]
    run: RunRow,
    /// By layer, then by entity.
    steps: Vec<RunStep>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Started {
    run: RunId,
}

pub(crate) async fn list(
    State(state): State<ApiState>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Runs>, ApiError> {
    let Query(wanted) = wanted.map_err(|error| bad(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(100).clamp(1, MOST);
    let filter = RunFilter { system: wanted.system, status: wanted.status, limit };
    Ok(Json(Runs { runs: state.ledger.runs(&filter).await? }))
}

pub(crate) async fn one(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<RunDetail>, ApiError> {
    let id = RunId(id);
    let run = state.ledger.run(&id).await?;
    let run = run.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such run"))?;
    Ok(Json(RunDetail { steps: state.ledger.steps(&id).await?, run }))
}

pub(crate) async fn start(
    State(state): State<ApiState>,
    system: Result<Path<SystemName>, PathRejection>,
    only: Result<Query<Only>, QueryRejection>,
) -> Result<(StatusCode, Json<Started>), ApiError> {
    let Path(system) = system.map_err(|error| bad(error.body_text()))?;
    let Query(only) = only.map_err(|error| bad(error.body_text()))?;
    let run = state.runtime.trigger(&system, only.entity.as_ref()).await?;
    Ok((StatusCode::ACCEPTED, Json(Started { run })))
}

fn bad(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

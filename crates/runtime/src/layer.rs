//! The layer loop: one layer of one entity, from the bus into the lake.
//!
//! The work is done in sessions. An error ends a session, and the next one asks the lake anew how
//! far it got, so that whatever became durable before the error is neither lost nor landed twice.

use std::sync::Arc;

use alluvium_model::{EntitySpec, Layer};
use tokio_util::sync::CancellationToken;

use crate::board::{LayerPhase, Slot};
use crate::context::Context;
use crate::retry::{Attempts, Decision};
use crate::session::{self, LayerError};
use crate::stops;

/// What a layer's task is to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) spec: EntitySpec,
    pub(crate) layer: Layer,
    pub(crate) slot: Arc<Slot>,
    /// Cancelled when the layer is to land what it has in hand, and end.
    pub(crate) leave: CancellationToken,
}

/// Runs the layer until it is asked to end, or has failed for good. A panic is a failure.
pub(crate) async fn work(context: Arc<Context>, job: Job) {
    let stop = context.stop.all.clone();
    let (slot, entity, layer) = (Arc::clone(&job.slot), job.spec.id(), job.layer);
    let loops =
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(sessions(Arc::clone(&context), job)));
    match stop.run_until_cancelled(loops).await {
        Some(Err(error)) if error.is_panic() => {
            tracing::error!(%entity, %layer, "a layer panicked");
            let reason = "the layer panicked; this is a defect of Alluvium";
            stops::stopped(&context, &entity, layer, reason).await;
            slot.update(|state| {
                state.phase = LayerPhase::Stopped;
                state.error = Some(reason.to_owned());
            });
        }
        Some(_) => {}
        None => slot.update(|state| state.phase = LayerPhase::Ended),
    }
}

async fn sessions(context: Arc<Context>, job: Job) {
    let mut attempts = Attempts::without_end(&context.platform.settings.retry);
    job.slot.update(|state| state.phase = LayerPhase::Starting);
    loop {
        let before = job.slot.state().batches;
        let error = match session::hold(&context, &job).await {
            Ok(()) => return job.slot.update(|state| state.phase = LayerPhase::Ended),
            Err(error) => error,
        };
        if job.slot.state().batches > before {
            attempts.succeeded();
        }
        context.platform.metrics.apply_failed(&job.spec.id(), job.layer);
        if !go_on_after(&context, &job, &mut attempts, &error).await {
            return;
        }
    }
}

/// Waits before the next session, or stops the layer for good.
async fn go_on_after(
    context: &Context,
    job: &Job,
    attempts: &mut Attempts,
    error: &LayerError,
) -> bool {
    let (entity, layer) = (job.spec.id(), job.layer);
    match attempts.decide(error.remedy()) {
        Decision::Fail(cause) => {
            let reason = format!("{error}; {}", cause.advice());
            tracing::error!(%entity, %layer, reason, "a layer has stopped");
            stops::stopped(context, &entity, layer, &reason).await;
            job.slot.update(|state| {
                state.phase = LayerPhase::Stopped;
                state.error = Some(reason);
            });
            false
        }
        Decision::Wait(wait) => {
            tracing::warn!(%entity, %layer, %error, wait_s = wait.as_secs_f64(), "a layer failed");
            job.slot.update(|state| {
                state.phase = LayerPhase::Retrying;
                state.error = Some(error.to_string());
                state.failures = attempts.failed();
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => true,
                () = job.leave.cancelled() => ended(job),
                () = context.stop.layers.cancelled() => ended(job),
            }
        }
    }
}

fn ended(job: &Job) -> bool {
    job.slot.update(|state| state.phase = LayerPhase::Ended);
    false
}

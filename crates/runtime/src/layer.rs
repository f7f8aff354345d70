//! The layer loop: one layer of one entity, from the bus into the lake.
//!
//! The work is done in sessions. An error ends a session, and the next one asks the lake anew how
//! far it got, so that whatever became durable before the error is neither lost nor landed twice.
//!
//! Where several processes share the work, the loop goes on only as long as its lease holds. An
//! error may come of another owner, so that the ledger is asked who it is before the next session.

use std::sync::Arc;

use alluvium_ledger::LeaseName;
use alluvium_model::{EntitySpec, FencingToken, Layer, Ownership, StageError};
use tokio_util::sync::CancellationToken;

use crate::board::{LayerPhase, Slot};
use crate::context::Context;
use crate::error::LayerError;
use crate::retry::{Attempts, Decision};
use crate::roster::Unit;
use crate::session;
use crate::stops;

/// What a layer's task is to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) spec: EntitySpec,
    pub(crate) layer: Layer,
    pub(crate) slot: Arc<Slot>,
    /// Cancelled when the layer is to land what it has in hand, and end.
    pub(crate) leave: CancellationToken,
    /// Cancelled when the layer is another's, and is to end at once.
    pub(crate) cut: CancellationToken,
    /// By what right it writes, where others could write too.
    pub(crate) owner: Option<Ownership>,
}

impl Job {
    /// The token with which the layer is owned; where nobody else could own it, the lowest.
    pub(crate) fn token(&self) -> FencingToken {
        self.owner.as_ref().map(Ownership::token).unwrap_or_default()
    }

    /// That the layer is still ours.
    pub(crate) fn must_hold(&self) -> Result<(), StageError> {
        match &self.owner {
            Some(owner) if !owner.holds() => {
                Err(StageError::Fenced("the lease on it is over".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Runs the layer until it is asked to end, has failed for good, or is another's. A panic is a
/// failure.
pub(crate) async fn work(context: Arc<Context>, job: Job) {
    let stop = context.stop.all.clone();
    let (slot, entity, layer) = (Arc::clone(&job.slot), job.spec.id(), job.layer);
    let (cut, owner) = (job.cut.clone(), job.owner.clone());
    let mut loops =
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(sessions(Arc::clone(&context), job)));
    let ended = tokio::select! {
        biased;
        () = cut.cancelled() => None,
        () = over(owner.as_ref()) => None,
        ended = stop.run_until_cancelled(&mut loops) => Some(ended),
    };
    match ended {
        Some(Some(Err(error))) if error.is_panic() => {
            tracing::error!(%entity, %layer, "a layer panicked");
            let reason = "the layer panicked; this is a defect of Alluvium";
            stops::stopped(&context, &entity, layer, reason).await;
            slot.update(|state| {
                state.phase = LayerPhase::Stopped;
                state.error = Some(reason.to_owned());
            });
        }
        Some(Some(_)) => {}
        Some(None) => slot.update(|state| state.phase = LayerPhase::Ended),
        None => {
            tracing::warn!(%entity, %layer, "its lease was lost: another process may have it now");
            loops.abort();
            // Until it has let go of everything, the layer must not begin here anew.
            drop(loops.await);
            elsewhere(&slot);
        }
    }
}

/// Waits until the lease is over.
async fn over(owner: Option<&Ownership>) {
    let Some(owner) = owner else { return std::future::pending().await };
    while owner.holds() {
        tokio::time::sleep(owner.remaining()).await;
    }
}

fn elsewhere(slot: &Slot) {
    slot.update(|state| {
        state.phase = LayerPhase::Elsewhere;
        state.error = None;
        state.failures = 0;
    });
}

async fn sessions(context: Arc<Context>, job: Job) {
    let mut attempts = Attempts::without_end(&context.platform.settings.retry);
    job.slot.update(|state| {
        state.phase = LayerPhase::Starting;
        state.error = None;
        state.is_local = false;
    });
    loop {
        let before = job.slot.state().batches;
        let error = match session::hold(&context, &job).await {
            Ok(()) => return ended(&job),
            Err(error) => error,
        };
        if error.is_fenced() {
            tracing::warn!(entity = %job.spec.id(), layer = %job.layer, %error, "a layer ended");
            return elsewhere(&job.slot);
        }
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
            if error.is_local() && is_passed_on(context, job) {
                tracing::error!(%entity, %layer, reason, "a layer is left to another process");
                job.slot.update(|state| {
                    state.phase = LayerPhase::Elsewhere;
                    state.error = Some(reason);
                });
                return false;
            }
            tracing::error!(%entity, %layer, reason, "a layer has stopped");
            stops::stopped(context, &entity, layer, &reason).await;
            job.slot.update(|state| {
                state.phase = LayerPhase::Stopped;
                state.error = Some(reason);
                state.is_local = error.is_local();
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
            let goes_on = tokio::select! {
                () = tokio::time::sleep(wait) => is_still_ours(context, job).await,
                () = job.leave.cancelled() => false,
                () = context.stop.layers.cancelled() => false,
            };
            if !goes_on {
                ended(job);
            }
            goes_on
        }
    }
}

/// Whether another process goes on with the layer, which cannot be done here.
fn is_passed_on(context: &Context, job: &Job) -> bool {
    let (Some(workforce), Some(_)) = (&context.workforce, &job.owner) else { return false };
    let is_passed_on = workforce.passes_on(&Unit::Layer(job.layer, job.spec.id()));
    if is_passed_on {
        workforce.wake();
    }
    is_passed_on
}

/// Whether the ledger still knows us as the owner. Where it cannot be asked, the layer waits; it
/// ends with its lease.
async fn is_still_ours(context: &Context, job: &Job) -> bool {
    let (Some(workforce), Some(owner)) = (&context.workforce, &job.owner) else { return true };
    let name = LeaseName::layer(job.layer, &job.spec.id());
    let mut attempts = Attempts::without_end(&context.platform.settings.retry);
    while owner.holds() {
        match workforce.pulse.is_confirmed(&name, owner).await {
            Ok(confirmed) => return confirmed,
            Err(error) => {
                tracing::warn!(lease = %name, %error, "the ledger did not tell whose a layer is");
                if attempts.pause(error.remedy(), &job.leave).await.is_err() {
                    return false;
                }
            }
        }
    }
    false
}

fn ended(job: &Job) {
    match job.must_hold() {
        Ok(()) => job.slot.update(|state| state.phase = LayerPhase::Ended),
        Err(_) => elsewhere(&job.slot),
    }
}

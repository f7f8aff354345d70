//! Upkeep of a layer, between its batches.

use std::time::{Duration, Instant};

use alluvium_model::{Stage, Upkeep};

use crate::context::Context;
use crate::layer::Job;

/// How long upkeep is left alone after it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// While a layer is behind, upkeep waits for so many batches: what waits comes first.
const WHILE_BEHIND: u32 = 16;

/// The steps of upkeep of one session.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// When the last step failed, if it did.
    failed: Option<Instant>,
    /// Batches since the last step.
    batches: u32,
}

impl Steps {
    /// Whether it is time for a step, after a batch or a wait for one.
    pub(crate) fn is_time(&mut self, behind: bool) -> bool {
        self.batches += 1;
        if behind && self.batches < WHILE_BEHIND {
            return false;
        }
        self.batches = 0;
        true
    }

    /// Takes a step. One that fails stops nothing: it is told, and tried again later.
    pub(crate) async fn step(&mut self, context: &Context, job: &Job, stage: &mut dyn Stage) {
        let (clock, metrics) = (&context.platform.clock, &context.platform.metrics);
        if self.failed.is_some_and(|failed| clock.since(failed) < AFTER_FAILURE) {
            return;
        }
        let (entity, layer) = (job.spec.id(), job.layer);
        let started = clock.instant();
        match stage.maintain(Upkeep::Step).await {
            Ok(done) => {
                self.failed = None;
                if !done.is_nothing() {
                    metrics.maintained(&entity, layer, &done, clock.since(started));
                    tracing::debug!(%entity, %layer, ?done, "maintained");
                }
            }
            Err(error) => {
                self.failed = Some(clock.instant());
                metrics.maintenance_failed(&entity, layer);
                let retry_s = AFTER_FAILURE.as_secs();
                tracing::warn!(%entity, %layer, %error, retry_s, "maintenance failed");
            }
        }
    }
}

//! Telling the ledger, and the metrics, what a layer has landed.
//!
//! The data are durable before; the ledger's row is told again until it is taken, because what is
//! in quarantine stands in no other table.

use std::sync::Arc;

use alluvium_ledger::{LedgerError, Reconciled};
use alluvium_model::outcome::Progress;
use alluvium_model::{Applied, EntityId, FencingToken, Layer, Remedy, RunId};

use crate::context::Context;
use crate::retry::Attempts;

/// Why the ledger was not told.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct RecordError {
    #[from]
    source: LedgerError,
}

impl RecordError {
    /// Whether the layer is another's.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self.source, LedgerError::Fenced { .. })
    }

    /// A batch across what was counted is mended by holding the ledger against the lake, which the
    /// next session does.
    pub(crate) fn remedy(&self) -> Remedy {
        match self.source {
            LedgerError::Overlap { .. } => Remedy::Retry,
            ref source => source.remedy(),
        }
    }
}

/// Tells the ledger of one layer of one entity.
pub(crate) struct Recorder<'a> {
    context: &'a Arc<Context>,
    entity: EntityId,
    layer: Layer,
    /// The last run that was looked up, and whether the ledger knows it.
    known_run: Option<(RunId, bool)>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(context: &'a Arc<Context>, entity: &EntityId, layer: Layer) -> Self {
        Self { context, entity: entity.clone(), layer, known_run: None }
    }

    /// Holds the ledger against what the lake says, as the layer's owner.
    pub(crate) async fn reconcile(
        &self,
        progress: Option<&Progress>,
        owner: Option<FencingToken>,
    ) -> Result<Reconciled, RecordError> {
        let ledger = &self.context.platform.ledger;
        let now = self.context.now();
        Ok(ledger.reconcile(&self.entity, self.layer, progress, owner, now).await?)
    }

    /// Tells of batches. Tries for as long as it may help.
    pub(crate) async fn record(
        &mut self,
        applied: &[Applied],
        run: Option<&RunId>,
    ) -> Result<(), RecordError> {
        let run = self.known(run).await;
        let platform = &self.context.platform;
        let mut attempts = Attempts::without_end(&platform.settings.retry);
        loop {
            let now = self.context.now();
            let told = platform.ledger.record_batches(&self.entity, applied, run.as_ref(), now);
            let Err(source) = told.await else { break };
            tracing::warn!(entity = %self.entity, layer = %self.layer, error = %source,
                "the ledger did not take a batch");
            if attempts.pause(source.remedy(), &self.context.stop.all).await.is_err() {
                return Err(RecordError { source });
            }
        }
        for batch in applied {
            platform.metrics.batch_applied(&self.entity, batch);
        }
        self.context.outbox.notify_one();
        Ok(())
    }

    /// The run, if the ledger knows it: a replay brings records of runs that it has forgotten.
    async fn known(&mut self, run: Option<&RunId>) -> Option<RunId> {
        let run = run?;
        if self.known_run.as_ref().is_none_or(|(id, _)| id != run) {
            let found = self.context.platform.ledger.run(run).await;
            self.known_run = Some((run.clone(), matches!(found, Ok(Some(_)))));
        }
        self.known_run.as_ref().is_some_and(|(_, known)| *known).then(|| run.clone())
    }
}

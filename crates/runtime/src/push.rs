//! Pages that are pushed by hand, not polled: they have no cursor, and a run of their own.

use std::sync::Arc;

use alluvium_ledger::RunStatus;
use alluvium_model::port::Published;
use alluvium_model::{EncodedPage, EntityId, Position, RunId};

use crate::context::Context;
use crate::error::RuntimeError;
use crate::report::{EntityReport, RunReport};
use crate::retry::Attempts;
use crate::run::{OpenRun, RunRequest};

/// A run in which pages are pushed.
pub struct PushRun {
    context: Arc<Context>,
    entity: EntityId,
    open: OpenRun,
    published: u64,
    position: Option<Position>,
}

impl PushRun {
    pub(crate) async fn open(
        context: &Arc<Context>,
        entity: &EntityId,
    ) -> Result<Self, RuntimeError> {
        context.crew.ensure_known(context, entity).await?;
        let turn = Arc::clone(&context.system(&entity.system)?.turn).lock_owned().await;
        let request =
            RunRequest { system: entity.system.clone(), entity: None, trigger: "publish" };
        let open = OpenRun::open(context, request, turn).await?;
        let (context, entity) = (Arc::clone(context), entity.clone());
        Ok(Self { context, entity, open, published: 0, position: None })
    }

    /// The run, for the messages' headers.
    pub fn run(&self) -> &RunId {
        self.open.id()
    }

    /// The run's trace context, for the messages' headers.
    pub fn traceparent(&self) -> Option<&str> {
        self.open.tag().traceparent.as_deref()
    }

    /// Publishes a page. `Ok` means that it is durable.
    pub async fn publish(&mut self, page: EncodedPage) -> Result<Published, RuntimeError> {
        let records = page.records();
        let published = publish(&self.context, &self.entity, page).await?;
        self.published += records;
        let span = published.span;
        self.position = Some(Position { epoch: span.epoch, offset: span.to, index: 0 });
        Ok(published)
    }

    /// Ends the run: as failed, with `error` as its reason, if there is one. The reason stands in
    /// the ledger and must show no secret and no row values.
    pub async fn finish(self, error: Option<String>) -> RunReport {
        let status = if error.is_some() { RunStatus::Failed } else { RunStatus::Succeeded };
        let report = EntityReport {
            entity: self.entity,
            status,
            reason: error,
            polled: self.published,
            published: self.published,
            position: self.position,
        };
        self.open.note(&report).await;
        self.open.finish(vec![report], None).await
    }
}

/// Publishes a page without cursor. A page that was written though failure was reported is written
/// again, and absorbed by its ids.
pub(crate) async fn publish(
    context: &Arc<Context>,
    entity: &EntityId,
    page: EncodedPage,
) -> Result<Published, RuntimeError> {
    context.crew.ensure_known(context, entity).await?;
    let platform = &context.platform;
    let (records, started) = (page.records(), platform.clock.instant());
    let mut attempts = Attempts::new(&platform.settings.retry);
    loop {
        let error = match platform.publisher.publish(entity, page.clone(), None).await {
            Ok(published) => {
                platform.metrics.published(entity, records, platform.clock.since(started));
                return Ok(published);
            }
            Err(error) => error,
        };
        if attempts.pause(error.remedy(), &context.stop.all).await.is_err() {
            return Err(error.into());
        }
        if context.stop.all.is_cancelled() {
            return Err(RuntimeError::Stopping);
        }
    }
}

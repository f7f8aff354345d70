//! A system's source during a run: connected when it is needed, and anew after errors that a new
//! connection may mend.

use std::future::Future;
use std::sync::Arc;

use alluvium_model::{Cursor, Discovery, EntitySpec, Page, Source, SourceError, SystemSpec};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::PollError;
use crate::retry::{Attempts, Cause};

/// A system's source.
pub(crate) struct Feed {
    context: Arc<Context>,
    system: SystemSpec,
    declared: Vec<EntitySpec>,
    source: Option<Box<dyn Source>>,
    discovered: Discovery,
}

impl Feed {
    pub(crate) fn new(context: &Arc<Context>, system: &SystemSpec) -> Self {
        Self {
            context: Arc::clone(context),
            system: system.clone(),
            declared: context.declared(&system.name),
            source: None,
            discovered: Discovery::default(),
        }
    }

    /// Connects, and asks the source what it knows of its entities. Tries again as the policy has it.
    pub(crate) async fn discover(&mut self, stop: &CancellationToken) -> Result<Discovery, GaveUp> {
        let mut attempts = Attempts::new(&self.context.platform.settings.retry);
        loop {
            let Err(error) = self.connected().await else {
                return Ok(std::mem::take(&mut self.discovered));
            };
            tracing::warn!(system = %self.system.name, %error, "connecting failed");
            retry_after(&mut attempts, error, stop).await?;
        }
    }

    /// One try to get a page.
    pub(crate) async fn poll(
        &mut self,
        entity: &EntitySpec,
        cursor: Option<&Cursor>,
    ) -> Result<Page, PollError> {
        let limit = self.context.platform.settings.poll_timeout;
        let source = self.connected().await?;
        let page = timely(limit, source.poll(entity, cursor)).await;
        self.drop_if_broken(page)
    }

    /// One try to acknowledge.
    pub(crate) async fn acknowledge(
        &mut self,
        entity: &EntitySpec,
        cursor: &Cursor,
    ) -> Result<(), PollError> {
        let limit = self.context.platform.settings.poll_timeout;
        let source = self.connected().await?;
        let done = timely(limit, source.acknowledge(entity, cursor)).await;
        self.drop_if_broken(done)
    }

    async fn connected(&mut self) -> Result<&mut Box<dyn Source>, PollError> {
        let source = match self.source.take() {
            Some(source) => source,
            None => self.connect().await?,
        };
        Ok(self.source.insert(source))
    }

    async fn connect(&mut self) -> Result<Box<dyn Source>, PollError> {
        let platform = &self.context.platform;
        let system = (platform.resolve)(&self.system).map_err(PollError::Secret)?;
        let limit = platform.settings.poll_timeout;
        let connect = platform.registry.connect(&system, platform.connect.clone());
        let mut source = timely(limit, connect).await?;
        self.discovered = timely(limit, source.discover(&self.declared)).await?;
        Ok(source)
    }

    fn drop_if_broken<T>(&mut self, result: Result<T, PollError>) -> Result<T, PollError> {
        if result.as_ref().is_err_and(PollError::wants_reconnect) {
            self.source = None;
        }
        result
    }
}

/// A failure that is not tried again, and why not.
#[derive(Debug)]
pub(crate) struct GaveUp {
    pub(crate) error: PollError,
    pub(crate) cause: Cause,
}

impl GaveUp {
    /// A failure for which there is no further try.
    pub(crate) fn at_once(error: PollError) -> Self {
        let cause = match error.remedy() {
            alluvium_model::Remedy::Operator(advice) => Cause::Operator(advice),
            alluvium_model::Remedy::Bug => Cause::Bug,
            _ => Cause::Exhausted(1),
        };
        Self { error, cause }
    }

    /// For people: what happened, and what to do.
    pub(crate) fn reason(&self) -> String {
        match self.error {
            PollError::Stopped => "stopped".to_owned(),
            _ => format!("{}; {}", self.error, self.cause.advice()),
        }
    }
}

/// Waits before the next try, or gives up.
pub(crate) async fn retry_after(
    attempts: &mut Attempts,
    error: PollError,
    stop: &CancellationToken,
) -> Result<(), GaveUp> {
    match attempts.pause(error.remedy(), stop).await {
        Ok(_) if stop.is_cancelled() => Err(GaveUp::at_once(PollError::Stopped)),
        Ok(_) => Ok(()),
        Err(cause) => Err(GaveUp { error, cause }),
    }
}

async fn timely<T>(
    limit: std::time::Duration,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, PollError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(PollError::Hangs(limit)),
    }
}

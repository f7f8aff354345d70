//! A run: one activation of a system, from its opening in the ledger to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use alluvium_ledger::{EntityStep, LedgerError, NewRun, RunEnd, RunStatus};
use alluvium_model::{Discovery, EntityName, EntitySpec, RunId, SourceError, SystemName};
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::context::{Context, SystemState};
use crate::error::{PollError, RuntimeError};
use crate::feed::{Feed, GaveUp};
use crate::poll::{RunTag, Tally, poll_entity};
use crate::report::{EntityReport, RunReport, verdict};
use crate::retry::Attempts;

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct RunRequest {
    pub(crate) system: SystemName,
    pub(crate) entity: Option<EntityName>,
    pub(crate) trigger: &'static str,
}

/// A run that stands in the ledger and has the system's turn.
pub(crate) struct OpenRun {
    context: Arc<Context>,
    tag: RunTag,
    request: RunRequest,
    started_at: Timestamp,
    began: Instant,
    _turn: OwnedMutexGuard<()>,
}

impl OpenRun {
    /// Opens a run for whoever has the system's turn.
    pub(crate) async fn open(
        context: &Arc<Context>,
        request: RunRequest,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self, RuntimeError> {
        let system = context.system(&request.system)?;
        let started_at = context.now();
        let traceparent = Some(traceparent());
        let new = NewRun {
            system: request.system.clone(),
            trigger: request.trigger.to_owned(),
            started_at,
            traceparent: traceparent.clone(),
            worker: context.workforce.as_ref().map(|workforce| workforce.pulse.worker().id),
        };
        let run = context.platform.ledger.open_run(new).await?;
        tracing::info!(system = %request.system, %run, trigger = request.trigger, "run started");
        system.note(|seen| seen.running = Some(run.clone()));
        context.platform.metrics.run_started(&request.system);
        let tag = RunTag { run, traceparent };
        let (context, began) = (Arc::clone(context), context.platform.clock.instant());
        Ok(Self { context, tag, request, started_at, began, _turn: turn })
    }

    pub(crate) fn id(&self) -> &RunId {
        &self.tag.run
    }

    pub(crate) fn tag(&self) -> &RunTag {
        &self.tag
    }

    /// Polls the system's entities, one after the other, and ends the run.
    pub(crate) async fn poll(self) -> RunReport {
        let stop = self.context.stop.all.clone();
        let mut done = Vec::new();
        let polled = tokio::select! {
            biased;
            () = stop.cancelled() => Err(GaveUp::at_once(PollError::Stopped)),
            polled = self.poll_all(&mut done) => polled,
        };
        self.finish(done, polled.err()).await
    }

    async fn poll_all(&self, done: &mut Vec<EntityReport>) -> Result<(), GaveUp> {
        let stop = &self.context.stop.polls;
        let turn = stop.run_until_cancelled(self.context.turns.acquire()).await;
        let Some(Ok(_turn)) = turn else { return Err(GaveUp::at_once(PollError::Stopped)) };
        let Ok(system) = self.context.system(&self.request.system) else {
            return Err(GaveUp::at_once(PollError::Stopped));
        };
        let (mut feed, found) = discover(&self.context, system).await?;
        remember(&self.context, &found.entities).await;
        let Discovery { entities, failed } = self.wanted(found)?;
        for (entity, error) in failed {
            let error = GaveUp::at_once(error.into());
            let report = EntityReport::of(entity, &Tally::default(), Some(error));
            self.note(&report).await;
            done.push(report);
        }
        for spec in entities {
            if stop.is_cancelled() {
                return Err(GaveUp::at_once(PollError::Stopped));
            }
            self.context.crew.ensure(&self.context, &spec).await;
            let (used, report) = self.poll_one(feed, spec).await;
            feed = used.unwrap_or_else(|| Feed::new(&self.context, &system.spec));
            done.push(report);
        }
        Ok(())
    }

    fn wanted(&self, mut found: Discovery) -> Result<Discovery, GaveUp> {
        let Some(name) = &self.request.entity else { return Ok(found) };
        found.entities.retain(|spec| spec.name == *name);
        found.failed.retain(|(entity, _)| entity.entity == *name);
        if found.entities.is_empty() && found.failed.is_empty() {
            let what = format!("there is no entity `{}.{name}`", self.request.system);
            return Err(GaveUp::at_once(SourceError::Misconfigured(what).into()));
        }
        Ok(found)
    }

    /// Polls one entity in a task of its own, so that a panic ends this entity and no other. The
    /// source is lost with it.
    async fn poll_one(&self, mut feed: Feed, spec: EntitySpec) -> (Option<Feed>, EntityReport) {
        let (context, tag) = (Arc::clone(&self.context), self.tag.clone());
        let (entity, tally) = (spec.id(), Arc::new(Tally::default()));
        let brought = Arc::clone(&tally);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let result = poll_entity(&context, &mut feed, &spec, &tag, &brought).await;
            (feed, result)
        }));
        let (feed, result) = match task.await {
            Ok((feed, result)) => (Some(feed), result),
            Err(error) => (None, Err(GaveUp::at_once(ended_badly(&error)))),
        };
        let report = EntityReport::of(entity, &tally, result.err());
        self.note(&report).await;
        (feed, report)
    }

    /// Tells the ledger how an entity fared.
    pub(crate) async fn note(&self, report: &EntityReport) {
        if let Some(reason) = &report.reason {
            tracing::warn!(run = %self.tag.run, entity = %report.entity, reason, "entity failed");
        }
        let step = EntityStep {
            run: self.tag.run.clone(),
            entity: report.entity.clone(),
            layer: None,
            status: report.status,
            reason: report.reason.clone(),
            records: report.published,
            at: self.context.now(),
        };
        if let Err(error) = self.context.platform.ledger.note_step(step).await {
            tracing::warn!(run = %self.tag.run, %error, "the ledger did not take an entity's step");
        }
    }

    /// Ends the run in the ledger, and gives the system's turn back.
    pub(crate) async fn finish(
        self,
        entities: Vec<EntityReport>,
        error: Option<GaveUp>,
    ) -> RunReport {
        let (status, reason) = verdict(&entities, error.as_ref());
        let mut report = RunReport {
            run: self.tag.run.clone(),
            system: self.request.system.clone(),
            trigger: self.request.trigger.to_owned(),
            status,
            reason,
            started_at: self.started_at,
            ended_at: self.context.now(),
            entities,
        };
        if let Err(error) = self.write_end(&report).await {
            // What it published is durable, but nobody who looks will find that it has ended.
            report.status = RunStatus::Failed;
            report.reason.get_or_insert(format!("its end is not in the ledger: {error}"));
        }
        self.context.platform.metrics.run_finished(
            &report.system,
            report.status.as_str(),
            report.ended_at.as_microsecond(),
            self.context.platform.clock.since(self.began),
        );
        if let Ok(system) = self.context.system(&report.system) {
            system.note(|seen| {
                seen.running = None;
                seen.last = Some(report.clone());
            });
        }
        self.context.outbox.notify_one();
        tracing::info!(
            system = %report.system, run = %report.run, status = report.status.as_str(),
            reason = report.reason, polled = report.polled(), published = report.published(),
            "run ended"
        );
        report
    }

    async fn write_end(&self, report: &RunReport) -> Result<(), LedgerError> {
        let end = RunEnd {
            status: report.status,
            reason: report.reason.clone(),
            ended_at: report.ended_at,
            entities: report.counts(),
            polled: report.polled(),
            published: report.published(),
        };
        let mut attempts = Attempts::new(&self.context.platform.settings.retry);
        let ledger = &self.context.platform.ledger;
        while let Err(error) = ledger.finish_run(&self.tag.run, end.clone()).await {
            tracing::error!(run = %self.tag.run, %error, "the ledger did not take a run's end");
            let pause = attempts.pause(error.remedy(), &self.context.stop.all).await;
            if pause.is_err() || self.context.stop.all.is_cancelled() {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Connects to a system and asks it for its entities, in a task of its own: a panic is an error.
pub(crate) async fn discover(
    context: &Arc<Context>,
    system: &SystemState,
) -> Result<(Feed, Discovery), GaveUp> {
    let mut feed = Feed::new(context, &system.spec);
    let stop = context.stop.polls.clone();
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let found = feed.discover(&stop).await;
        found.map(|found| (feed, found))
    }));
    task.await.unwrap_or_else(|error| Err(GaveUp::at_once(ended_badly(&error))))
}

/// Keeps what sources told of their entities, here and in the ledger, so that after a restart the
/// layers can go on without them.
pub(crate) async fn remember(context: &Context, specs: &[EntitySpec]) {
    let is_news = context.learn(specs);
    if !is_news && !context.is_untold.load(Ordering::Relaxed) {
        return;
    }
    let platform = &context.platform;
    let (entities, now) = (context.entities(), context.now());
    let stored = platform.ledger.store_metadata(&platform.systems, &entities, now).await;
    // Then it is told again with the next run: other workers hear of it from there alone.
    context.is_untold.store(stored.is_err(), Ordering::Relaxed);
    if let Err(error) = stored {
        tracing::warn!(%error, "the ledger did not take what sources told of their entities");
    }
    if let Some(workforce) = &context.workforce {
        workforce.settle(context).await;
    }
}

fn ended_badly(error: &tokio::task::JoinError) -> PollError {
    if error.is_panic() { PollError::Panicked } else { PollError::Stopped }
}

/// A W3C trace context for a new trace.
fn traceparent() -> String {
    let span = Uuid::new_v4().simple().to_string();
    format!("00-{}-{}-01", Uuid::new_v4().simple(), &span[..16])
}

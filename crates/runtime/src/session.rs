//! A session of a layer: opens the stage, asks the lake how far it got, and goes on from there:
//! fetch, apply, tell the ledger, tell the bus.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_ledger::Reconciled;
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, Delivery, EntityId, FencingToken, FetchLimit, Ownership, RunId, Stage, StageError,
};
use tokio::sync::watch;

use crate::board::LayerPhase;
use crate::context::Context;
use crate::error::LayerError;
use crate::layer::Job;
use crate::reader::Reader;
use crate::recorder::Recorder;
use crate::stops;
use crate::untold;
use crate::upkeep::Steps;

/// How long an idle layer waits for a message before it looks around.
const IDLE_WAIT: Duration = Duration::from_secs(5);
/// What an idle layer takes at once, without asking for a share of the memory. Where more has come,
/// the next batch is larger.
const IDLE_BYTES: usize = 1 << 20;

/// Works until the layer is asked to end, or something goes wrong. Each epoch has a session of its
/// own.
pub(crate) async fn hold(context: &Arc<Context>, job: &Job) -> Result<(), LayerError> {
    if job.owner.is_some() && !has_come(context, job).await? {
        return Ok(());
    }
    while Session::open(context, job).await?.go().await? == Went::EndOfEpoch {}
    Ok(())
}

/// Waits until the topic has a first message: of an entity of which nothing ever came, nothing is to
/// be made in the lake. False if the layer is to end.
async fn has_come(context: &Context, job: &Job) -> Result<bool, LayerError> {
    let (platform, entity) = (&context.platform, job.spec.id());
    let (epoch, end) = platform.publisher.end(&entity).await?;
    if end > 0 {
        return Ok(true);
    }
    job.slot.update(|state| {
        state.phase = LayerPhase::Running;
        state.epoch = Some(epoch);
    });
    let mut bus = platform.subscribe.subscribe(&entity, job.layer, job.token()).await?;
    let limit = FetchLimit { records: 1, bytes: 1, wait: IDLE_WAIT };
    loop {
        let came = tokio::select! {
            biased;
            () = context.stop.layers.cancelled() => return Ok(false),
            () = job.leave.cancelled() => return Ok(false),
            delivery = bus.fetch(limit) => !delivery?.is_empty(),
        };
        if came {
            return Ok(true);
        }
    }
}

/// How far a session went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    /// Until the layer was asked to end.
    AsAsked,
    /// Until the end of an epoch that another one follows.
    EndOfEpoch,
}

struct Session<'a> {
    context: &'a Arc<Context>,
    job: &'a Job,
    entity: EntityId,
    stage: Box<dyn Stage>,
    reader: Reader,
    recorder: Recorder<'a>,
    /// The offset of the last message that is durable in the layer.
    durable: u64,
    /// Since when the stage holds something that is not durable.
    lingering: Option<Instant>,
    wanted: watch::Receiver<u64>,
    last_run: Option<RunId>,
    /// Whether more waits than what was fetched.
    behind: bool,
    upkeep: Steps,
}

impl<'a> Session<'a> {
    async fn open(context: &'a Arc<Context>, job: &'a Job) -> Result<Self, LayerError> {
        let entity = job.spec.id();
        let zone = context.system(&entity.system).map(|system| system.spec.timezone.clone());
        let zone = zone.unwrap_or_else(|_| "UTC".to_owned());
        let stages = &context.platform.stages;
        let mut stage = stages.open(&job.spec, &zone, job.layer, job.owner.as_ref()).await?;
        let progress = stage.progress().await?;
        let recorder = Recorder::new(context, &entity, job.layer);
        if let Some(progress) = &progress {
            untold::tell(context, job, &zone, progress).await?;
        }
        // What was read may be old by now: the ledger is held only against what is ours, and looks
        // itself whether it is.
        job.must_hold()?;
        let owner = job.owner.as_ref().map(Ownership::token);
        reconcile(&recorder, progress.as_ref(), owner).await?;
        let epochs = stages.epochs(&entity).await?;
        let reader = Reader::open(context, job, progress.as_ref(), &epochs).await?;
        stops::works(context, &entity, job.layer).await;
        let durable = reader.at();
        job.slot.update(|state| {
            state.epoch = Some(reader.epoch());
            state.applied = durable;
            state.phase = LayerPhase::Running;
        });
        let wanted = job.slot.wanted();
        let mut session = Self {
            context,
            job,
            entity,
            stage,
            reader,
            recorder,
            durable,
            lingering: None,
            wanted,
            last_run: None,
            behind: false,
            upkeep: Steps::default(),
        };
        session.look_around().await?;
        Ok(session)
    }

    async fn go(mut self) -> Result<Went, LayerError> {
        loop {
            self.job.must_hold()?;
            if self.must_flush() {
                self.flush().await?;
            }
            if self.reader.has_ended() && self.lingering.is_none() {
                return Ok(Went::EndOfEpoch);
            }
            if self.is_done() {
                return Ok(Went::AsAsked);
            }
            self.one_batch().await?;
            self.look_around().await?;
            if self.upkeep.is_time(self.behind) {
                self.upkeep.step(self.context, self.job, self.stage.as_mut()).await;
            }
        }
    }

    /// Fetches and applies a batch. Somebody who wants something of the layer interrupts the wait
    /// for messages, never the work.
    async fn one_batch(&mut self) -> Result<(), LayerError> {
        let layer = self.job.layer;
        let settings = &self.context.platform.settings;
        let room = match self.behind {
            true => self.context.budget.take(layer, settings.batch_bytes).await,
            false => None,
        };
        let (mut share, bytes) = match room {
            Some((share, bytes)) => (Some(share), bytes),
            None => (None, IDLE_BYTES.min(settings.batch_bytes)),
        };
        let limit = FetchLimit { records: settings.batch_records, bytes, wait: self.wait() };
        let Some(delivery) = self.fetch(limit).await? else { return Ok(()) };
        if let Some(share) = &mut share {
            share.shrink_to(delivery.bytes());
        }
        if delivery.is_empty() { Ok(()) } else { self.apply(delivery).await }
    }

    /// `None` where somebody wanted something meanwhile.
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Option<Delivery>, LayerError> {
        let (stop, leave) = (self.context.stop.layers.clone(), self.job.leave.clone());
        let leaving = stop.is_cancelled() || leave.is_cancelled();
        let delivery = tokio::select! {
            biased;
            _ = self.wanted.changed() => None,
            () = stop.cancelled(), if !leaving => None,
            () = leave.cancelled(), if !leaving => None,
            delivery = self.reader.fetch(limit) => Some(delivery?),
        };
        if delivery.is_none() {
            self.reader.again().await?;
        }
        Ok(delivery)
    }

    async fn apply(&mut self, delivery: Delivery) -> Result<(), LayerError> {
        let last = delivery.messages.last();
        if let Some(run) = last.and_then(|m| m.headers.get(alluvium_wire::headers::RUN)) {
            self.last_run = Some(RunId(run.to_owned()));
        }
        let started = self.context.platform.clock.instant();
        let applied = self.stage.apply(&delivery).await?;
        let took = self.context.platform.clock.since(started);
        self.context.platform.metrics.delivery_applied(&self.entity, self.job.layer, took);
        drop(delivery);
        self.landed(applied).await
    }

    async fn flush(&mut self) -> Result<(), LayerError> {
        let applied = self.stage.flush().await?;
        self.landed(applied).await?;
        if self.durable < self.reader.at() {
            let at = self.durable;
            let what = format!("a flush left what lies after offset {at} behind");
            return Err(StageError::Bug(what).into());
        }
        Ok(())
    }

    /// What became durable goes to the ledger, then the bus may drop it.
    async fn landed(&mut self, applied: Vec<Applied>) -> Result<(), LayerError> {
        if !applied.is_empty() {
            self.recorder.record(&applied, self.last_run.as_ref()).await?;
            for batch in &applied {
                self.commit(batch).await?;
                self.durable = self.durable.max(batch.span.to);
            }
            self.lingering = None;
            self.show(&applied);
        }
        if self.durable < self.reader.at() && self.lingering.is_none() {
            self.lingering = Some(self.context.platform.clock.instant());
        }
        Ok(())
    }

    async fn commit(&mut self, batch: &Applied) -> Result<(), LayerError> {
        let started = self.context.platform.clock.instant();
        self.reader.commit(&batch.span).await?;
        let took = self.context.platform.clock.since(started);
        self.context.platform.metrics.committed(self.job.layer, took);
        Ok(())
    }

    fn show(&self, applied: &[Applied]) {
        let now = self.context.now();
        self.job.slot.update(|state| {
            state.applied = self.durable;
            state.batches += applied.len() as u64;
            state.records += applied.iter().map(|batch| batch.counts.records).sum::<u64>();
            state.last_batch_at = Some(now);
            state.error = None;
            state.failures = 0;
        });
    }

    async fn look_around(&mut self) -> Result<(), LayerError> {
        self.behind = self.reader.is_behind().await?;
        let phase = match self.reader.is_replaying() {
            true => LayerPhase::Replaying,
            false => LayerPhase::Running,
        };
        if self.job.slot.state().phase != phase {
            self.job.slot.update(|state| state.phase = phase);
        }
        Ok(())
    }

    /// Whether what lingers is to be landed now: it has lingered long enough, somebody waits for
    /// it, or the layer is to end.
    fn must_flush(&mut self) -> bool {
        let Some(since) = self.lingering else { return false };
        let settings = &self.context.platform.settings;
        let wanted = *self.wanted.borrow_and_update();
        let is_wanted = wanted > self.durable && (self.reader.at() >= wanted || !self.behind);
        let is_last = self.job.leave.is_cancelled()
            || self.reader.has_ended()
            || (self.context.stop.layers.is_cancelled() && !self.behind);
        is_wanted || is_last || self.context.platform.clock.since(since) >= settings.raw_linger
    }

    fn is_done(&self) -> bool {
        let nothing_in_hand = self.lingering.is_none();
        let stopping = self.context.stop.layers.is_cancelled() && !self.behind;
        nothing_in_hand && (self.job.leave.is_cancelled() || stopping)
    }

    /// How long to wait for a message: not longer than what lingers may.
    fn wait(&self) -> Duration {
        let Some(since) = self.lingering else { return IDLE_WAIT };
        let lingered = self.context.platform.clock.since(since);
        self.context.platform.settings.raw_linger.saturating_sub(lingered).min(IDLE_WAIT)
    }
}

async fn reconcile(
    recorder: &Recorder<'_>,
    progress: Option<&Progress>,
    owner: Option<FencingToken>,
) -> Result<(), LayerError> {
    match recorder.reconcile(progress, owner).await? {
        Reconciled::Equal => {}
        Reconciled::Filled(span) => {
            tracing::info!(%span, "the ledger had not heard of what the lake has; filled");
        }
        Reconciled::Rewound { from, to } => {
            tracing::warn!(from, to, "the lake has less than the ledger counted; rewound");
        }
        Reconciled::Differs(finding) => {
            tracing::error!(?finding, "the ledger and the lake tell different counts");
        }
    }
    Ok(())
}

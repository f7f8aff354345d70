//! What a layer reads: the bus, and where the bus no longer has it, the same messages from raw.

use std::sync::Arc;

use alluvium_model::outcome::Progress;
use alluvium_model::{
    BusError, Delivery, EntityId, Epoch, Epochs, FetchLimit, Layer, Position, Span, Subscriber,
};

use crate::context::Context;
use crate::layer::Job;

/// One layer's reader of one topic.
pub(crate) struct Reader {
    context: Arc<Context>,
    entity: EntityId,
    layer: Layer,
    bus: Box<dyn Subscriber>,
    /// Set while the bus no longer has what comes next.
    replay: Option<Replay>,
    epoch: Epoch,
    /// Where the epoch ends, if it is not the one on the bus: only raw has it.
    ends: Option<u64>,
    at: u64,
}

struct Replay {
    from_raw: Box<dyn Subscriber>,
    /// The bus has everything after this offset.
    until: u64,
}

impl Reader {
    /// A reader that stands where the lake says that the layer got, or before the first message.
    /// [`BusError::UnexpectedEpoch`] where the topic is another one, and nobody accepted that.
    pub(crate) async fn open(
        context: &Arc<Context>,
        job: &Job,
        progress: Option<&Progress>,
        epochs: &Epochs,
    ) -> Result<Self, BusError> {
        let (entity, layer) = (job.spec.id(), job.layer);
        let (on_bus, _) = context.platform.publisher.end(&entity).await?;
        let first = match layer {
            Layer::Raw => on_bus,
            _ => epochs.first.unwrap_or(on_bus),
        };
        let (epoch, at) = progress.map_or((first, 0), |p| (p.epoch, p.offset));
        let (epoch, at) = epochs.go_on(epoch, at);
        let ends = epochs.end_of(epoch);
        // An epoch that is over is read from raw, any other one must be the one on the bus.
        if ends.is_some() == (epoch == on_bus) || (ends.is_some() && layer == Layer::Raw) {
            let expected = epochs.accepted.last().map_or(epoch, |step| step.to.max(epoch));
            let (topic, found) = (entity, on_bus);
            return Err(BusError::UnexpectedEpoch { topic, expected, found });
        }
        let span = Span { epoch, after: at, to: ends.unwrap_or(at) };
        let mut reader = Self::standing(context, job, span, ends).await?;
        if at > 0 {
            // The lake is ahead of what the bus was told if the process ended in between.
            reader.commit(&Span { epoch, after: 0, to: at }).await?;
        }
        Ok(reader)
    }

    /// A reader of what the layer has applied before. Reading it once more makes no progress.
    pub(crate) async fn once_more(
        context: &Arc<Context>,
        job: &Job,
        span: Span,
    ) -> Result<Self, BusError> {
        let (on_bus, _) = context.platform.publisher.end(&job.spec.id()).await?;
        let ends = (span.epoch != on_bus).then_some(span.to);
        Self::standing(context, job, span, ends).await
    }

    async fn standing(
        context: &Arc<Context>,
        job: &Job,
        span: Span,
        ends: Option<u64>,
    ) -> Result<Self, BusError> {
        let (context, entity, layer) = (Arc::clone(context), job.spec.id(), job.layer);
        let bus = context.platform.subscribe.subscribe(&entity, layer, job.token()).await?;
        let Span { epoch, after: at, .. } = span;
        let mut reader = Self { context, entity, layer, bus, replay: None, epoch, ends, at };
        reader.seek(at).await?;
        Ok(reader)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The offset of the last message that was fetched.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Whether all of an epoch that is over was fetched: what comes next is of another one.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends.is_some_and(|end| self.at >= end)
    }

    /// Whether there is more than what was fetched.
    pub(crate) async fn is_behind(&mut self) -> Result<bool, BusError> {
        if self.ends.is_some() {
            return Ok(true);
        }
        let (_, end) = self.context.platform.publisher.end(&self.entity).await?;
        Ok(end > self.at)
    }

    /// The next messages. Where it is dropped before it is done, [`Reader::again`] must follow.
    pub(crate) async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        let delivery = self.fetch_somewhere(limit).await?;
        self.at = self.at.max(delivery.span.to);
        let caught_up = self.replay.as_ref().is_some_and(|replay| self.at >= replay.until);
        if caught_up && self.ends.is_none() {
            self.seek(self.at).await?;
        }
        Ok(delivery)
    }

    /// Stands again where the last whole fetch ended.
    pub(crate) async fn again(&mut self) -> Result<(), BusError> {
        self.seek(self.at).await
    }

    /// Tells the bus, if it has that epoch.
    pub(crate) async fn commit(&mut self, span: &Span) -> Result<(), BusError> {
        match self.ends {
            Some(_) => Ok(()),
            None => self.bus.commit(span).await,
        }
    }

    /// Goes on after `offset`, on the bus if it can, else from raw. Raw itself has nothing else to
    /// read from.
    async fn seek(&mut self, offset: u64) -> Result<(), BusError> {
        let after = Position { epoch: self.epoch, offset, index: 0 };
        self.at = offset;
        if let Some(end) = self.ends {
            self.replay = Some(self.replay_from(after, end).await?);
            return Ok(());
        }
        match self.bus.seek(&after).await {
            Ok(()) => {
                self.replay = None;
                Ok(())
            }
            Err(BusError::Gone { first_after, .. }) if self.layer != Layer::Raw => {
                tracing::info!(
                    entity = %self.entity, layer = %self.layer, offset, until = first_after,
                    "the bus no longer has what comes next; reading it from raw"
                );
                self.replay = Some(self.replay_from(after, first_after).await?);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn replay_from(&mut self, after: Position, until: u64) -> Result<Replay, BusError> {
        let stages = &self.context.platform.stages;
        let from_raw = stages.replay(&self.entity, Some(after)).await?;
        Ok(Replay { from_raw, until })
    }

    /// What is neither on the bus nor in raw is an error, never a skip.
    async fn fetch_somewhere(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        if self.replay.is_none() {
            match self.bus.fetch(limit).await {
                Err(BusError::Gone { .. }) => self.seek(self.at).await?,
                result => return result,
            }
        }
        let Some(replay) = &mut self.replay else { return self.bus.fetch(limit).await };
        let delivery = replay.from_raw.fetch(limit).await?;
        if !delivery.is_empty() {
            return Ok(delivery);
        }
        let first_after = replay.until;
        Err(BusError::Gone { topic: self.entity.clone(), first_after, asked: self.at })
    }
}

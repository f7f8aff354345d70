//! The steps before a move counts: the topics and how far sources were read, on the new bus; and then
//! the mark on the old one.

use alluvium_bus::{Mark, Move, carry, fence};
use alluvium_layers::epoch;
use alluvium_model::{Clock, CursorRecord, EntityId, Epoch, SystemClock};

use super::sole::Sole;
use super::{Migration, published_meanwhile};
use crate::buses;
use crate::command::progress::Bar;
use crate::exit::UsageError;
use crate::tenancy::Tenancy;

/// A topic that was made on the new bus.
struct Prepared {
    id: EntityId,
    /// Where it ends on the old bus.
    end: (Epoch, u64),
    /// How far its source was read, on both.
    cursor: Option<CursorRecord>,
}

impl Migration<'_> {
    /// Everything up to the moment at which the move counts. What is prepared here is of no account
    /// before.
    pub(super) async fn leave(
        &self,
        sole: &Sole,
        tenancy: Option<Tenancy>,
    ) -> anyhow::Result<Move> {
        let ids = self.topics().await?;
        let of = ids.len() as u64;
        let bar = Bar::new(self.cli.quiet, "making the topics");
        let mut topics = Vec::new();
        for (id, done) in ids.into_iter().zip(0..) {
            bar.set(done, of);
            topics.push(self.prepare(id).await?);
        }
        let (from, to) = (buses::place(self.settings).to_string(), self.to.to_string());
        let begun_at_ms = SystemClock.now().as_millisecond();
        let made = Move::begin(from, to, begun_at_ms, self.reached.as_ref());
        bar.say("carrying over how far sources were read");
        // Who has stood still until another had ended the move fails here, on the bus that was left.
        self.fence_all(sole).await?;
        self.mark_arriving(sole, &made).await?;
        for (topic, done) in topics.iter_mut().zip(0..) {
            bar.set(done, of);
            topic.cursor = carry(self.wired.bus.as_ref(), self.new.as_ref(), &topic.id).await?;
        }
        bar.finish();
        self.check_still(&made, &topics).await?;
        sole.check().await?;
        // A bus that was left is nobody's, and we are not to be told that it is ours no more.
        drop(tenancy);
        self.put(&self.wired.bus, &Mark::Left(made.clone()), self.left.as_ref()).await?;
        Ok(made)
    }

    /// Makes a topic on the new bus, where it must be empty and of a later epoch.
    async fn prepare(&self, id: EntityId) -> anyhow::Result<Prepared> {
        let end = self.wired.bus.end(&id).await?;
        let (next, messages) = self.new.end(&id).await?;
        if messages > 0 {
            return Err(UsageError(format!(
                "{} has messages of {id}: it is no empty bus. Give this installation one of its \
                 own, or another prefix",
                self.to
            ))
            .into());
        }
        match epoch::obstacle(&self.wired.lake, &id, end, next).await? {
            Some(obstacle) => Err(anyhow::anyhow!(obstacle)),
            None => Ok(Prepared { id, end, cursor: None }),
        }
    }

    /// Who was at work before, and stands still, publishes nothing any more with the lease that it had:
    /// of nothing, for it may just have begun.
    async fn fence_all(&self, sole: &Sole) -> anyhow::Result<()> {
        sole.check().await?;
        for id in self.entities().await? {
            let token = sole.poll_token(&id).ok_or_else(|| published_meanwhile(&id))?;
            let copy = self.wired.ledger.cursor(&id).await?;
            fence(self.wired.bus.as_ref(), &id, token, copy).await?;
        }
        Ok(())
    }

    /// Somebody on another machine may have been at work all the same: nothing counts yet.
    async fn check_still(&self, made: &Move, topics: &[Prepared]) -> anyhow::Result<()> {
        if self.new.mark().await?.as_ref() != Some(&Mark::Arriving(made.clone())) {
            return Err(self.moved_by_another());
        }
        for topic in topics {
            let end = self.wired.bus.end(&topic.id).await?;
            if end != topic.end || self.wired.bus.cursor(&topic.id).await? != topic.cursor {
                return Err(published_meanwhile(&topic.id));
            }
        }
        Ok(())
    }

    /// Nobody uses the new bus from here on. Two names may lead to one bus: then it gets back what
    /// lets it be used.
    async fn mark_arriving(&self, sole: &Sole, made: &Move) -> anyhow::Result<()> {
        let arriving = Mark::Arriving(made.clone());
        // Another may have ended the move since, and the new bus be in use.
        sole.check().await?;
        if self.wired.bus.mark().await? != self.left {
            return Err(self.moved_by_another());
        }
        self.put(&self.new, &arriving, self.reached.as_ref()).await?;
        if self.wired.bus.mark().await?.as_ref() != Some(&arriving) {
            return Ok(());
        }
        self.put(&self.new, &Mark::Arrived(made.clone()), Some(&arriving)).await?;
        let text = format!("{} is the bus that the settings name, by another name", self.to);
        Err(UsageError(text).into())
    }
}

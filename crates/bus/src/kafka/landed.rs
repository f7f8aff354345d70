//! How far raw has landed, as processes tell each other on the topic of the cursor records: the one in
//! which raw runs tells it, and others learn from it what room their publishers have.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use alluvium_model::{BusError, EntityId, Epoch, Layer};
use futures::{StreamExt as _, TryStreamExt as _};

use super::cursors::{Landed, landed_entry};
use super::keeper::{ROUND, warn};
use super::shared::Shared;
use super::topic::Topic;

/// Of so many topics at once it is told.
const AT_ONCE: usize = 64;
/// What was told and cannot be read yet, as behind somebody's open transaction, is told again after
/// so long.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells and asks until the bus is dropped or closed.
pub(super) async fn keep(shared: Weak<Shared>) {
    let (mut telling, mut warned) = (Telling::default(), false);
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(shared) = shared.upgrade().filter(|s| !s.closed.load(Ordering::Relaxed)) else {
            return;
        };
        let told = telling.round(&shared, shared.known_topics()).await;
        let why = "how far raw is cannot be asked or told; publishers in other processes than \
                   raw's may have to wait";
        warn(&mut warned, told.as_ref().err(), why);
    }
}

/// What this process has told last.
#[derive(Default)]
pub(super) struct Telling {
    said: HashMap<EntityId, Said>,
}

/// What was told, and what had been told before.
struct Said {
    epoch: Epoch,
    landed: Landed,
    before: Option<Landed>,
    at: Instant,
}

impl Telling {
    /// Takes up how far raw has landed where a publisher may wait for that, or brokers may remove what
    /// it has not, and tells it where raw runs in this process. What was told is read before more is:
    /// the last word may be that of a process that stood still and no longer lands.
    pub(super) async fn round(
        &mut self,
        shared: &Shared,
        mut topics: Vec<Arc<Topic>>,
    ) -> Result<(), BusError> {
        topics.retain(|topic| {
            topic.backlog.is_waiting() || topic.landed().is_some() || topic.may_lose()
        });
        if topics.is_empty() {
            return Ok(());
        }
        let read = shared.cursors.refresh(&shared.looker).await;
        for topic in &topics {
            take_up(shared, topic, read.as_ref().err());
        }
        read?;
        let news: Vec<_> = topics.iter().filter_map(|topic| self.news(shared, topic)).collect();
        let telling = futures::stream::iter(news).map(Ok);
        let told = telling.try_for_each_concurrent(AT_ONCE, |(id, said)| tell(shared, id, said));
        told.await.inspect_err(|_| self.said.clear())
    }

    /// What there is to tell: how far raw has landed where it runs in this process, if that is more than
    /// what is told.
    fn news(&mut self, shared: &Shared, topic: &Topic) -> Option<(EntityId, (Epoch, Landed))> {
        let before = shared.cursors.landed(&topic.id, topic.epoch);
        let landed = topic.landed().map(|to| Landed { landed: to, next: topic.next_behind(to) });
        let landed = landed.filter(|landed| before.is_none_or(|told| told < *landed))?;
        let epoch = topic.epoch;
        let is_news = self.said.get(&topic.id).is_none_or(|said| {
            let same = (said.epoch, said.landed, said.before) == (epoch, landed, before);
            !same || shared.clock.since(said.at) >= AGAIN
        });
        let said = Said { epoch, landed, before, at: shared.clock.instant() };
        is_news.then(|| {
            self.said.insert(topic.id.clone(), said);
            (topic.id.clone(), (epoch, landed))
        })
    }
}

/// Takes up what is told of a topic. Where raw runs in this process, it knows better.
fn take_up(shared: &Shared, topic: &Topic, failed: Option<&BusError>) {
    let told = shared.cursors.landed(&topic.id, topic.epoch);
    if let Some(told) = told {
        topic.backlog.land(told.landed);
    }
    let untold = match (failed, told) {
        (Some(error), _) => Some(error.to_string()),
        (None, None) => Some(format!(
            "{} does not say how far {} has landed; is a worker running that lands raw?",
            shared.cursors.topic, topic.name
        )),
        (None, Some(_)) => None,
    };
    topic.backlog.untold(untold.filter(|_| !topic.is_read_by(Layer::Raw)));
}

async fn tell(
    shared: &Shared,
    entity: EntityId,
    (epoch, landed): (Epoch, Landed),
) -> Result<(), BusError> {
    let (key, value) = landed_entry(&entity, epoch, landed)?;
    shared.pusher.write(shared, &shared.cursors.topic, &key, &value).await
}

//! What is done beside publishing and reading: asking the brokers how topics are, telling and asking
//! how far raw is, removing what raw has landed where it runs, and ending producers that nobody uses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use alluvium_model::{BusError, Layer};
use futures::{StreamExt as _, TryStreamExt as _};

use super::cursors::landed_entry;
use super::shared::Shared;
use super::topic::Topic;

/// How often the brokers are asked.
const ROUND: Duration = Duration::from_secs(5);
/// Of so many topics at once it is told how far raw is.
const AT_ONCE: usize = 64;

/// Keeps the bus in order until it is dropped or closed.
pub(super) async fn keep(shared: Weak<Shared>) {
    let mut keeper = Keeper::default();
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(shared) = shared.upgrade().filter(|s| !s.closed.load(Ordering::Relaxed)) else {
            return;
        };
        keeper.round(&shared).await;
    }
}

#[derive(Default)]
struct Keeper {
    /// Whether the brokers said that they remove nothing for us.
    denied: bool,
    /// Whether it was warned that topics cannot be looked after, and that it is not known how far raw
    /// is: once, until it goes on.
    warned: [bool; 2],
}

impl Keeper {
    async fn round(&mut self, shared: &Arc<Shared>) {
        let topics = shared.known_topics();
        let mut failed = None;
        for topic in &topics {
            if let Err(error) = self.look_after(shared, topic).await {
                tracing::debug!(topic = %topic.id, %error, "a topic could not be looked after");
                failed = Some(error);
            }
            if let Ok(mut owner) = topic.owner.try_lock() {
                owner.idles(shared, topic);
            }
        }
        warn(&mut self.warned[0], failed.as_ref(), "topics could not be looked after");
        let followed = follow_raw(shared, topics).await;
        let why = "how far raw is cannot be asked or told; publishers in other processes than \
                   raw's may have to wait";
        warn(&mut self.warned[1], followed.as_ref().err(), why);
    }

    async fn look_after(&mut self, shared: &Arc<Shared>, topic: &Topic) -> Result<(), BusError> {
        let Some(marks) = shared.marks(topic).await? else { return Ok(()) };
        shared.end(topic, marks).await?;
        if !self.denied && !shorten(shared, topic).await? {
            self.denied = true;
            tracing::warn!(
                "the brokers do not let us remove messages that raw has landed; let us delete \
                 records, or see to the topics' retention yourself"
            );
        }
        Ok(())
    }
}

/// Takes up how far raw has landed where a publisher may wait for that, and tells it where raw runs in
/// this process. What was told is read before more is: the last word may be that of a process that
/// stood still and no longer lands.
pub(super) async fn follow_raw(
    shared: &Shared,
    mut topics: Vec<Arc<Topic>>,
) -> Result<(), BusError> {
    topics.retain(|topic| topic.backlog.is_waiting() || topic.landed().is_some());
    if topics.is_empty() {
        return Ok(());
    }
    let read = shared.cursors.refresh(&shared.looker).await;
    for topic in &topics {
        take_up(shared, topic, read.as_ref().err());
    }
    read?;
    let news =
        topics.iter().filter_map(|topic| news(shared, topic)).collect::<Result<Vec<_>, _>>()?;
    let telling = futures::stream::iter(news).map(Ok);
    telling.try_for_each_concurrent(AT_ONCE, |(key, value)| tell(shared, key, value)).await
}

/// Takes up what is told of a topic. Where raw runs in this process, it knows better.
fn take_up(shared: &Shared, topic: &Topic, failed: Option<&BusError>) {
    let told = shared.cursors.landed(&topic.id, topic.epoch);
    if let Some(landed) = told {
        topic.backlog.land(landed);
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

/// What there is to tell: how far raw has landed where it runs in this process, and that is more than
/// what is told.
fn news(shared: &Shared, topic: &Topic) -> Option<Result<(String, Vec<u8>), BusError>> {
    let told = shared.cursors.landed(&topic.id, topic.epoch);
    let landed = topic.landed().filter(|landed| told.is_none_or(|told| told < *landed))?;
    Some(landed_entry(&topic.id, topic.epoch, landed))
}

async fn tell(shared: &Shared, key: String, value: Vec<u8>) -> Result<(), BusError> {
    shared.pusher.write(shared, &shared.cursors.topic, &key, &value).await
}

/// Warns of what goes wrong, once until it goes right again.
fn warn(warned: &mut bool, failed: Option<&BusError>, what: &str) {
    if let (Some(error), false) = (failed, *warned) {
        tracing::warn!(%error, "{what}");
    }
    *warned = failed.is_some();
}

/// Removes what raw has landed in this process and retention keeps no longer. `false` where the
/// brokers never do.
pub(super) async fn shorten(shared: &Shared, topic: &Topic) -> Result<bool, BusError> {
    let Some((landed, from)) = topic.to_shorten() else { return Ok(true) };
    let landed = i64::try_from(landed).unwrap_or(i64::MAX).saturating_add(1);
    if landed <= from {
        return Ok(true);
    }
    let age = i64::try_from(shared.settings.retention_age.as_millis()).unwrap_or(i64::MAX);
    let oldest = (shared.now_us() / 1000).saturating_sub(age);
    let kept = shared.looker.first_since(&topic.name, oldest).await?;
    let before = kept.map_or(landed, |kept| kept.min(landed));
    if before <= from {
        return Ok(true);
    }
    let done = shared.admin.shorten(&topic.name, before).await?;
    if done {
        tracing::debug!(topic = %topic.id, before, "removed what raw has landed");
        topic.shortened(before);
    }
    Ok(done)
}

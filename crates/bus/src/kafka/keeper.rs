//! What is done beside publishing and reading: asking the brokers how topics are, removing what raw
//! has landed where it runs, and ending producers that nobody uses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use alluvium_model::BusError;

use super::shared::Shared;
use super::topic::Topic;

/// How often the brokers are asked.
pub(super) const ROUND: Duration = Duration::from_secs(5);

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
    /// Whether it was warned that topics cannot be looked after: once, until it goes on.
    warned: bool,
}

impl Keeper {
    async fn round(&mut self, shared: &Arc<Shared>) {
        let mut failed = None;
        for topic in &shared.known_topics() {
            if let Err(error) = self.look_after(shared, topic).await {
                tracing::debug!(topic = %topic.id, %error, "a topic could not be looked after");
                failed = Some(error);
            }
            if let Ok(mut owner) = topic.owner.try_lock() {
                owner.idles(shared, topic);
            }
        }
        warn(&mut self.warned, failed.as_ref(), "topics could not be looked after");
    }

    async fn look_after(&mut self, shared: &Arc<Shared>, topic: &Topic) -> Result<(), BusError> {
        let Some(marks) = shared.marks(topic).await? else { return Ok(()) };
        shared.end(topic, marks).await?;
        shared.ask_since(topic).await?;
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

/// Warns of what goes wrong, once until it goes right again.
pub(super) fn warn(warned: &mut bool, failed: Option<&BusError>, what: &str) {
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

//! What is done beside publishing and reading: asking the brokers how topics are, removing what raw
//! has landed, and ending producers that nobody uses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use alluvium_model::{BusError, Layer};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Context;
use super::look::{PARTITION, place};
use super::mishap::{stopped, told};
use super::shared::Shared;
use super::topic::Topic;

/// How often the brokers are asked.
const ROUND: Duration = Duration::from_secs(5);
/// Producers of polled pages are ended every so many rounds, where nobody uses them.
const REST_ROUNDS: u64 = 12;

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
    rounds: u64,
    /// Asks how far raw is where another process runs it.
    asking: Option<Arc<BaseConsumer<Context>>>,
    /// Whether the brokers said that they remove nothing for us.
    denied: bool,
}

impl Keeper {
    async fn round(&mut self, shared: &Arc<Shared>) {
        self.rounds += 1;
        for topic in shared.known_topics() {
            if let Err(error) = self.look_after(shared, &topic).await {
                tracing::debug!(topic = %topic.id, %error, "a topic could not be looked after");
            }
            if self.rounds.is_multiple_of(REST_ROUNDS)
                && let Ok(mut owner) = topic.owner.try_lock()
            {
                owner.rest();
            }
        }
    }

    async fn look_after(&mut self, shared: &Arc<Shared>, topic: &Topic) -> Result<(), BusError> {
        let Some(marks) = shared.marks(topic).await? else { return Ok(()) };
        shared.end(topic, marks).await?;
        if topic.is_waiting() && !topic.is_read_by(Layer::Raw) {
            self.ask_for_raw(shared, topic).await?;
        }
        if !self.denied && !shorten(shared, topic).await? {
            self.denied = true;
            tracing::warn!(
                "the brokers do not let us remove messages that raw has landed; let us delete \
                 records, or see to the topics' retention yourself"
            );
        }
        Ok(())
    }

    /// Takes up how far raw has landed by its consumer group.
    async fn ask_for_raw(&mut self, shared: &Arc<Shared>, topic: &Topic) -> Result<(), BusError> {
        let asking = match &self.asking {
            Some(asking) => Arc::clone(asking),
            None => Arc::clone(self.asking.insert(Arc::new(asking(shared)?))),
        };
        let (list, patience) = (place(&topic.name, 0)?, shared.settings.patience);
        let asked = tokio::task::spawn_blocking(move || {
            // Its log lines are taken up only so.
            drop(asking.poll(Duration::ZERO));
            asking.committed_offsets(list, patience)
        });
        let list = asked.await.map_err(|e| stopped(&e))?;
        let list = list.map_err(|e| told("asking how far raw is", &e))?;
        if let Some(Offset::Offset(next)) =
            list.find_partition(&topic.name, PARTITION).map(|p| p.offset())
        {
            topic.landed(Layer::Raw, u64::try_from(next - 1).unwrap_or(0));
        }
        Ok(())
    }
}

fn asking(shared: &Shared) -> Result<BaseConsumer<Context>, BusError> {
    let mut config = shared.settings.consumer(&shared.settings.group(Layer::Raw));
    config.set("statistics.interval.ms", "0");
    config.create_with_context(shared.context.clone()).map_err(|e| shared.context.refuses(&e))
}

/// Removes what raw has landed and retention keeps no longer. `false` where the brokers never do.
pub(super) async fn shorten(shared: &Shared, topic: &Topic) -> Result<bool, BusError> {
    let (Some(landed), from) = topic.to_shorten() else { return Ok(true) };
    let landed = i64::try_from(landed).unwrap_or(i64::MAX).saturating_add(1);
    if landed <= from {
        return Ok(true);
    }
    let age = i64::try_from(shared.settings.retention_age.as_millis()).unwrap_or(i64::MAX);
    let oldest = shared.now_ms().saturating_sub(age);
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

//! What is done beside publishing and reading: asking the brokers how topics are and how far raw is,
//! removing what raw has landed where it runs, and ending producers that nobody uses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use alluvium_model::{BusError, Layer};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::look::PARTITION;
use super::mishap::{stopped, told};
use super::settings::ALONE;
use super::shared::Shared;
use super::topic::Topic;

/// How often the brokers are asked.
const ROUND: Duration = Duration::from_secs(5);

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
    /// Asks how far raw is, and says it.
    group: Option<Arc<BaseConsumer<Context>>>,
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
        let followed = self.follow_raw(shared, topics).await;
        let why = "how far raw is cannot be asked or said; publishers in other processes than \
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

    /// Takes up how far raw has landed by its consumer group, where a publisher may wait for that; and
    /// says it there, where raw runs in this process and its group does not say so.
    async fn follow_raw(
        &mut self,
        shared: &Arc<Shared>,
        mut topics: Vec<Arc<Topic>>,
    ) -> Result<(), BusError> {
        let to_say =
            |topic: &Topic| topic.landed().filter(|landed| !topic.backlog.is_shown(*landed));
        topics.retain(|topic| topic.backlog.is_waiting() || to_say(topic).is_some());
        if topics.is_empty() {
            return Ok(());
        }
        let told = self.ask(shared, &topics).await;
        for topic in &topics {
            take_up(topic, told.as_ref());
        }
        let mut missing = TopicPartitionList::new();
        for topic in &topics {
            if let (Ok(_), Some(landed)) = (&told, to_say(topic)) {
                add(&mut missing, &topic.name, Offset::Offset(kafka_offset(landed)))?;
            }
        }
        if missing.count() > 0 {
            self.say(shared, missing).await?;
        }
        told.map(drop)
    }

    /// What raw's group says of the topics.
    async fn ask(
        &mut self,
        shared: &Arc<Shared>,
        topics: &[Arc<Topic>],
    ) -> Result<TopicPartitionList, BusError> {
        let (group, patience) = (self.group(shared)?, shared.settings.patience);
        let mut list = TopicPartitionList::new();
        for topic in topics {
            add(&mut list, &topic.name, Offset::Invalid)?;
        }
        let asked = tokio::task::spawn_blocking(move || {
            // Its log lines are taken up only so.
            drop(group.poll(Duration::ZERO));
            group.committed_offsets(list, patience)
        });
        asked.await.map_err(|e| stopped(&e))?.map_err(|e| told("asking how far raw is", &e))
    }

    /// Commits to raw's group. Whether that says so then is asked in the next round.
    async fn say(
        &mut self,
        shared: &Arc<Shared>,
        landed: TopicPartitionList,
    ) -> Result<(), BusError> {
        let group = self.group(shared)?;
        let said = tokio::task::spawn_blocking(move || group.commit(&landed, CommitMode::Sync));
        said.await.map_err(|e| stopped(&e))?.map_err(|e| told("saying how far raw is", &e))
    }

    fn group(&mut self, shared: &Shared) -> Result<Arc<BaseConsumer<Context>>, BusError> {
        if let Some(group) = &self.group {
            return Ok(Arc::clone(group));
        }
        let mut config = shared.settings.consumer(&shared.settings.group(Layer::Raw), ALONE);
        config.set("statistics.interval.ms", "0");
        let group = config.create_with_context(shared.context.clone());
        let group = group.map_err(|e| shared.context.refuses(&e))?;
        Ok(Arc::clone(self.group.insert(Arc::new(group))))
    }
}

/// Takes up what raw's group says of a topic. Where raw runs in this process, it knows better.
fn take_up(topic: &Topic, told: Result<&TopicPartitionList, &BusError>) {
    let here = topic.is_read_by(Layer::Raw);
    let place = told.map(|list| list.find_partition(&topic.name, PARTITION));
    let untold = match place {
        Err(error) => Some(error.to_string()),
        Ok(None) => Some("the brokers do not know the topic".to_owned()),
        Ok(Some(place)) => match (place.error(), place.offset()) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(()), Offset::Offset(next)) if next > topic.next() => Some(format!(
                "its group has an offset beyond the end of {}: that of an earlier topic",
                topic.name
            )),
            (Ok(()), Offset::Offset(next)) => {
                topic.backlog.shown(u64::try_from(next - 1).unwrap_or(0));
                None
            }
            (Ok(()), _) => Some(format!(
                "its group has no offset of {}; is a worker running that lands raw?",
                topic.name
            )),
        },
    };
    topic.backlog.untold(untold.filter(|_| !here));
}

fn add(list: &mut TopicPartitionList, topic: &str, offset: Offset) -> Result<(), BusError> {
    let added = list.add_partition_offset(topic, PARTITION, offset);
    added.map_err(|e| told("naming an offset", &e))
}

/// Kafka's offset of what comes next to who has everything up to `landed`.
fn kafka_offset(landed: u64) -> i64 {
    i64::try_from(landed).unwrap_or(i64::MAX).saturating_add(1)
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
    let landed = kafka_offset(landed);
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

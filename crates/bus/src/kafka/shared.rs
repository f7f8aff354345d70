//! What both ends of the bus share: the clients, and the topics that this process knows.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_model::{BusError, Clock, EntityId, Epoch};
use rdkafka::message::BorrowedMessage;
use tokio::sync::OnceCell;

use super::admin::Admin;
use super::context::Context;
use super::cursors::{Cursors, epoch_entry};
use super::look::{Looker, Marks};
use super::publish::{self, Pusher};
use super::record::{self, Beginning};
use super::settings::{ALONE, KafkaSettings, LEAST};
use super::topic::Topic;
use crate::prefetch::Prefetch;

/// What both ends of the bus share.
pub(super) struct Shared {
    pub(super) settings: KafkaSettings,
    pub(super) context: Context,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) admin: Admin,
    pub(super) looker: Looker,
    pub(super) cursors: Cursors,
    pub(super) pusher: Pusher,
    pub(super) closed: AtomicBool,
    /// What readers may fetch ahead.
    pub(super) prefetch: Prefetch,
    /// Set once the topic of the audit events is there.
    pub(super) audit: OnceCell<()>,
    topics: Mutex<HashMap<EntityId, Arc<Topic>>>,
    opening: tokio::sync::Mutex<()>,
}

impl Shared {
    pub(super) fn new(settings: KafkaSettings, clock: Arc<dyn Clock>) -> Result<Self, BusError> {
        settings.check()?;
        let context = Context::new(settings.secrets());
        Ok(Self {
            admin: Admin::new(&settings, context.clone())?,
            looker: Looker::new(&settings, context.clone())?,
            cursors: Cursors::new(settings.cursors()),
            pusher: Pusher::default(),
            closed: AtomicBool::new(false),
            prefetch: Prefetch::new(LEAST, ALONE),
            audit: OnceCell::new(),
            topics: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            settings,
            context,
            clock,
        })
    }

    /// Sees to it that the topic of the cursor records is there, and reads it.
    pub(super) async fn begin(&self) -> Result<(), BusError> {
        let topic = &self.cursors.topic;
        let reached = tokio::select! {
            refused = self.looker.refused() => Err(refused),
            reached = self.admin.reach(topic) => reached,
        };
        reached.map_err(|error| self.context.explained(error))?;
        let found = self.admin.ensure(topic, &self.settings.cursors_configs()).await?;
        if let Some(limits) = self.admin.limits(topic, found).await {
            limits.check_cursors(&self.settings, topic, found);
        }
        self.cursors.refresh(&self.looker).await
    }

    /// The topic of an entity, made if it is not there.
    pub(super) async fn topic(&self, id: &EntityId) -> Result<Arc<Topic>, BusError> {
        if let Some(topic) = self.known(id) {
            return Ok(topic);
        }
        let _only_one = self.opening.lock().await;
        if let Some(topic) = self.known(id) {
            return Ok(topic);
        }
        let topic = Arc::new(self.open(id).await?);
        let before = self.topics().get(id).cloned();
        if let Some(landed) = before.as_ref().and_then(|before| before.landed_of(topic.epoch)) {
            topic.has_all(landed)?;
        }
        self.topics().insert(id.clone(), Arc::clone(&topic));
        if let Some(before) = before {
            // Nobody looks after it any more: who waits for room there would wait for ever.
            before.backlog.untold(Some("the topic was made anew".to_owned()));
        }
        Ok(topic)
    }

    /// The topic of an entity and where it begins and ends now. A topic that was made anew meanwhile
    /// is opened anew.
    pub(super) async fn current(&self, id: &EntityId) -> Result<(Arc<Topic>, Marks), BusError> {
        for _ in 0..3 {
            let topic = self.topic(id).await?;
            if let Some(marks) = self.marks(&topic).await? {
                return Ok((topic, marks));
            }
        }
        Err(BusError::Unavailable(format!("topic {id} is being made anew again and again")))
    }

    /// Where a topic begins and ends now. `None` if it is not the one that this process knows: it is
    /// not there, or ends before where it was seen to end. Then nobody is to use it any more.
    pub(super) async fn marks(&self, topic: &Topic) -> Result<Option<Marks>, BusError> {
        let before = topic.marks().high;
        let marks = self.looker.marks(&topic.name).await?;
        match marks.filter(|marks| marks.high >= before && !topic.is_stale()) {
            Some(marks) => topic.seen(marks),
            None => {
                topic.spoil();
                return Ok(None);
            }
        }
        Ok(marks)
    }

    /// The offset of a topic's last message.
    pub(super) async fn end(&self, topic: &Topic, marks: Marks) -> Result<u64, BusError> {
        if let Some(end) = topic.end_at(marks.high) {
            return Ok(end);
        }
        let beyond = i64::try_from(topic.known_end() + 1).unwrap_or(i64::MAX);
        self.look_for_end(topic, marks, beyond).await
    }

    /// The same, where no message before `beyond` is of interest.
    async fn look_for_end(
        &self,
        topic: &Topic,
        marks: Marks,
        beyond: i64,
    ) -> Result<u64, BusError> {
        let (floor, mut stretch) = (marks.low.max(beyond), 8);
        let (mut from, mut last) = (marks.high, None);
        // Behind the last message stand the ends of transactions, and transactions rolled back.
        while last.is_none() && from > floor {
            from = marks.high.saturating_sub(stretch).max(floor);
            last = self.last_from(topic, from, marks.high).await?;
            stretch *= 16;
        }
        topic.ends(last.unwrap_or(topic.gone()), marks.high);
        Ok(topic.known_end())
    }

    /// Asks since when layers wait, where that is not known.
    pub(super) async fn ask_since(&self, topic: &Topic) -> Result<(), BusError> {
        for at in topic.unasked() {
            if let Some(published_at_us) = self.published_after(topic, at).await? {
                topic.waits_since(at, published_at_us);
            }
        }
        Ok(())
    }

    /// When the first message that stands behind `at` was published.
    async fn published_after(&self, topic: &Topic, at: u64) -> Result<Option<i64>, BusError> {
        let Marks { low, high } = topic.marks();
        let from = i64::try_from(at + 1).unwrap_or(i64::MAX).max(low);
        let mut first = None;
        let visit = |found: &BorrowedMessage| {
            if !matches!(record::beginning(found), Beginning::Message(_)) {
                return ControlFlow::Continue(());
            }
            first = Some(record::published_at_us(found));
            ControlFlow::Break(())
        };
        if from < high {
            self.looker.read(&topic.name, from, high, visit).await?;
        }
        Ok(first)
    }

    /// All topics that this process knows.
    pub(super) fn known_topics(&self) -> Vec<Arc<Topic>> {
        self.topics().values().cloned().collect()
    }

    /// All topics of entities that the brokers have, whoever made them, in the order of their names.
    ///
    /// By its name alone a topic may be somebody else's: of ours the epoch stands in the topic of the
    /// cursor records, or, where that was lost, in its own first record.
    pub(super) async fn topics_there(&self) -> Result<Vec<EntityId>, BusError> {
        self.cursors.refresh(&self.looker).await?;
        let names = self.admin.names().await?;
        let entities: BTreeSet<EntityId> =
            names.iter().filter_map(|name| self.settings.entity(name)).collect();
        let mut topics = Vec::new();
        for entity in entities {
            if self.cursors.epoch(&entity).is_some() || self.is_marked(&entity).await? {
                topics.push(entity);
            }
        }
        Ok(topics)
    }

    async fn is_marked(&self, entity: &EntityId) -> Result<bool, BusError> {
        let name = self.settings.topic(entity);
        let Some(marks) = self.looker.marks(&name).await? else { return Ok(false) };
        let beginning = self.beginning(&name, marks).await?;
        Ok(matches!(beginning, Some(Beginning::Mark(_) | Beginning::Message(Some(_)))))
    }

    pub(super) fn now_us(&self) -> i64 {
        self.clock.now().as_microsecond()
    }

    /// The topic, if this process has opened it.
    pub(super) fn known(&self, id: &EntityId) -> Option<Arc<Topic>> {
        self.topics().get(id).filter(|topic| !topic.is_stale()).cloned()
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<EntityId, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn last_from(
        &self,
        topic: &Topic,
        from: i64,
        high: i64,
    ) -> Result<Option<u64>, BusError> {
        let mut last = None;
        let visit = |found: &BorrowedMessage| {
            if matches!(record::beginning(found), Beginning::Message(_)) {
                last = Some(record::offset(found));
                topic.heard(record::published_at_us(found));
            }
            ControlFlow::Continue(())
        };
        self.looker.read(&topic.name, from, high, visit).await?;
        Ok(last)
    }

    async fn open(&self, id: &EntityId) -> Result<Topic, BusError> {
        let name = self.settings.topic(id);
        let found = self.admin.ensure(&name, &self.settings.topic_configs()).await?;
        let limits = self.admin.limits(&name, found).await.unwrap_or_default();
        limits.check(&self.settings, &name, found)?;
        self.cursors.refresh(&self.looker).await?;
        let (epoch, marks) = self.epoch(id, &name).await?;
        let topic = Topic::new(id.clone(), name, epoch, limits);
        let told = self.cursors.landed(id, epoch);
        if let Some(told) = told {
            topic.ends(told.landed, told.next.min(marks.high));
        }
        topic.seen(marks);
        topic.has_all(told.map_or(0, |told| told.landed))?;
        // When it was published to last, too: no page of this process is to be older.
        self.look_for_end(&topic, marks, 0).await?;
        Ok(topic)
    }

    /// The epoch of a topic. While its beginning is there it stands in its first record, which is
    /// written here if there is none; later the topic of the cursor records knows it.
    async fn epoch(&self, id: &EntityId, name: &str) -> Result<(Epoch, Marks), BusError> {
        for _ in 0..3 {
            let Some(marks) = self.looker.marks(name).await? else { break };
            let known = self.cursors.epoch(id);
            let found = match (self.beginning(name, marks).await?, known) {
                (Some(Beginning::Mark(epoch)), _) if marks.low == 0 => epoch,
                (None, _) if marks.low == 0 => {
                    self.write_mark(id, name, known).await?;
                    continue;
                }
                (Some(Beginning::Message(_)), _) if marks.low == 0 => {
                    return Err(BusError::Refused(format!(
                        "topic {name} begins with a message that is none of Alluvium's; foreign \
                         topics are sources: give the bus another prefix, or delete the topic"
                    )));
                }
                (Some(Beginning::Message(Some(epoch)) | Beginning::Mark(epoch)), _) => epoch,
                (_, Some(epoch)) => epoch,
                (_, None) => {
                    return Err(BusError::Corrupt(format!(
                        "nobody knows the epoch of topic {name}: its beginning is gone, and {} \
                         does not tell it; delete the topic if raw has landed it",
                        self.cursors.topic
                    )));
                }
            };
            if known != Some(found) {
                let (key, value) = epoch_entry(id, found)?;
                self.pusher.write(self, &self.cursors.topic, &key, &value).await?;
                self.cursors.refresh(&self.looker).await?;
            }
            return Ok((found, marks));
        }
        Err(BusError::Unavailable(format!("topic {name} does not settle")))
    }

    async fn beginning(&self, name: &str, marks: Marks) -> Result<Option<Beginning>, BusError> {
        let mut first = None;
        if marks.high > marks.low {
            let visit = |found: &BorrowedMessage| {
                first = Some(record::beginning(found));
                ControlFlow::Break(())
            };
            self.looker.read(name, marks.low, marks.high, visit).await?;
        }
        Ok(first)
    }

    /// Begins a topic with a new epoch, above the one that it may have had. If somebody else does so
    /// at the same time, the record that comes first counts.
    async fn write_mark(
        &self,
        id: &EntityId,
        name: &str,
        before: Option<Epoch>,
    ) -> Result<(), BusError> {
        let now = u64::try_from(self.now_us() / 1000).unwrap_or(0);
        let epoch = Epoch(now.max(before.map_or(0, |before| before.0 + 1)));
        tracing::info!(topic = %id, %epoch, "a topic begins");
        publish::mark(self, name, epoch).await
    }
}

//! The bus on Kafka: one topic of one partition for each entity, for many processes.
//!
//! A polled page and its cursor record stand in one transaction, and readers see what is committed.
//! Where a layer stands is said by the lake; what is gone from a topic is told, and never skipped.
//! An offset is Kafka's own: a topic begins with a record that says its epoch, at 0, so that
//! messages begin at 1. There are gaps between them, where transactions end.

mod admin;
mod audit;
mod backlog;
mod context;
mod course;
mod cursors;
mod door;
mod keeper;
mod landed;
mod limits;
mod look;
mod mishap;
mod names;
mod owner;
mod publish;
mod record;
mod settings;
mod shared;
mod subscriber;
mod topic;
mod transaction;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, Clock, CursorRecord, EncodedPage, EntityId, Epoch, FencingToken, Layer, Publisher,
    Span, Subscriber,
};
use async_trait::async_trait;
use tokio::task::JoinHandle;

pub use self::settings::KafkaSettings;
use self::shared::Shared;
use self::subscriber::KafkaSubscriber;
use self::topic::Topic;
use crate::{Bus, Mark, Tenant, TopicStats};

/// A bus on a cluster of Kafka. Any number of processes may use it at once.
pub struct KafkaBus {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

impl KafkaBus {
    /// Connects to the cluster, and makes the topic of the cursor records if it is not there.
    ///
    /// [`BusError::Refused`] if the options do not fit, the cluster refuses the credentials, or does
    /// not let us make the topic; it says then what to do. Must be called within tokio.
    pub async fn connect(
        settings: KafkaSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, BusError> {
        let shared = Arc::new(Shared::new(settings, clock)?);
        shared.begin().await?;
        let of_bus = Arc::downgrade(&shared);
        let keeper = tokio::spawn(async move {
            // One that waits for a broker does not hold the other up.
            tokio::join!(keeper::keep(of_bus.clone()), landed::keep(of_bus));
        });
        Ok(Arc::new(Self { shared, keeper }))
    }

    /// Removes what raw has landed in this process and retention keeps no longer, now instead of
    /// within seconds.
    /// `false` if the brokers never remove anything for us.
    pub async fn retain(&self) -> Result<bool, BusError> {
        let mut all = true;
        for topic in self.shared.known_topics() {
            all &= keeper::shorten(&self.shared, &topic).await?;
        }
        Ok(all)
    }

    /// Puts an audit event on its topic, which is made if it is not there. `about` is the system or
    /// the entity that it tells of, and the record's key. `Ok` means that it is durable; told twice,
    /// it stands twice, with one id.
    pub async fn audit(&self, about: &str, event: &[u8]) -> Result<(), BusError> {
        self.check_open()?;
        audit::publish(&self.shared, about, event).await
    }

    fn check_sizes(&self, page: &EncodedPage) -> Result<(), BusError> {
        let limit = self.shared.settings.max_message_bytes;
        let sizes = page.messages.iter().map(record::size);
        match sizes.enumerate().find(|(_, size)| *size > limit) {
            Some((at, size)) => Err(BusError::TooLarge { size, limit, message: Some(at) }),
            None => Ok(()),
        }
    }

    fn check_open(&self) -> Result<(), BusError> {
        match self.shared.closed.load(Ordering::Relaxed) {
            true => Err(BusError::Unavailable("the bus is closed".to_owned())),
            false => Ok(()),
        }
    }

    /// The end of a topic, as the span of a page that brought nothing.
    async fn nothing(&self, topic: &Topic) -> Result<Published, BusError> {
        let (epoch, end) = self.end(&topic.id).await?;
        Ok(Published { span: Span { epoch, after: end, to: end } })
    }
}

impl Drop for KafkaBus {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[async_trait]
impl Publisher for KafkaBus {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        self.check_open()?;
        self.check_sizes(&page)?;
        let topic = self.shared.topic(topic).await?;
        let room = if page.messages.is_empty() {
            None
        } else {
            let KafkaSettings { max_unlanded_bytes: limit, patience, .. } = self.shared.settings;
            Some(topic.backlog.room(&topic.id, page.bytes() as u64, limit, patience).await?)
        };
        let shared = Arc::clone(&self.shared);
        // On a task of its own: who stops waiting leaves no transaction open.
        let publishing = tokio::spawn({
            let topic = Arc::clone(&topic);
            async move {
                let _room = room;
                match cursor {
                    Some(record) => owner::publish(&shared, &topic, &page, &record).await.map(Some),
                    None if page.messages.is_empty() => Ok(None),
                    None => shared.pusher.publish(&shared, &topic, &page).await.map(Some),
                }
            }
        });
        match publishing.await.map_err(|e| mishap::stopped(&e))?? {
            Some(published) => Ok(published),
            None => self.nothing(&topic).await,
        }
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        let (topic, _) = self.shared.current(topic).await?;
        owner::cursor(&self.shared, &topic).await
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        let (topic, marks) = self.shared.current(topic).await?;
        let end = self.shared.end(&topic, marks).await?;
        Ok((topic.epoch, end))
    }
}

#[async_trait]
impl Subscribe for KafkaBus {
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        // Readers assign themselves, and what a group shows steers nobody: none disturbs another.
        _: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        self.check_open()?;
        let (topic, marks) = self.shared.current(topic).await?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(KafkaSubscriber::new(shared, topic, layer, marks)))
    }
}

#[async_trait]
impl Bus for KafkaBus {
    fn is_shared(&self) -> bool {
        true
    }

    fn topic_stats(&self) -> Vec<TopicStats> {
        let now_us = self.shared.now_us();
        let topics = self.shared.known_topics();
        let mut stats: Vec<TopicStats> = topics.iter().map(|t| t.stats(now_us)).collect();
        stats.sort_by(|a, b| a.topic.cmp(&b.topic));
        stats
    }

    async fn topics(&self) -> Result<Vec<EntityId>, BusError> {
        self.shared.topics_there().await
    }

    async fn mark(&self) -> Result<Option<Mark>, BusError> {
        self.shared.cursors.refresh(&self.shared.looker).await?;
        Ok(self.shared.cursors.mark())
    }

    async fn put_mark(&self, mark: &Mark, before: Option<&Mark>) -> Result<bool, BusError> {
        if !mark.may_replace(self.mark().await?.as_ref(), before) {
            return Ok(false);
        }
        let (key, value) = cursors::mark_entry(mark)?;
        self.shared.pusher.write(&self.shared, &self.shared.cursors.topic, key, &value).await?;
        Ok(true)
    }

    async fn tenant(&self) -> Result<Option<Tenant>, BusError> {
        self.shared.cursors.refresh(&self.shared.looker).await?;
        Ok(self.shared.cursors.tenant())
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), BusError> {
        let (key, value) = cursors::tenant_entry(tenant)?;
        self.shared.pusher.write(&self.shared, &self.shared.cursors.topic, key, &value).await
    }

    async fn rest(&self, topic: &EntityId) {
        if let Some(topic) = self.shared.known(topic) {
            topic.owner.lock().await.rest(&self.shared, &topic);
        }
    }

    async fn audit(&self, _: &str, about: &str, event: Vec<u8>) -> Result<bool, BusError> {
        KafkaBus::audit(self, about, &event).await.map(|()| true)
    }

    async fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.keeper.abort();
        for topic in self.shared.known_topics() {
            topic.owner.lock().await.let_go();
        }
        self.shared.pusher.close().await;
    }
}

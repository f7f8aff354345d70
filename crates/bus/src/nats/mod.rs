//! The bus on NATS JetStream: a stream per topic, so that offsets are the stream's sequences and
//! dense; one stream for cursors and for what raw has landed; one for audit events.
//!
//! The server keeps order and durability. What is ours is that a page stands in one piece and once
//! (`publish`), that a reader passes over nothing (`subscriber`), and that nothing goes before raw
//! has landed it (`retention`).

mod api;
mod audit;
mod calls;
mod connect;
mod damage;
mod headers;
mod held;
mod lag;
mod names;
mod publish;
mod pull;
mod records;
mod refresh;
mod retention;
mod settings;
mod shared;
mod streams;
mod subscriber;
mod topic;
mod version;

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, Clock, CursorRecord, EncodedPage, EntityId, Epoch, FencingToken, Layer, Publisher,
    Subscriber,
};
use async_nats::jetstream;
use async_trait::async_trait;
use tokio::task::JoinHandle;

pub use self::settings::{NatsAccess, NatsSettings, NatsTls};

use self::names::Names;
use self::shared::Shared;
use self::subscriber::NatsSubscriber;
use crate::{Bus, Mark, Tenant, TopicStats};

/// No message is larger, so that none comes near what a fetch of the server can carry.
const LARGEST_MESSAGE: usize = 32 << 20;

/// The bus on a NATS server, or a cluster of them. Many processes may use it at the same time.
pub struct NatsBus {
    shared: Arc<Shared>,
    refreshing: JoinHandle<()>,
}

impl NatsBus {
    /// Connects, checks server and streams, and makes those that all topics share.
    ///
    /// A server that is not there yet is waited for, half a minute. [`BusError::Refused`] if the
    /// server refuses us, is too old, or has streams of our names that are not ours.
    pub async fn connect(
        settings: NatsSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, BusError> {
        let client = connect::connect(&settings, &clock).await?;
        version::check(&client.server_info(), settings.replicas)?;
        let js = jetstream::ContextBuilder::new()
            .timeout(connect::REQUEST_TIMEOUT)
            .build(client.clone());
        let names = Names::new(&settings.prefix);
        streams::state(&js, &names, &settings).await?;
        let shared = Arc::new(Shared::new(client, js, names, settings, clock));
        for info in shared.streams_of_topics().await?.found {
            streams::check_topic(&info)?;
        }
        let refreshing = tokio::spawn(refresh::run(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, refreshing }))
    }

    /// Removes what retention no longer keeps of the topics whose raw layer is in this process, now
    /// instead of within half a minute. All of them come to their turn, and an error is that of the
    /// first that fails.
    pub async fn retain(&self) -> Result<(), BusError> {
        refresh::retain(&self.shared).await.into_iter().try_for_each(|(_, done)| done)
    }

    /// Asks the server how the topics stand, now instead of within a few seconds. All of them come to
    /// their turn, and an error is that of the first that fails.
    pub async fn refresh(&self) -> Result<(), BusError> {
        refresh::once(&self.shared, true).await?.into_iter().try_for_each(|(_, done)| done)
    }

    /// Puts an audit event on its stream, which is made if it is not there. `about` is the system or
    /// the entity that it tells of. `Ok` means that it is durable; the same `id` again, within two
    /// minutes, is one event.
    pub async fn audit(&self, id: &str, about: &str, event: Vec<u8>) -> Result<(), BusError> {
        audit::publish(&self.shared, id, about, event).await
    }
}

#[async_trait]
impl Publisher for NatsBus {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        publish::publish(&self.shared, topic, page, cursor).await
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        let stored = records::cursor(&self.shared.js, &self.shared.names, topic).await?;
        let Some(mut known) = self.shared.existing(topic).await? else { return Ok(None) };
        if self.shared.same(&known).await?.is_none() {
            let Some(now) = self.shared.existing(topic).await? else { return Ok(None) };
            known = now;
        }
        let stored = stored.map(|stored| stored.value).filter(|c| c.epoch == known.epoch);
        let told = self.shared.told(&known).await?;
        let stands = records::standing(stored, told).map(|state| state.record);
        // An owner who has begun before anybody had published a page has written no more than that.
        Ok(stands.filter(|record| record.page > 0))
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        let (topic, info) = self.shared.current(topic).await?;
        Ok((topic.epoch, info.state.last_sequence))
    }
}

#[async_trait]
impl Subscribe for NatsBus {
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        owner: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        let (topic, _) = self.shared.current(topic).await?;
        Ok(Box::new(NatsSubscriber::new(Arc::clone(&self.shared), topic, layer, owner)))
    }
}

#[async_trait]
impl Bus for NatsBus {
    fn is_shared(&self) -> bool {
        true
    }

    fn topic_stats(&self) -> Vec<TopicStats> {
        let now_us = self.shared.clock.now().as_microsecond();
        let mut stats: Vec<TopicStats> =
            self.shared.known().iter().map(|topic| topic.stats(now_us)).collect();
        stats.sort_by(|a, b| a.topic.cmp(&b.topic));
        stats
    }

    async fn topics(&self) -> Result<Vec<EntityId>, BusError> {
        let listed = self.shared.streams_of_topics().await?;
        // Those whose servers are away are there all the same.
        let names = listed.found.into_iter().map(|info| info.config.name).chain(listed.away);
        let topics: BTreeSet<EntityId> =
            names.filter_map(|name| self.shared.names.topic(&name)).collect();
        Ok(topics.into_iter().collect())
    }

    async fn mark(&self) -> Result<Option<Mark>, BusError> {
        let stored = records::mark(&self.shared.js, &self.shared.names).await?;
        Ok(stored.map(|stored| stored.value))
    }

    async fn put_mark(&self, mark: &Mark, before: Option<&Mark>) -> Result<bool, BusError> {
        records::put_mark(&self.shared.js, &self.shared.names, mark, before).await
    }

    async fn tenant(&self) -> Result<Option<Tenant>, BusError> {
        let stored = records::tenant(&self.shared.js, &self.shared.names).await?;
        Ok(stored.map(|stored| stored.value))
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), BusError> {
        records::put_tenant(&self.shared.js, &self.shared.names, tenant).await
    }

    async fn rest(&self, _: &EntityId) {}

    async fn audit(&self, id: &str, about: &str, event: Vec<u8>) -> Result<bool, BusError> {
        NatsBus::audit(self, id, about, event).await.map(|()| true)
    }

    async fn close(&self) {
        self.refreshing.abort();
        let client = &self.shared.client;
        if let Err(error) = calls::sent(client, client.drain()).await {
            tracing::debug!(%error, "the connection to NATS is gone already");
        }
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

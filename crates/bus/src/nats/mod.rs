//! The bus on NATS JetStream: a stream per topic, so that offsets are the stream's sequences and
//! dense; one stream for cursors and for what raw has landed; one for audit events.
//!
//! The server keeps order and durability. What is ours is that a page stands in one piece and once
//! (`publish`), that a reader passes over nothing (`subscriber`), and that nothing goes before raw
//! has landed it (`retention`).

mod api;
mod audit;
mod connect;
mod headers;
mod names;
mod publish;
mod pull;
mod records;
mod refresh;
mod retention;
mod settings;
mod streams;
mod subscriber;
mod topic;
mod version;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, Clock, CursorRecord, EncodedPage, EntityId, Epoch, FencingToken, Layer, Publisher,
    Subscriber,
};
use async_nats::Client;
use async_nats::jetstream::stream::Info;
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

pub use self::settings::{NatsAccess, NatsSettings, NatsTls};

use self::names::Names;
use self::records::CursorState;
use self::subscriber::NatsSubscriber;
use self::topic::{Tip, Topic};
use crate::{Bus, Mark, Tenant, TopicStats};

/// No message is larger, so that none comes near what a fetch of the server can carry.
const LARGEST_MESSAGE: usize = 32 << 20;

/// The bus on a NATS server, or a cluster of them. Many processes may use it at the same time.
pub struct NatsBus {
    shared: Arc<Shared>,
    refreshing: JoinHandle<()>,
}

/// What publishers, subscribers and the background share.
struct Shared {
    client: Client,
    js: Context,
    names: Names,
    settings: NatsSettings,
    clock: Arc<dyn Clock>,
    topics: Mutex<HashMap<EntityId, Arc<Topic>>>,
    opening: tokio::sync::Mutex<()>,
    audit: OnceCell<()>,
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
        let shared = Arc::new(Shared {
            client,
            js,
            names,
            settings,
            clock,
            topics: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            audit: OnceCell::new(),
        });
        for info in shared.streams_of_topics().await? {
            streams::check_topic(&info)?;
        }
        let refreshing = tokio::spawn(refresh::run(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, refreshing }))
    }

    /// Removes what retention no longer keeps of the topics whose raw layer is in this process, now
    /// instead of within half a minute.
    pub async fn retain(&self) -> Result<(), BusError> {
        for topic in self.shared.known() {
            retention::retain(&self.shared, &topic).await?;
        }
        Ok(())
    }

    /// Asks the server how the topics stand, now instead of within a few seconds.
    pub async fn refresh(&self) -> Result<(), BusError> {
        refresh::once(&self.shared).await
    }

    /// Puts an audit event on its stream, which is made if it is not there. `about` is the system or
    /// the entity that it tells of. `Ok` means that it is durable; the same `id` again, within two
    /// minutes, is one event.
    pub async fn audit(&self, id: &str, about: &str, event: Vec<u8>) -> Result<(), BusError> {
        audit::publish(&self.shared, id, about, event).await
    }
}

impl Shared {
    /// The topics that this process has opened.
    fn known(&self) -> Vec<Arc<Topic>> {
        self.topics().values().cloned().collect()
    }

    /// The topic, made durably if it is not there. What is remembered of it is held against the
    /// server only where it must be asked anyway: see [`Shared::same`].
    async fn topic(&self, id: &EntityId) -> Result<Arc<Topic>, BusError> {
        if let Some(topic) = self.remembered(id) {
            return Ok(topic);
        }
        let _only_one = self.opening.lock().await;
        if let Some(topic) = self.remembered(id) {
            return Ok(topic);
        }
        let info = streams::topic(&self.js, &self.names, &self.settings, id).await?;
        self.open(id, &info).await
    }

    /// The topic, if there is one.
    async fn existing(&self, id: &EntityId) -> Result<Option<Arc<Topic>>, BusError> {
        if let Some(topic) = self.remembered(id) {
            return Ok(Some(topic));
        }
        let _only_one = self.opening.lock().await;
        let info = streams::existing_topic(&self.js, &self.names, &self.settings, id).await?;
        match info {
            Some(info) => self.open(id, &info).await.map(Some),
            None => Ok(None),
        }
    }

    /// The topic as it stands now, and what the server says of its stream.
    async fn current(&self, id: &EntityId) -> Result<(Arc<Topic>, Info), BusError> {
        let topic = self.topic(id).await?;
        if let Some(info) = self.same(&topic).await? {
            return Ok((topic, info));
        }
        let topic = self.topic(id).await?;
        match self.same(&topic).await? {
            Some(info) => Ok((topic, info)),
            None => Err(BusError::Unavailable(format!("the stream of topic {id} comes and goes"))),
        }
    }

    /// What the server says of the topic's stream. `None`, and the topic is forgotten, if the stream
    /// is gone or is another one: the topic has another epoch, or will have.
    async fn same(&self, topic: &Arc<Topic>) -> Result<Option<Info>, BusError> {
        let info = api::stream(&self.js, &topic.stream).await?;
        let info = info.filter(|info| streams::epoch(info) == topic.epoch);
        match &info {
            Some(info) => topic.saw(info),
            None => self.forget(topic),
        }
        Ok(info)
    }

    /// The stream must be the one that the topic was opened with.
    async fn still(&self, topic: &Arc<Topic>) -> Result<Info, BusError> {
        if let Some(info) = self.same(topic).await? {
            return Ok(info);
        }
        let (found, _) = self.current(&topic.id).await?;
        Err(BusError::UnexpectedEpoch {
            topic: topic.id.clone(),
            expected: topic.epoch,
            found: found.epoch,
        })
    }

    async fn open(&self, id: &EntityId, info: &Info) -> Result<Arc<Topic>, BusError> {
        let epoch = streams::epoch(info);
        let cursor = records::cursor(&self.js, &self.names, id).await?;
        let landed = records::landed(&self.js, &self.names, id).await?;
        let told = [
            cursor.as_ref().map(|c| (c.value.epoch, c.value.end)),
            landed.as_ref().map(|l| (l.value.epoch, l.value.offset)),
        ];
        for (known, end) in told.into_iter().flatten() {
            check_told(id, epoch, info.state.last_sequence, known, end)?;
        }
        let landed = landed.map(|l| (l.value, l.sequence));
        let known = landed.filter(|(l, _)| l.epoch == epoch).map(|(l, _)| l.totals());
        let tip = self.tip(&info.config.name, id, info, known.unwrap_or_default()).await?;
        let topic = Topic::new(id.clone(), self.names.subject(id), info, tip, landed);
        let topic = Arc::new(topic);
        self.topics().insert(id.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Where a topic ends. `landed` are its totals if it was emptied.
    async fn tip(
        &self,
        stream: &str,
        id: &EntityId,
        info: &Info,
        landed: headers::Totals,
    ) -> Result<Tip, BusError> {
        let end = info.state.last_sequence;
        let last = match info.state.messages {
            0 => None,
            _ => api::last_message(&self.js, stream, &self.names.subject(id)).await?,
        };
        Ok(match last {
            Some(message) => Tip {
                end: end.max(message.sequence),
                totals: headers::totals(Some(&message.headers)),
                last: headers::slot(&message.headers),
            },
            None => Tip { end, totals: landed, last: None },
        })
    }

    /// The cursor record that a topic's last message tells: a process may have been killed before
    /// it had written the record itself.
    async fn told(&self, topic: &Topic) -> Result<Option<CursorState>, BusError> {
        let last = api::last_message(&self.js, &topic.stream, &topic.subject).await?;
        let told = last.and_then(|last| records::told(&last.headers));
        Ok(told.filter(|told| told.epoch == topic.epoch))
    }

    async fn streams_of_topics(&self) -> Result<Vec<Info>, BusError> {
        let all = api::streams(&self.js, &self.names.all_changes()).await?;
        Ok(all.into_iter().filter(|i| self.names.topic(&i.config.name).is_some()).collect())
    }

    /// The largest message, payload and headers together.
    fn max_message_bytes(&self) -> usize {
        let server = self.client.max_payload().saturating_sub(headers::overhead());
        self.settings.max_message_bytes.min(server).min(LARGEST_MESSAGE)
    }

    fn remembered(&self, id: &EntityId) -> Option<Arc<Topic>> {
        self.topics().get(id).cloned()
    }

    fn forget(&self, topic: &Arc<Topic>) {
        let mut topics = self.topics();
        if topics.get(&topic.id).is_some_and(|known| Arc::ptr_eq(known, topic)) {
            topics.remove(&topic.id);
            tracing::warn!(topic = %topic.id, "the stream of a topic is gone, or another one");
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<EntityId, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a stream against what a state record says of its topic.
fn check_told(
    id: &EntityId,
    epoch: Epoch,
    last: u64,
    known: Epoch,
    end: u64,
) -> Result<(), BusError> {
    if known > epoch {
        return Err(BusError::Refused(format!(
            "the stream of topic {id} was made at {epoch}, before its predecessor ({known}): the \
             clock of the NATS server went back. Set it right, delete the stream, and start again"
        )));
    }
    if known == epoch && end > last {
        return Err(BusError::Corrupt(format!(
            "the stream of topic {id} ends at offset {last}, but messages up to {end} were \
             acknowledged"
        )));
    }
    Ok(())
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
        let all = [stored, told].into_iter().flatten().map(|state| state.record);
        Ok(all.max_by_key(|record| record.page))
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

    async fn mark(&self) -> Result<Option<Mark>, BusError> {
        let stored = records::mark(&self.shared.js, &self.shared.names).await?;
        Ok(stored.map(|stored| stored.value))
    }

    async fn put_mark(&self, mark: &Mark) -> Result<(), BusError> {
        records::put_mark(&self.shared.js, &self.shared.names, mark).await
    }

    async fn tenant(&self) -> Result<Option<Tenant>, BusError> {
        let stored = records::tenant(&self.shared.js, &self.shared.names).await?;
        Ok(stored.map(|stored| stored.value))
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), BusError> {
        records::put_tenant(&self.shared.js, &self.shared.names, tenant).await
    }

    async fn audit(&self, id: &str, about: &str, event: Vec<u8>) -> Result<bool, BusError> {
        NatsBus::audit(self, id, about, event).await.map(|()| true)
    }

    async fn close(&self) {
        self.refreshing.abort();
        if let Err(error) = self.shared.client.drain().await {
            tracing::debug!(%error, "the connection to NATS was closed before");
        }
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

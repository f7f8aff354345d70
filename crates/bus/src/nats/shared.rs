//! What publishers, subscribers and the background of one bus share, and the way to a topic: made or
//! found, and held against the server where it must be asked anyway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use alluvium_model::{BusError, Clock, EntityId, Epoch};
use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Info;
use tokio::sync::OnceCell;

use super::api::Listed;
use super::headers::Totals;
use super::names::Names;
use super::publish::room;
use super::records::CursorState;
use super::settings::NatsSettings;
use super::topic::{Tip, Topic};
use super::{LARGEST_MESSAGE, api, damage, headers, pull, records, streams};
use crate::prefetch::Prefetch;

/// So long a replica that was the leader may answer yet with what it knew then.
const STALE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);
/// So many messages that somebody else wrote are looked behind for the totals of a topic.
const FOREIGN: usize = 64;

/// What publishers, subscribers and the background share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) js: Context,
    pub(super) names: Names,
    pub(super) settings: NatsSettings,
    pub(super) clock: Arc<dyn Clock>,
    topics: Mutex<Topics>,
    opening: tokio::sync::Mutex<()>,
    pub(super) audit: OnceCell<()>,
    /// What readers may ask for ahead.
    pub(super) prefetch: Prefetch,
}

#[derive(Default)]
struct Topics {
    known: HashMap<EntityId, Arc<Topic>>,
    /// Those whose streams were gone, while somebody has them: a stream may come back.
    forgotten: HashMap<EntityId, Weak<Topic>>,
}

impl Shared {
    pub(super) fn new(
        client: Client,
        js: Context,
        names: Names,
        settings: NatsSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            js,
            names,
            settings,
            clock,
            topics: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            audit: OnceCell::new(),
            prefetch: Prefetch::new(pull::LEAST_BYTES, pull::MOST_BYTES),
        }
    }

    /// The topics that this process has opened.
    pub(super) fn known(&self) -> Vec<Arc<Topic>> {
        self.topics().known.values().cloned().collect()
    }

    /// The topic, made durably if it is not there. What is remembered of it is held against the
    /// server only where it must be asked anyway: see [`Shared::same`].
    pub(super) async fn topic(&self, id: &EntityId) -> Result<Arc<Topic>, BusError> {
        if let Some(topic) = self.remembered(id) {
            return Ok(topic);
        }
        let _only_one = self.opening.lock().await;
        if let Some(topic) = self.remembered(id) {
            return Ok(topic);
        }
        let info = streams::topic(&self.js, &self.names, &self.settings, id).await?;
        self.open(id, &info.config.name).await
    }

    /// The topic, if there is one.
    pub(super) async fn existing(&self, id: &EntityId) -> Result<Option<Arc<Topic>>, BusError> {
        if let Some(topic) = self.remembered(id) {
            return Ok(Some(topic));
        }
        let _only_one = self.opening.lock().await;
        if let Some(topic) = self.remembered(id) {
            return Ok(Some(topic));
        }
        let info = streams::existing_topic(&self.js, &self.names, &self.settings, id).await?;
        match info {
            Some(info) => self.open(id, &info.config.name).await.map(Some),
            None => Ok(None),
        }
    }

    /// The topic as it stands now, and what the server says of its stream.
    pub(super) async fn current(&self, id: &EntityId) -> Result<(Arc<Topic>, Info), BusError> {
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
    /// is gone or is another one: the topic has another epoch, or will have. [`BusError::Corrupt`] if
    /// it ends before what was acknowledged.
    pub(super) async fn same(&self, topic: &Arc<Topic>) -> Result<Option<Info>, BusError> {
        let started = self.clock.instant();
        loop {
            // Before the question, so that no right answer to it is smaller.
            let sure = topic.sure();
            let info = api::stream(&self.js, &topic.stream).await?;
            let Some(info) = info.filter(|info| streams::epoch(info) == topic.epoch) else {
                self.forget(topic);
                return Ok(None);
            };
            let is_alone = info.config.num_replicas <= 1;
            match topic.check_whole(sure, info.state.last_sequence) {
                Err(error) if is_alone || self.clock.since(started) > STALE => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
                Ok(()) => {
                    topic.saw(&info);
                    return Ok(Some(info));
                }
            }
        }
    }

    /// The stream must be the one that the topic was opened with.
    pub(super) async fn still(&self, topic: &Arc<Topic>) -> Result<Info, BusError> {
        if let Some(info) = self.same(topic).await? {
            return Ok(info);
        }
        let id = &topic.id;
        let (found, _) = self.current(id).await?;
        found.check_epoch(topic.epoch)?;
        Err(BusError::Unavailable(format!("the stream of topic {id} was not there for a moment")))
    }

    async fn open(&self, id: &EntityId, stream: &str) -> Result<Arc<Topic>, BusError> {
        let cursor = records::cursor(&self.js, &self.names, id).await?;
        let landed = records::landed(&self.js, &self.names, id).await?;
        // After the records, so that others who publish meanwhile do not seem ahead of the stream.
        let Some(info) = api::stream(&self.js, stream).await? else {
            return Err(BusError::Unavailable(format!("the stream of topic {id} is gone again")));
        };
        let epoch = streams::epoch(&info);
        let told = [
            cursor.as_ref().map(|c| (c.value.epoch, c.value.end)),
            landed.as_ref().map(|l| (l.value.epoch, l.value.offset)),
        ];
        for (known, end) in told.into_iter().flatten() {
            check_told(id, epoch, info.state.last_sequence, known, end)?;
        }
        let landed = landed.map(|l| (l.value, l.sequence));
        let known = landed.map(|(l, _)| l).filter(|l| l.epoch == epoch);
        let totals = known.and_then(|l| l.known()).unwrap_or_default();
        let tip = match self.last(stream, id, epoch, &info, totals).await? {
            Some(tip) => tip,
            None => Tip {
                end: info.state.last_sequence,
                totals: known.map(|l| l.totals()).unwrap_or_default(),
                published_at_us: known.map_or(0, |l| l.published_at_us),
                ..Tip::default()
            },
        };
        Ok(self.remember(Topic::new(id.clone(), self.names.subject(id), &info, tip, landed)))
    }

    /// Where the topic ends, as the server says.
    pub(super) async fn tip(&self, topic: &Arc<Topic>) -> Result<Tip, BusError> {
        let info = self.still(topic).await?;
        let (id, known) = (&topic.id, topic.known_totals(info.state.last_sequence));
        if let Some(tip) = self.last(&topic.stream, id, topic.epoch, &info, known).await? {
            topic.is_sure_of(tip.message);
            return Ok(tip);
        }
        room::ask_what_landed(self, topic).await?;
        Ok(topic.emptied(info.state.last_sequence))
    }

    /// Where a topic ends, if it has messages. The last totals that are `known` are those of an
    /// offset.
    async fn last(
        &self,
        stream: &str,
        id: &EntityId,
        epoch: Epoch,
        info: &Info,
        known: (u64, Totals),
    ) -> Result<Option<Tip>, BusError> {
        if info.state.messages == 0 {
            return Ok(None);
        }
        let last = api::last_message(&self.js, stream, &self.names.subject(id)).await?;
        let Some(message) = last else { return Ok(None) };
        Ok(Some(Tip {
            end: info.state.last_sequence.max(message.sequence),
            message: message.sequence,
            totals: self.totals_with(stream, &message, known).await?,
            published_at_us: headers::published_at_us(Some(&message.headers), message.time),
            last: headers::slot(&message.headers),
            told: records::told(&message.headers).filter(|told| told.epoch == epoch),
        }))
    }

    /// The totals of a topic with a message of it. One that somebody else wrote tells none, and
    /// counts in none: with it they are what they were before, at least the last that are `known`,
    /// which are those of an offset.
    pub(super) async fn totals_with(
        &self,
        stream: &str,
        message: &StreamMessage,
        known: (u64, Totals),
    ) -> Result<Totals, BusError> {
        if let Some(totals) = headers::totals(Some(&message.headers)) {
            return Ok(totals);
        }
        for offset in (known.0 + 1..message.sequence).rev().take(FOREIGN) {
            let before = api::message(&self.js, stream, offset).await?;
            if let Some(totals) = before.and_then(|before| headers::totals(Some(&before.headers))) {
                return Ok(totals);
            }
        }
        Ok(known.1)
    }

    /// The cursor record that a topic's last message tells: a process may have been killed before
    /// it had written the record itself.
    pub(super) async fn told(&self, topic: &Topic) -> Result<Option<CursorState>, BusError> {
        let last = api::last_message(&self.js, &topic.stream, &topic.subject).await?;
        let told = last.and_then(|last| records::told(&last.headers));
        Ok(told.filter(|told| told.epoch == topic.epoch))
    }

    pub(super) async fn streams_of_topics(&self) -> Result<Listed<Info>, BusError> {
        let mut all = api::streams(&self.js, &self.names.all_changes()).await?;
        all.found.retain(|info| self.names.topic(&info.config.name).is_some());
        Ok(all)
    }

    /// The largest message, payload and headers together.
    pub(super) fn max_message_bytes(&self) -> usize {
        let server = self.client.max_payload().saturating_sub(headers::overhead());
        self.settings.max_message_bytes.min(server).min(LARGEST_MESSAGE)
    }

    fn remembered(&self, id: &EntityId) -> Option<Arc<Topic>> {
        self.topics().known.get(id).cloned()
    }

    /// Takes up a topic that was opened. Where its stream was gone for a moment only, it is the one
    /// that those who read it have yet.
    fn remember(&self, opened: Topic) -> Arc<Topic> {
        let mut topics = self.topics();
        let before = topics.forgotten.remove(&opened.id).and_then(|before| before.upgrade());
        let before = before.filter(|before| before.epoch == opened.epoch);
        let topic = before.unwrap_or_else(|| Arc::new(opened));
        topics.known.insert(topic.id.clone(), Arc::clone(&topic));
        topic
    }

    fn forget(&self, topic: &Arc<Topic>) {
        let mut topics = self.topics();
        if topics.known.get(&topic.id).is_some_and(|known| Arc::ptr_eq(known, topic)) {
            topics.known.remove(&topic.id);
            topics.forgotten.insert(topic.id.clone(), Arc::downgrade(topic));
            tracing::warn!(topic = %topic.id, "the stream of a topic is gone, or another one");
        }
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
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
        return Err(BusError::Rejected(format!(
            "the stream of topic {id} was made at {epoch}, before its predecessor ({known}): the \
             clock of the NATS server went back. Set it right, delete the stream, and start again"
        )));
    }
    if known == epoch && end > last {
        return Err(damage::shorter(id, last, end));
    }
    Ok(())
}

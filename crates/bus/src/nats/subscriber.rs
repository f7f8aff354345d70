//! A reader of one topic for one layer: a durable consumer of its own, which NATS's own tools show
//! with its lag, and a check that sequences follow each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{
    BusError, Delivery, EncodedMessage, FencingToken, FetchLimit, Layer, Message, Position, Span,
    Subscriber,
};
use async_nats::jetstream::{self, consumer};
use async_trait::async_trait;
use serde_json::json;

use super::headers::{self, Totals};
use super::pull::{Came, Pull};
use super::records::{self, LandedState, Put};
use super::topic::{LayerState, Topic, first_after, micros};
use super::{LARGEST_MESSAGE, Shared, api};

/// So many bytes are asked for at once. What exceeds 64 MB in one request never comes.
const PULL_BYTES: usize = 4 << 20;
/// Enough for any message.
const LARGEST_PULL_BYTES: usize = LARGEST_MESSAGE + (1 << 20);
/// So long a message that the server has may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is not acknowledged is not sent again by itself: a layer asks for what it needs.
const ACK_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PAUSE: Duration = Duration::from_millis(200);

/// Where one layer stands on one topic.
///
/// [`Subscriber::seek`] and [`Subscriber::commit`] answer [`BusError::Corrupt`] for an offset
/// beyond the topic's end: the bus has lost what the lake has.
pub(super) struct NatsSubscriber {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    layer: Layer,
    /// As whom it reads; what a lower one has is taken away.
    owner: FencingToken,
    /// The offset of the last message that was delivered.
    at: u64,
    /// Messages that came and were not delivered yet, without a hole after `at`.
    ahead: VecDeque<Ahead>,
    /// Messages that were delivered and are not committed.
    marks: VecDeque<Mark>,
    consumer: Option<String>,
    pull: Option<Pull>,
    pull_bytes: usize,
}

struct Ahead {
    message: Arc<Message>,
    mark: Mark,
    /// How many more there were when this one was sent.
    pending: u64,
}

/// What committing a message needs to know of it.
struct Mark {
    offset: u64,
    published_at_us: i64,
    totals: Totals,
    /// Where it is acknowledged.
    reply: Option<async_nats::Subject>,
}

impl NatsSubscriber {
    pub(super) fn new(
        shared: Arc<Shared>,
        topic: Arc<Topic>,
        layer: Layer,
        owner: FencingToken,
    ) -> Self {
        topic.read_by(layer);
        let at = topic.first_after();
        Self {
            shared,
            topic,
            layer,
            owner,
            at,
            ahead: VecDeque::new(),
            marks: VecDeque::new(),
            consumer: None,
            pull: None,
            pull_bytes: PULL_BYTES,
        }
    }

    /// The offset of the last message that came.
    fn head(&self) -> u64 {
        self.ahead.back().map_or(self.at, |last| last.mark.offset)
    }

    /// Waits for one more message.
    async fn come(&mut self) -> Result<(), BusError> {
        loop {
            let consumer = match self.consumer.clone() {
                Some(consumer) => consumer,
                None => self.stand().await?,
            };
            if self.pull.is_none() {
                let stream = &self.topic.stream;
                let pull = Pull::ask(&self.shared, stream, &consumer, self.pull_bytes).await?;
                self.pull = Some(pull);
            }
            let Some(pull) = &mut self.pull else { continue };
            match pull.next(&self.shared).await {
                Came::Message(message) => {
                    if self.take_up(*message).await? {
                        return Ok(());
                    }
                }
                Came::Over => self.pull = None,
                Came::TooLarge => {
                    (self.pull, self.pull_bytes) = (None, LARGEST_PULL_BYTES);
                }
                Came::NoConsumer(why) => self.without_consumer(&why).await?,
            }
        }
    }

    /// Makes a consumer that begins after what came, and takes those away that older owners have.
    async fn stand(&mut self) -> Result<String, BusError> {
        let info = self.shared.still(&self.topic).await?;
        self.topic.check_there(self.head(), first_after(&info))?;
        let unique = self.shared.client.new_inbox();
        let unique = unique.rsplit('.').next().unwrap_or_default();
        let name = format!("{}-{}-{unique}", self.layer, self.owner.0);
        let config = json!({
            "durable_name": name,
            "description": format!("alluvium: layer {} of {}", self.layer, self.topic.id),
            "deliver_policy": "by_start_sequence", "opt_start_seq": self.head() + 1,
            "ack_policy": "all", "ack_wait": u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX),
            "max_ack_pending": -1, "max_deliver": -1, "replay_policy": "instant",
        });
        let (js, stream) = (&self.shared.js, &self.topic.stream);
        let mine = api::create_consumer(js, stream, &name, config).await?;
        self.take_over(&mine).await?;
        self.consumer = Some(name.clone());
        Ok(name)
    }

    /// Of all readers of the layer only the youngest stays: that of the highest token, and among
    /// those the one that came last.
    async fn take_over(&self, mine: &consumer::Info) -> Result<(), BusError> {
        let (js, stream) = (&self.shared.js, &self.topic.stream);
        for other in self.readers().await? {
            if other.name == mine.name {
                continue;
            }
            let token = token(&other.name, self.layer).unwrap_or(0);
            if token > self.owner.0 {
                api::delete_consumer(js, stream, &mine.name).await?;
                return Err(self.superseded(&other.name));
            }
            if token < self.owner.0 || other.created <= mine.created {
                api::delete_consumer(js, stream, &other.name).await?;
            }
        }
        Ok(())
    }

    /// The consumers of this layer.
    async fn readers(&self) -> Result<Vec<consumer::Info>, BusError> {
        let all = api::consumers(&self.shared.js, &self.topic.stream).await?;
        Ok(all.into_iter().filter(|c| token(&c.name, self.layer).is_some()).collect())
    }

    fn superseded(&self, by: &str) -> BusError {
        BusError::Unavailable(format!(
            "another process has taken over the {} layer of topic {}, as consumer {by}",
            self.layer, self.topic.id
        ))
    }

    /// The consumer is gone, or the server is not there yet after a restart.
    async fn without_consumer(&mut self, why: &str) -> Result<(), BusError> {
        self.pull = None;
        self.shared.still(&self.topic).await?;
        let mine = self.consumer.clone().unwrap_or_default();
        let readers = self.readers().await?;
        if readers.iter().any(|reader| reader.name == mine) {
            tokio::time::sleep(PAUSE).await;
            return Ok(());
        }
        self.consumer = None;
        match readers.first() {
            Some(other) => Err(self.superseded(&other.name)),
            None => {
                tracing::warn!(topic = %self.topic.id, layer = %self.layer, why, "a consumer is gone");
                Ok(())
            }
        }
    }

    /// Whether the message is the next one.
    async fn take_up(&mut self, message: async_nats::Message) -> Result<bool, BusError> {
        let message = jetstream::Message { message, context: self.shared.js.clone() };
        let (sequence, published_at_us, pending) = match message.info() {
            Ok(info) => {
                let at = micros(info.published.unix_timestamp_nanos());
                (info.stream_sequence, at, info.pending)
            }
            Err(error) => return Err(BusError::Corrupt(format!("a message of NATS: {error}"))),
        };
        if sequence <= self.head() {
            return Ok(false);
        }
        let payload = message.message.payload;
        let (headers, records, totals) = headers::read(message.message.headers.as_ref(), &payload);
        let own = Totals { records: u64::from(records), bytes: payload.len() as u64 };
        if sequence > self.head() + 1 && !self.follows(totals.since(own)).await? {
            self.over_a_hole().await?;
            return Ok(false);
        }
        let encoded = EncodedMessage { headers, payload, records };
        let read = Message::new(self.topic.epoch, sequence, published_at_us, encoded, None);
        let reply = message.message.reply;
        let mark = Mark { offset: sequence, published_at_us, totals, reply };
        self.ahead.push_back(Ahead { message: self.topic.share(Arc::new(read)), mark, pending });
        Ok(true)
    }

    /// Whether a message before which the topic had these totals is the next one, though its sequence
    /// is not: a server whose account is full takes a message and drops it again, and refuses it.
    async fn follows(&mut self, before: Totals) -> Result<bool, BusError> {
        (self.consumer, self.pull) = (None, None);
        let here = match self.ahead.back() {
            Some(last) => last.mark.totals,
            None => self.totals_at(self.at).await?,
        };
        Ok(before == here && (here.records > 0 || self.head() == 0))
    }

    /// A message was passed over: it was lost on the way, retention removed it, or somebody did.
    async fn over_a_hole(&mut self) -> Result<(), BusError> {
        (self.consumer, self.pull) = (None, None);
        let missing = self.head() + 1;
        let found = api::message(&self.shared.js, &self.topic.stream, missing).await?;
        let info = self.shared.still(&self.topic).await?;
        self.topic.check_there(self.head(), first_after(&info))?;
        match found {
            Some(_) => Ok(()),
            None => Err(BusError::Corrupt(format!(
                "topic {}: the message at offset {missing} is missing; it was removed by hand",
                self.topic.id
            ))),
        }
    }

    /// Nothing came in time: so there must be nothing, or it comes yet.
    async fn nothing_is_there(&mut self) -> Result<(), BusError> {
        let info = self.shared.still(&self.topic).await?;
        self.topic.check_there(self.head(), first_after(&info))?;
        if info.state.last_sequence <= self.head() {
            return Ok(());
        }
        let (js, topic) = (&self.shared.js, &self.topic);
        let last = api::last_message(js, &topic.stream, &topic.subject).await?;
        if last.is_none_or(|last| last.sequence <= self.head()) {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.come()).await {
            Ok(came) => came,
            Err(_) => {
                (self.consumer, self.pull) = (None, None);
                let id = &self.topic.id;
                Err(BusError::Unavailable(format!("NATS has messages of {id} and sends none")))
            }
        }
    }

    /// Waits for what the server has, up to the limit.
    async fn gather(&mut self, limit: FetchLimit) {
        let (mut records, mut bytes) = (0, 0);
        let mut counted = 0;
        loop {
            for ahead in self.ahead.iter().skip(counted) {
                records += u64::from(ahead.message.records);
                bytes += ahead.message.payload.len();
            }
            counted = self.ahead.len();
            let more = self.ahead.back().is_some_and(|last| last.pending > 0);
            if !more || records >= limit.records || bytes >= limit.bytes {
                return;
            }
            // What went wrong is met again by the next fetch; what came is delivered.
            match tokio::time::timeout(PATIENCE, self.come()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    fn deliver(&mut self, limit: FetchLimit) -> Delivery {
        let (after, mut messages) = (self.at, Vec::new());
        let (mut records, mut bytes) = (0, 0);
        while let Some(next) = self.ahead.front() {
            records += u64::from(next.message.records);
            bytes += next.message.payload.len();
            if !messages.is_empty() && (records > limit.records || bytes > limit.bytes) {
                break;
            }
            let Some(next) = self.ahead.pop_front() else { break };
            self.at = next.mark.offset;
            messages.push(next.message);
            if let Some(before) = self.marks.back_mut() {
                // A later acknowledgement stands for all before it; commits end at deliveries.
                before.reply = before.reply.take().filter(|_| messages.len() == 1);
            }
            self.marks.push_back(next.mark);
        }
        let span = Span { epoch: self.topic.epoch, after, to: self.at };
        Delivery { entity: self.topic.id.clone(), span, messages }
    }

    /// The totals of the topic up to `offset`.
    async fn totals_at(&self, offset: u64) -> Result<Totals, BusError> {
        if offset == 0 {
            return Ok(Totals::default());
        }
        if let Some(totals) = self.topic.totals_at(offset) {
            return Ok(totals);
        }
        let (js, stream) = (&self.shared.js, &self.topic.stream);
        if let Some(message) = api::message(js, stream, offset).await? {
            return Ok(headers::totals(Some(&message.headers)));
        }
        let first = api::message(js, stream, self.topic.first_after() + 1).await?;
        Ok(first.map_or_else(Totals::default, |first| {
            let (_, records, totals) = headers::read(Some(&first.headers), &first.payload);
            let bytes = first.payload.len() as u64;
            totals.since(Totals { records: u64::from(records), bytes })
        }))
    }

    /// Lets go of the marks up to `to`; the last of them.
    fn past(&mut self, to: u64) -> Option<Mark> {
        let mut last = None::<Mark>;
        while self.marks.front().is_some_and(|mark| mark.offset <= to) {
            if let Some(mut mark) = self.marks.pop_front() {
                mark.reply = mark.reply.or(last.and_then(|last| last.reply));
                last = Some(mark);
            }
        }
        last
    }

    /// Tells the server, for people and for publishers of other processes, how far raw has landed.
    async fn land(&self, offset: u64, totals: Totals) -> Result<(), BusError> {
        let (shared, topic) = (&self.shared, &self.topic);
        let mut stands_at = topic.landing.lock().await;
        let record = LandedState::new(topic.epoch, offset, totals);
        let bytes = records::encode(&record)?;
        while offset > topic.landed() {
            let subject = shared.names.landed(&topic.id);
            match records::put(&shared.js, subject, *stands_at, bytes.clone()).await {
                Put::Done(sequence) => {
                    *stands_at = sequence;
                    topic.raw_landed(offset, totals);
                }
                Put::Conflict => {
                    let found = records::landed(&shared.js, &shared.names, &topic.id).await?;
                    *stands_at = found.as_ref().map_or(0, |found| found.sequence);
                    if found.as_ref().is_some_and(|found| found.value.epoch > topic.epoch) {
                        shared.still(topic).await?;
                    }
                    if let Some(found) = found.filter(|f| f.value.epoch == topic.epoch) {
                        topic.raw_landed(found.value.offset, found.value.totals());
                    }
                }
                Put::Lost(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Subscriber for NatsSubscriber {
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        if self.ahead.is_empty() {
            match tokio::time::timeout(limit.wait, self.come()).await {
                Ok(came) => came?,
                Err(_) => self.nothing_is_there().await?,
            }
        }
        self.gather(limit).await;
        Ok(self.deliver(limit))
    }

    async fn commit(&mut self, span: &Span) -> Result<(), BusError> {
        self.topic.check_epoch(span.epoch)?;
        if span.to > self.topic.end() {
            let info = self.shared.still(&self.topic).await?;
            self.topic.check_end(span.to, info.state.last_sequence)?;
        }
        let last = self.past(span.to);
        let before = self.topic.layer(self.layer);
        if span.to > before.committed {
            let totals = match &last {
                Some(mark) if mark.offset == span.to => mark.totals,
                _ => self.totals_at(span.to).await?,
            };
            if self.layer == Layer::Raw {
                self.land(span.to, totals).await?;
            }
            let next_at_us = self.marks.front().map(|mark| mark.published_at_us);
            let state = LayerState { committed: span.to, totals, next_at_us };
            self.topic.committed(self.layer, state);
        }
        if let Some(reply) = last.and_then(|mark| mark.reply) {
            // For NATS's own tools: whether it arrives matters to nobody else.
            if let Err(error) = self.shared.client.publish(reply, "+ACK".into()).await {
                tracing::debug!(%error, "an acknowledgement was not sent");
            }
        }
        Ok(())
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        let (topic, info) = self.shared.current(&self.topic.id).await?;
        let is_other = !Arc::ptr_eq(&topic, &self.topic);
        if is_other {
            topic.read_by(self.layer);
            self.topic = topic;
        }
        self.topic.check_epoch(after.epoch)?;
        self.topic.check_end(after.offset, info.state.last_sequence)?;
        self.topic.check_there(after.offset, first_after(&info))?;
        if is_other || after.offset != self.at {
            self.ahead.clear();
            self.marks.clear();
            (self.consumer, self.pull) = (None, None);
            self.at = after.offset;
        }
        Ok(())
    }
}

/// The token in the name of a consumer, if it is one of `layer`.
fn token(name: &str, layer: Layer) -> Option<u64> {
    name.strip_prefix(layer.as_str())?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_tells_its_layer_and_token() {
        assert_eq!(token("raw-17-abc", Layer::Raw), Some(17));
        assert_eq!(token("raw-17-abc", Layer::Bronze), None);
        assert_eq!(token("dashboard", Layer::Raw), None);
    }
}

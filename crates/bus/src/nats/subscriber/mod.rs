//! A reader of one topic for one layer: a durable consumer of its own, which NATS's own tools show
//! with its lag, and a check that sequences follow each other.

mod consumer;
mod gather;

use std::collections::VecDeque;
use std::sync::Arc;

use alluvium_model::{
    BusError, Delivery, FencingToken, FetchLimit, Layer, Message, Position, Span, Subscriber,
};
use async_trait::async_trait;

use super::headers::{self, Totals};
use super::lag::LayerState;
use super::pull::Pull;
use super::records::{self, LandedState, Put};
use super::topic::{Topic, first_after};
use super::{Shared, api, calls};
use crate::prefetch::Part;

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
    /// The totals there, if that message came to this reader.
    totals: Option<Totals>,
    /// When it was published, if it came to this reader.
    published_at_us: i64,
    /// Messages that came and were not delivered yet, without a hole after `at`.
    ahead: VecDeque<Ahead>,
    /// Messages that were delivered and are not committed.
    marks: VecDeque<Mark>,
    consumer: Option<String>,
    pull: Option<Pull>,
    /// What it may ask for ahead.
    prefetch: Part,
    /// Whether the next message is larger than that: it comes alone.
    is_large: bool,
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
        let (at, prefetch) = (topic.first_after(), shared.prefetch.part());
        Self {
            shared,
            topic,
            layer,
            owner,
            at,
            totals: None,
            published_at_us: i64::MIN,
            ahead: VecDeque::new(),
            marks: VecDeque::new(),
            consumer: None,
            pull: None,
            prefetch,
            is_large: false,
        }
    }

    /// The offset of the last message that came.
    fn head(&self) -> u64 {
        self.ahead.back().map_or(self.at, |last| last.mark.offset)
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
            self.totals = Some(next.mark.totals);
            self.published_at_us = next.mark.published_at_us;
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

    /// The totals of the topic up to the last message that came.
    async fn totals_here(&self) -> Result<Totals, BusError> {
        match self.ahead.back().map(|last| last.mark.totals).or(self.totals) {
            Some(totals) => Ok(totals),
            None => self.totals_at(self.at).await,
        }
    }

    /// The same, with a message in hand that tells none. If they must be asked for and that is broken
    /// off, the message is asked for anew.
    async fn carried_totals(&mut self) -> Result<Totals, BusError> {
        if self.ahead.is_empty() && self.totals.is_none() {
            let standing = (self.consumer.take(), self.pull.take());
            self.totals = Some(self.totals_at(self.at).await?);
            (self.consumer, self.pull) = standing;
        }
        self.totals_here().await
    }

    /// The totals of the topic up to `offset`.
    async fn totals_at(&self, offset: u64) -> Result<Totals, BusError> {
        match self.topic.totals_at(offset) {
            Some(totals) => Ok(totals),
            None => Ok(self.found_at(offset).await?.0),
        }
    }

    /// The totals of the topic up to `offset`, and when the message there was published; 0 if it is
    /// not there any more.
    async fn found_at(&self, offset: u64) -> Result<(Totals, i64), BusError> {
        if offset == 0 {
            return Ok((Totals::default(), 0));
        }
        let (js, stream) = (&self.shared.js, &self.topic.stream);
        if let Some(message) = api::message(js, stream, offset).await? {
            let headers = Some(&message.headers);
            let published_at_us = headers::published_at_us(headers, message.time);
            let known = self.topic.known_totals(offset);
            let totals = self.shared.totals_with(stream, &message, known).await?;
            return Ok((totals, published_at_us));
        }
        let first = api::message(js, stream, self.topic.first_after() + 1).await?;
        let totals = first.map_or_else(Totals::default, |first| {
            let (_, records, totals) = headers::read(Some(&first.headers), &first.payload);
            let bytes = first.payload.len() as u64;
            let own = Totals { records: u64::from(records), bytes };
            totals.map_or_else(Totals::default, |totals| totals.since(own))
        });
        Ok((totals, 0))
    }

    /// What raw has landed must be what stands there, or it is another topic's in all but name.
    async fn check_landed(&self, topic: &Topic) -> Result<(), BusError> {
        let Some(landed) = topic.landed_state() else { return Ok(()) };
        let found = api::message(&self.shared.js, &topic.stream, landed.offset).await?;
        match found.and_then(|found| headers::totals(Some(&found.headers))) {
            Some(found) => topic.check_same(landed.offset, landed.totals(), found),
            None => Ok(()),
        }
    }

    /// Goes on after `at`, and has nothing of what came before.
    fn go_to(&mut self, at: u64) {
        self.ahead.clear();
        self.marks.clear();
        (self.consumer, self.pull) = (None, None);
        (self.at, self.totals, self.published_at_us) = (at, None, i64::MIN);
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
    async fn land(&self, record: LandedState) -> Result<(), BusError> {
        let (shared, topic, offset) = (&self.shared, &self.topic, record.offset);
        let mut stands_at = topic.landing.lock().await;
        let bytes = records::encode(&record)?;
        while offset > topic.landed() {
            let subject = shared.names.landed(&topic.id);
            match records::put(&shared.js, subject, *stands_at, bytes.clone()).await {
                Put::Done(sequence) => {
                    *stands_at = sequence;
                    topic.raw_landed(record);
                }
                Put::Conflict => {
                    let found = records::landed(&shared.js, &shared.names, &topic.id).await?;
                    *stands_at = found.as_ref().map_or(0, |found| found.sequence);
                    if found.as_ref().is_some_and(|found| found.value.epoch > topic.epoch) {
                        shared.still(topic).await?;
                    }
                    if let Some(found) = found.filter(|f| f.value.epoch == topic.epoch) {
                        topic.raw_landed(found.value);
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
            match tokio::time::timeout(limit.wait, self.come(limit)).await {
                Ok(came) => came?,
                Err(_) => self.nothing_is_there(limit).await?,
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
            let (totals, published_at_us) = match &last {
                Some(mark) if mark.offset == span.to => (mark.totals, mark.published_at_us),
                _ => self.found_at(span.to).await?,
            };
            if self.layer == Layer::Raw {
                let epoch = self.topic.epoch;
                self.land(LandedState::new(epoch, span.to, totals, published_at_us)).await?;
            }
            let next = self.marks.front().or_else(|| self.ahead.front().map(|next| &next.mark));
            let next = next.filter(|next| next.offset == span.to + 1);
            let next_at_us = next.map(|next| next.published_at_us);
            let state = LayerState { committed: span.to, totals, next_at_us };
            self.topic.committed(self.layer, state);
        }
        if let Some(reply) = last.and_then(|mark| mark.reply) {
            // For NATS's own tools: whether it arrives matters to nobody else.
            let client = &self.shared.client;
            if let Err(error) = calls::sent(client, client.publish(reply, "+ACK".into())).await {
                tracing::debug!(%error, "an acknowledgement was not sent");
            }
        }
        Ok(())
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        let (topic, info) = self.shared.current(&self.topic.id).await?;
        topic.check_epoch(after.epoch)?;
        topic.check_end(after.offset, info.state.last_sequence)?;
        topic.check_there(after.offset, first_after(&info))?;
        self.check_landed(&topic).await?;
        // The lake has it.
        topic.is_sure_of(after.offset);
        // Only now, so that who could not go there stands where it stood, on the topic that it knows.
        let is_other = !Arc::ptr_eq(&topic, &self.topic);
        if is_other {
            topic.read_by(self.layer);
            self.topic.left_by(self.layer);
            self.topic = topic;
        }
        if is_other || after.offset != self.at {
            self.go_to(after.offset);
        }
        Ok(())
    }
}

impl Drop for NatsSubscriber {
    fn drop(&mut self) {
        self.topic.left_by(self.layer);
    }
}

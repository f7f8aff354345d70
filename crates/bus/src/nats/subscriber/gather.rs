//! How messages come to a reader: as they are asked for, in their order, and none passed over.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, EncodedMessage, FetchLimit, Message};
use async_nats::jetstream;

use super::super::api;
use super::super::headers::{self, Totals};
use super::super::pull::{Bound, Came, LEAST_BYTES, Pull};
use super::super::topic::first_after;
use super::{Ahead, Mark, NatsSubscriber};

/// So long a message that the server has may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

impl NatsSubscriber {
    /// Waits for one more message.
    pub(super) async fn come(&mut self, limit: FetchLimit) -> Result<(), BusError> {
        loop {
            let consumer = match self.consumer.clone() {
                Some(consumer) => consumer,
                None => self.stand().await?,
            };
            if self.pull.is_none() {
                let stream = &self.topic.stream;
                let pull = Pull::ask(&self.shared, stream, &consumer, self.bound(limit)).await?;
                (self.pull, self.is_large) = (Some(pull), false);
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
                    (self.pull, self.is_large) = (None, true);
                }
                Came::NoConsumer(why) => self.without_consumer(&why).await?,
            }
        }
    }

    /// How much is asked for: what it may hold, and no more than whoever fetches may have.
    fn bound(&self, limit: FetchLimit) -> Bound {
        match self.is_large {
            true => Bound::one(),
            false => Bound::of(limit.bytes.clamp(LEAST_BYTES, self.prefetch.bytes())),
        }
    }

    /// Whether the message is the next one.
    async fn take_up(&mut self, message: async_nats::Message) -> Result<bool, BusError> {
        let message = jetstream::Message { message, context: self.shared.js.clone() };
        let (sequence, published_at_us, pending) = match message.info() {
            Ok(info) => {
                let headers = message.message.headers.as_ref();
                let at = headers::published_at_us(headers, info.published);
                (info.stream_sequence, at, info.pending)
            }
            Err(error) => return Err(BusError::Corrupt(format!("a message of NATS: {error}"))),
        };
        if sequence <= self.head() {
            return Ok(false);
        }
        let payload = message.message.payload;
        let (headers, records, told) = headers::read(message.message.headers.as_ref(), &payload);
        let own = Totals { records: u64::from(records), bytes: payload.len() as u64 };
        if sequence == self.head() + 1 {
            self.check_joins(told, own).await?;
        } else if !self.follows(sequence, told.unwrap_or_default().since(own)).await? {
            self.topic.is_sure_of(sequence);
            self.over_a_hole().await?;
            return Ok(false);
        }
        self.topic.is_sure_of(sequence);
        // What somebody else wrote counts in no totals.
        let totals = match told {
            Some(totals) => totals,
            None => self.carried_totals().await?,
        };
        let published_at_us = published_at_us.max(self.published_at_us());
        let encoded = EncodedMessage { headers, payload, records };
        let read = Message::new(self.topic.epoch, sequence, published_at_us, encoded, None);
        let reply = message.message.reply;
        let mark = Mark { offset: sequence, published_at_us, totals, reply };
        self.ahead.push_back(Ahead { message: self.topic.share(Arc::new(read)), mark, pending });
        Ok(true)
    }

    /// A stream that came back shorter, and grew again, has other messages where this reader stands:
    /// the one that comes, with which the topic has these `totals`, does not join what came before.
    async fn check_joins(&mut self, told: Option<Totals>, own: Totals) -> Result<(), BusError> {
        let Some(totals) = told.filter(|totals| totals.records > 0) else { return Ok(()) };
        let here = self.ahead.back().map(|last| last.mark.totals).or(self.totals);
        let differs = |here: &Totals| here.records > 0 && *here != totals.since(own);
        let Some(here) = here.filter(differs) else { return Ok(()) };
        (self.consumer, self.pull) = (None, None);
        let found = api::message(&self.shared.js, &self.topic.stream, self.head()).await?;
        match found.and_then(|found| headers::totals(Some(&found.headers))) {
            Some(found) => self.topic.check_same(self.head(), here, found),
            None => Ok(()),
        }
    }

    /// When the last message that came was published.
    fn published_at_us(&self) -> i64 {
        self.ahead.back().map_or(self.published_at_us, |last| last.mark.published_at_us)
    }

    /// Whether the message of this sequence, before which the topic had these totals, is the next one,
    /// though the sequence is not: a server whose account is full takes a message and drops it again,
    /// and refuses it.
    async fn follows(&mut self, sequence: u64, before: Totals) -> Result<bool, BusError> {
        (self.consumer, self.pull) = (None, None);
        let here = self.totals_here().await?;
        if before != here || (here.records == 0 && self.head() > 0) {
            return Ok(false);
        }
        // What somebody else wrote counts in no totals.
        let (js, topic) = (&self.shared.js, &self.topic);
        let next = self.head() + 1;
        let next = api::next_message(js, &topic.stream, &topic.subject, next).await?;
        Ok(next.is_some_and(|next| next.sequence == sequence))
    }

    /// A message was passed over: it was lost on the way, retention removed it, or somebody did.
    async fn over_a_hole(&mut self) -> Result<(), BusError> {
        (self.consumer, self.pull) = (None, None);
        let missing = self.head() + 1;
        // First, so that of a cluster one answers that has what came.
        self.shared.still(&self.topic).await?;
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
    pub(super) async fn nothing_is_there(&mut self, limit: FetchLimit) -> Result<(), BusError> {
        let info = self.shared.still(&self.topic).await?;
        self.topic.check_there(self.head(), first_after(&info))?;
        if info.state.last_sequence <= self.head() {
            return Ok(());
        }
        let (js, topic) = (&self.shared.js, &self.topic);
        let next = self.head() + 1;
        if api::next_message(js, &topic.stream, &topic.subject, next).await?.is_none() {
            return Ok(());
        }
        match tokio::time::timeout(PATIENCE, self.come(limit)).await {
            Ok(came) => came,
            Err(_) => {
                (self.consumer, self.pull) = (None, None);
                let id = &self.topic.id;
                Err(BusError::Unavailable(format!("NATS has messages of {id} and sends none")))
            }
        }
    }

    /// Waits for what the server has, up to the limit.
    pub(super) async fn gather(&mut self, limit: FetchLimit) {
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
            match tokio::time::timeout(PATIENCE, self.come(limit)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

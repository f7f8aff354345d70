//! A reader of one topic, for one layer.
//!
//! Where it stands is said by who uses it, from the lake. What is committed to the consumer group is
//! for people to see, and nothing follows from it.
//! Between messages Kafka has offsets of its own (the ends of transactions, and transactions rolled
//! back): a delivery takes those before its messages along, and ends with a message, as layers do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, Delivery, FetchLimit, Layer, Message, Position, Span, Subscriber};
use async_trait::async_trait;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::context::Context;
use super::course::Course;
use super::look::{Marks, is_passing, next_of, place};
use super::mishap::{code, is_unknown, told};
use super::publish::drop_aside;
use super::record::{self, Found};
use super::shared::Shared;
use super::topic::{Reading, Topic, first_after};
use crate::prefetch::Part;

/// So long a reader that knows of more waits before it looks again how far it is.
const STEP: Duration = Duration::from_millis(50);
/// So long a delivery waits for what this process published and the brokers do not show yet. It may
/// stand behind somebody's open transaction for longer than that.
const SHOWN: Duration = Duration::from_secs(1);

type Reader = StreamConsumer<Context>;

/// Where one layer stands on one topic.
pub(super) struct KafkaSubscriber {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    layer: Layer,
    _reading: Reading,
    /// Goes on where the subscriber stands; made when it is needed, and anew where that changes, so
    /// that nothing of what it had before can be in the way.
    reader: Option<Arc<Reader>>,
    /// What the reader may fetch ahead: as it is now, and as it was when the reader was made.
    prefetch: Part,
    prefetched: usize,
    at: u64,
    /// Where the reader is.
    course: Course,
    /// What the course was up to there, if something was delivered since the subscriber was placed.
    left: Option<Course>,
    /// What came and was not delivered yet.
    ahead: VecDeque<Ahead>,
}

/// A message that came.
struct Ahead {
    message: Arc<Message>,
    /// The course up to it.
    course: Course,
}

impl Drop for KafkaSubscriber {
    fn drop(&mut self) {
        drop_aside(self.reader.take());
    }
}

impl KafkaSubscriber {
    pub(super) fn new(shared: Arc<Shared>, topic: Arc<Topic>, layer: Layer, marks: Marks) -> Self {
        let (_reading, prefetch) = (topic.read_by(layer), shared.prefetch.part());
        let at = first_after(marks);
        let (_, course) = Course::before(at, marks.low);
        Self {
            shared,
            topic,
            layer,
            _reading,
            reader: None,
            prefetch,
            prefetched: 0,
            at,
            course,
            left: None,
            ahead: VecDeque::new(),
        }
    }

    /// The reader, which goes on where the subscriber stands.
    fn reader(&mut self) -> Result<Arc<Reader>, BusError> {
        if let Some(reader) = &self.reader {
            return Ok(Arc::clone(reader));
        }
        let low = self.topic.marks().low;
        // Asked after it: what brokers remove meanwhile is not passed over.
        self.topic.still_there(self.at)?;
        let settings = &self.shared.settings;
        self.prefetched = self.prefetch.bytes();
        let reader: Reader = settings
            .consumer(&settings.group(self.layer), self.prefetched)
            .create_with_context(self.shared.context.clone())
            .map_err(|e| self.shared.context.refuses(&e))?;
        let (from, course) = match self.left {
            Some(left) => left.again(self.at),
            None => Course::before(self.at, low),
        };
        self.course = course;
        let list = place(&self.topic.name, from.max(low))?;
        reader.assign(&list).map_err(|e| told("placing a reader", &e))?;
        Ok(Arc::clone(self.reader.insert(Arc::new(reader))))
    }

    /// Gives the reader back that fetches more ahead than it may by now, before it is asked for more.
    fn share(&mut self) {
        if self.ahead.is_empty() && self.prefetched > 2 * self.prefetch.bytes() {
            self.stand();
        }
    }

    /// The reader is given back: what was fetched and not delivered comes again.
    fn stand(&mut self) {
        drop_aside(self.reader.take());
        self.ahead.clear();
    }

    /// Where the topic begins and ends, if it is still the one that this reader knows.
    async fn marks(&self) -> Result<Marks, BusError> {
        let marks = self.shared.marks(&self.topic).await?;
        let name = &self.topic.name;
        marks.ok_or_else(|| BusError::Unavailable(format!("topic {name} was lost or made anew")))
    }

    /// What of Kafka's offsets comes next.
    fn next(&mut self) -> Result<i64, BusError> {
        let standing = i64::try_from(self.at + 1).unwrap_or(i64::MAX);
        let next = next_of(&*self.reader()?, &self.topic.name);
        let next = next.map_err(|e| told("asking for a position", &e))?;
        Ok(next.map_or(standing, |next| next.max(standing)))
    }

    /// The offset of the last message that came.
    fn head(&self) -> u64 {
        self.ahead.back().map_or(self.at, |last| last.message.offset)
    }

    /// Takes up what comes within `wait`. Whether that was a message.
    async fn step(&mut self, wait: Duration) -> Result<bool, BusError> {
        let reader = self.reader()?;
        let found = match tokio::time::timeout(wait, reader.recv()).await {
            Err(_) | Ok(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            Ok(Err(error)) if is_passing(&error) => return Ok(false),
            Ok(Err(error)) => return Err(self.broken(&error)),
            Ok(Ok(record)) => record::read(&self.topic.id, self.topic.epoch, &record),
        };
        match found {
            Ok(Some(found)) => self.take_up(found),
            Ok(None) => Ok(false),
            Err(error) => {
                self.topic.spoil();
                Err(error)
            }
        }
    }

    /// Takes up what came, if it is to be delivered.
    fn take_up(&mut self, mut found: Found) -> Result<bool, BusError> {
        let delivered = !self.course.pass(&self.topic.name, &mut found)?;
        if !delivered {
            self.ahead.push_back(Ahead { message: Arc::new(found.message), course: self.course });
        }
        Ok(!delivered)
    }

    /// Takes up the next message before Kafka's offset `high`, or one that is here already. Whether
    /// there was one.
    async fn before(&mut self, high: i64) -> Result<bool, BusError> {
        loop {
            if self.step(Duration::ZERO).await? {
                return Ok(true);
            }
            if self.next()? >= high {
                return Ok(false);
            }
            if self.step(STEP).await? {
                return Ok(true);
            }
        }
    }

    /// As [`Self::before`]. What has come already is delivered, though more does not come in time.
    async fn patiently(&mut self, marks: Marks, high: i64) -> Result<bool, BusError> {
        let shown = !self.ahead.is_empty() && self.next()? >= marks.high;
        let patience = self.shared.settings.patience;
        let patience = if shown { patience.min(SHOWN) } else { patience };
        match tokio::time::timeout(patience, self.before(high)).await {
            Ok(found) => found,
            Err(_) if !self.ahead.is_empty() => Ok(false),
            Err(_) => {
                let (name, waited) = (&self.topic.name, patience.as_secs());
                Err(BusError::Unavailable(format!(
                    "{name} gave nothing of what it has for {waited} s"
                )))
            }
        }
    }

    /// The first message of a delivery: what there is, or what comes within `wait`.
    async fn first(&mut self, marks: Marks, high: i64, wait: Duration) -> Result<bool, BusError> {
        if !self.ahead.is_empty() || self.patiently(marks, high).await? {
            return Ok(true);
        }
        let coming = async {
            while !self.step(wait.max(STEP)).await? {}
            Ok(true)
        };
        tokio::time::timeout(wait, coming).await.unwrap_or(Ok(false))
    }

    /// Takes up what there is, up to the limit. Whoever gives up in the middle loses nothing: it
    /// waits for the next fetch.
    async fn gather(&mut self, limit: FetchLimit) -> Result<(), BusError> {
        let marks = self.marks().await?;
        self.topic.still_there(self.head())?;
        self.share();
        // What this process published is waited for, also if the brokers do not show it yet.
        let known = i64::try_from(self.topic.known_end() + 1).unwrap_or(i64::MAX);
        let high = marks.high.max(known);
        let (mut records, mut bytes, mut counted) = (0, 0, 0);
        let mut more = self.first(marks, high, limit.wait).await?;
        while more {
            for Ahead { message, .. } in self.ahead.iter().skip(counted) {
                records += u64::from(message.records);
                bytes += message.payload.len();
            }
            counted = self.ahead.len();
            more = records < limit.records
                && bytes < limit.bytes
                && self.patiently(marks, high).await?;
        }
        Ok(())
    }

    /// Delivers what came. If the reader did not fail on its way, it is known up to where no message
    /// stands behind it.
    fn deliver(&mut self, limit: FetchLimit, failed: bool) -> Result<Delivery, BusError> {
        let (after, mut messages) = (self.at, Vec::<Arc<Message>>::new());
        let (mut records, mut bytes) = (0, 0);
        let mut left = None;
        while let Some(Ahead { message: next, course }) = self.ahead.front() {
            records += u64::from(next.records);
            bytes += next.payload.len();
            if !messages.is_empty() && (records > limit.records || bytes > limit.bytes) {
                break;
            }
            left = Some(*course);
            messages.extend(self.ahead.pop_front().map(|next| next.message));
        }
        if let Some(last) = messages.last() {
            let next = match self.ahead.front() {
                Some(next) => next.message.offset,
                None if failed => last.offset + 1,
                None => u64::try_from(self.next()?).unwrap_or(0),
            };
            (self.at, self.left) = (last.offset, left);
            let high = next.max(last.offset + 1);
            self.topic.ends(last.offset, i64::try_from(high).unwrap_or(i64::MAX));
            self.topic.heard(last.published_at_us);
        }
        let span = Span { epoch: self.topic.epoch, after, to: self.at };
        Ok(Delivery { entity: self.topic.id.clone(), span, messages })
    }

    /// What a reader is told that cannot go on by itself.
    fn broken(&self, error: &KafkaError) -> BusError {
        if is_unknown(error) {
            self.topic.spoil();
        }
        match code(error) {
            // Removed between asking where the topic begins and reading there: asked anew, the
            // reader is told what is gone.
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => BusError::Unavailable(format!(
                "{} no longer has what comes after offset {}",
                self.topic.name, self.at
            )),
            _ => told(&format!("reading {}", self.topic.name), error),
        }
    }

    /// Shows in the consumer group how far the layer is. Should it fail, the next commit says more.
    fn show(&mut self, to: u64) {
        // Behind the last message the end of its transaction is nothing that waits for anybody.
        let next = match to == self.at && self.ahead.is_empty() {
            true => self.next().ok(),
            false => None,
        };
        let next = next.unwrap_or(i64::try_from(to + 1).unwrap_or(i64::MAX));
        if let Err(error) = self.show_next(next) {
            tracing::debug!(%error, "a group offset was not committed");
        }
    }

    fn show_next(&mut self, next: i64) -> Result<(), BusError> {
        let list = place(&self.topic.name, next)?;
        let committed = self.reader()?.commit(&list, CommitMode::Async);
        committed.map_err(|e| told("committing a group offset", &e))
    }
}

#[async_trait]
impl Subscriber for KafkaSubscriber {
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        let gathered = self.gather(limit).await;
        let failed = gathered.is_err();
        let fetched = match gathered {
            // What came before is delivered. What went wrong is told where nothing comes before it.
            Err(error) if self.ahead.is_empty() => Err(error),
            _ => self.deliver(limit, failed),
        };
        if failed || fetched.is_err() {
            self.stand();
        }
        fetched
    }

    async fn commit(&mut self, span: &Span) -> Result<(), BusError> {
        let landed = self.topic.commit(self.layer, span)?;
        self.show(landed);
        Ok(())
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        let marks = self.marks().await?;
        self.topic.check_seek(after, marks)?;
        self.stand();
        if after.offset != self.at {
            (self.at, self.left) = (after.offset, None);
        }
        Ok(())
    }
}

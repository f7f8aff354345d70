//! A consumer of one topic: all partitions assigned at given offsets, what was read ahead kept per
//! partition, and pages taken from it in the order of the partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_model::SourceError;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::aside;
use super::heard::Heard;
use super::message::arrived;
use super::partition::Partition;
use super::refusal::{is_passing, of_config};
use crate::cursor::Seen;
use crate::log::{Arrived, Brought, Want, another, lost, vanished};
use crate::settings::{OnLoss, Start};

/// So long one look for a message takes at most.
const LOOK: Duration = Duration::from_millis(50);
/// So many pages' bytes are read ahead at most, while a slow partition is waited for.
const PAGES_AHEAD: u64 = 4;

/// A consumer of one topic.
pub(super) struct Reader {
    consumer: BaseConsumer<Heard>,
    config: ClientConfig,
    topic: String,
    timeout: Duration,
    partitions: BTreeMap<i32, Partition>,
    /// How many bytes were read ahead; an empty message counts one.
    ahead: u64,
    lost: u64,
    is_spent: bool,
}

/// What a look for a message brought.
enum Came {
    Nothing,
    /// A broker announced the end of a partition.
    End(i32),
    Message(Arrived),
}

impl Reader {
    /// A new consumer, assigned to all partitions where `want` says.
    pub(super) fn open(
        config: &ClientConfig,
        timeout: Duration,
        want: &Want,
    ) -> Result<Self, SourceError> {
        let consumer: BaseConsumer<Heard> =
            config.create_with_context(Heard::default()).map_err(|error| of_config(&error))?;
        let (config, topic) = (config.clone(), want.topic.clone());
        let mut reader = Self {
            consumer,
            config,
            topic,
            timeout,
            partitions: BTreeMap::new(),
            ahead: 0,
            lost: 0,
            is_spent: false,
        };
        let ids = reader.ids()?;
        reader.check_all_are_there(want, &ids)?;
        for id in ids {
            let (first, end) = reader.reach(id)?;
            let next = reader.begin(want, id, first, end)?;
            let is_there = |last: &&Seen| (first..next).contains(&last.offset);
            let last = want.last.get(&id).filter(is_there).cloned();
            let mut partition = Partition::new(next, end);
            partition.last = last;
            reader.partitions.insert(id, partition);
        }
        let mut offsets = TopicPartitionList::new();
        for (id, partition) in &reader.partitions {
            let begins = Offset::Offset(partition.begins());
            reader.known(offsets.add_partition_offset(&reader.topic, *id, begins))?;
        }
        reader.known(reader.consumer.assign(&offsets))?;
        Ok(reader)
    }

    /// Whether it stands where a page is wanted from.
    pub(super) fn stands_at(&self, want: &Want) -> bool {
        want.topic == self.topic && want.from.as_ref() == Some(&self.next())
    }

    fn next(&self) -> BTreeMap<i32, i64> {
        self.partitions.iter().map(|(id, partition)| (*id, partition.next)).collect()
    }

    /// Whether a new consumer must read on: there is another partition, or messages were removed
    /// before they were read.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// The next page.
    pub(super) fn page(&mut self, want: &Want) -> Result<Brought, SourceError> {
        if !self.is_behind() {
            self.look_again()?;
        }
        self.gather(want)?;
        if !self.is_behind() && !self.is_spent {
            self.wait(want)?;
        }
        Ok(self.take(want))
    }

    /// Notes offsets in the consumer group.
    pub(super) fn commit(&self, topic: &str, next: &BTreeMap<i32, i64>) -> KafkaResult<()> {
        let mut offsets = TopicPartitionList::new();
        for (id, next) in next {
            offsets.add_partition_offset(topic, *id, Offset::Offset(*next))?;
        }
        if offsets.count() == 0 {
            return Ok(());
        }
        self.consumer.commit(&offsets, CommitMode::Async)
    }

    fn known<T>(&self, result: KafkaResult<T>) -> Result<T, SourceError> {
        result.map_err(|error| self.consumer.context().meaning(&error, &self.topic))
    }

    /// The partitions that there are.
    fn ids(&self) -> Result<Vec<i32>, SourceError> {
        let metadata = self.known(self.consumer.fetch_metadata(Some(&self.topic), self.timeout))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        if let Some(error) = topic.and_then(|topic| topic.error()) {
            return self.known(Err(KafkaError::MetadataFetch(error.into())));
        }
        let mut ids: Vec<i32> =
            topic.into_iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        if ids.is_empty() {
            let text = format!("there is no topic `{}`", self.topic);
            return Err(SourceError::Misconfigured(text));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The first offset that is still there, and the one after the last.
    fn reach(&self, id: i32) -> Result<(i64, i64), SourceError> {
        self.known(self.consumer.fetch_watermarks(&self.topic, id, self.timeout))
    }

    /// A partition of which something was read does not go but with its topic.
    fn check_all_are_there(&self, want: &Want, ids: &[i32]) -> Result<(), SourceError> {
        let mut read = want.from.iter().flatten();
        let Some((id, next)) = read.find(|(id, _)| !ids.contains(id)) else { return Ok(()) };
        if want.on_loss == OnLoss::Stop {
            return Err(vanished(want, &self.place(*id), *next));
        }
        tracing::warn!(entity = %want.entity, partition = id, "a partition is not there any more");
        Ok(())
    }

    /// Where to begin in a partition.
    fn begin(&mut self, want: &Want, id: i32, first: i64, end: i64) -> Result<i64, SourceError> {
        let Some(from) = &want.from else {
            return Ok(if want.start == Start::Latest { end } else { first });
        };
        let Some(next) = from.get(&id).copied() else { return Ok(first) };
        if (first..=end).contains(&next) {
            return Ok(next);
        }
        if want.on_loss == OnLoss::Stop {
            let shorter = || format!("it ends at {end}, but was read up to {next}");
            return Err(match next > end {
                true => another(want, &self.place(id), &shorter()),
                false => lost(want, &self.place(id), next, first),
            });
        }
        let gone = u64::try_from(first.saturating_sub(next)).unwrap_or(0);
        self.lost += gone;
        tracing::warn!(entity = %want.entity, partition = id, gone, "messages were gone before they were read");
        Ok(first)
    }

    /// A partition turned out to be another one than was read: it is read from its beginning, if
    /// that is wanted. What this consumer knows of places is of both; so a new one reads on.
    fn begin_anew(&mut self, want: &Want, id: i32) -> Result<(), SourceError> {
        let mut from = self.next();
        let next = from.remove(&id).unwrap_or_default();
        if want.on_loss == OnLoss::Stop {
            let how = format!("what stands before {next} is not what was read");
            return Err(another(want, &self.place(id), &how));
        }
        tracing::warn!(entity = %want.entity, partition = id, "the topic was made anew");
        let mut want = Want { from: Some(from), ..want.clone() };
        want.last.remove(&id);
        let mut fresh = Self::open(&self.config, self.timeout, &want)?;
        fresh.lost += self.lost;
        aside(std::mem::replace(self, fresh));
        Ok(())
    }

    fn place(&self, id: i32) -> String {
        format!("partition {id} of topic `{}`", self.topic)
    }

    fn is_behind(&self) -> bool {
        self.partitions.values().any(Partition::is_behind)
    }

    /// Asks for the ends anew. A partition that was added, or messages that were removed meanwhile,
    /// are met by a new consumer.
    fn look_again(&mut self) -> Result<(), SourceError> {
        if self.ids()?.iter().ne(self.partitions.keys()) {
            self.is_spent = true;
            return Ok(());
        }
        let ids: Vec<i32> = self.partitions.keys().copied().collect();
        for id in ids {
            let (first, end) = self.reach(id)?;
            if let Some(partition) = self.partitions.get_mut(&id) {
                self.is_spent |= partition.read < first || partition.read > end;
                partition.end = end;
            }
        }
        Ok(())
    }

    /// Waits until each partition is known again and, if it is behind, has its share of the page or
    /// is at its end.
    fn gather(&mut self, want: &Want) -> Result<(), SourceError> {
        let share = self.share(want);
        let mut quiet = Duration::ZERO;
        while self.ahead < want.bytes.saturating_mul(PAGES_AHEAD)
            && self.partitions.values().any(|partition| partition.lacks(share))
        {
            quiet = if self.look(want, LOOK)? { Duration::ZERO } else { quiet + LOOK };
            if quiet >= self.timeout {
                if self.ahead > 0 {
                    return Ok(());
                }
                return Err(SourceError::Unavailable(format!(
                    "topic `{}`: what stands before its end did not come in time",
                    self.topic
                )));
            }
        }
        Ok(())
    }

    /// Waits for a first message, and takes what came with it.
    fn wait(&mut self, want: &Want) -> Result<(), SourceError> {
        let mut waited = Duration::ZERO;
        while self.ahead == 0 && waited < want.wait {
            let look = LOOK.min(want.wait - waited);
            if !self.look(want, look)? {
                waited += look;
            }
        }
        let mut count = 1;
        while self.ahead > 0 && self.ahead < want.bytes && count < want.messages {
            if !self.look(want, Duration::ZERO)? {
                break;
            }
            count += 1;
        }
        for partition in self.partitions.values_mut() {
            partition.end = partition.end.max(partition.read);
        }
        Ok(())
    }

    /// Looks for one message, or the end of a partition; whether one came.
    fn look(&mut self, want: &Want, within: Duration) -> Result<bool, SourceError> {
        let served = self.consumer.context().served();
        match self.came(within)? {
            Came::Nothing => {
                // Nothing waits: what was heard of before this look has come.
                if self.consumer.context().served() == served {
                    self.pass_announced();
                }
                return Ok(false);
            }
            Came::End(id) => self.meet_end(id)?,
            Came::Message(message) => self.take_up(want, message)?,
        }
        Ok(true)
    }

    fn came(&self, within: Duration) -> Result<Came, SourceError> {
        match self.consumer.poll(within) {
            None => Ok(Came::Nothing),
            Some(Err(KafkaError::PartitionEOF(id))) => Ok(Came::End(id)),
            Some(Err(error)) if is_passing(&error) => Ok(Came::Nothing),
            Some(Err(error)) => Err(self.consumer.context().meaning(&error, &self.topic)),
            Some(Ok(message)) => Ok(Came::Message(arrived(&message))),
        }
    }

    fn take_up(&mut self, want: &Want, message: Arrived) -> Result<(), SourceError> {
        let id = message.partition;
        match self.partitions.get_mut(&id).map(|partition| partition.arrive(message)) {
            Some(Some(bytes)) => self.ahead += bytes,
            Some(None) => self.begin_anew(want, id)?,
            None => {}
        }
        Ok(())
    }

    /// A broker may announce an end before that of its topic. So only that counts up to which
    /// everything has come, messages and marks of transactions.
    fn meet_end(&mut self, id: i32) -> Result<(), SourceError> {
        let places = self.known(self.consumer.position())?;
        let place = places.find_partition(&self.topic, id).map(|place| place.offset());
        if let (Some(Offset::Offset(at)), Some(partition)) = (place, self.partitions.get_mut(&id)) {
            partition.pass(at);
        }
        Ok(())
    }

    /// Where compaction took the last messages, nothing comes that would tell how far was read, but
    /// the consumer says at which end it stood.
    fn pass_announced(&mut self) {
        for (id, end) in self.consumer.context().ends(&self.topic) {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.pass(end);
            }
        }
    }

    /// How many messages each partition that is behind may bring.
    fn share(&self, want: &Want) -> usize {
        let behind = self.partitions.values().filter(|partition| partition.is_behind()).count();
        let share = want.messages / u64::try_from(behind).unwrap_or(1).max(1);
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// A page of what was read ahead.
    fn take(&mut self, want: &Want) -> Brought {
        let share = self.share(want);
        let behind = self.partitions.values().filter(|partition| partition.is_behind()).count();
        let bytes = want.bytes / u64::try_from(behind).unwrap_or(1).max(1);
        let mut brought = Brought { lost: std::mem::take(&mut self.lost), ..Brought::default() };
        for (id, partition) in &mut self.partitions {
            partition.take(share, bytes, &mut brought.messages);
            brought.next.insert(*id, partition.next);
            let last = brought.messages.last().filter(|message| message.partition == *id);
            brought.last.extend(last.map(|message| (*id, message.seen())));
        }
        self.ahead -= brought.messages.iter().map(|message| message.bytes().max(1)).sum::<u64>();
        brought.more = self.is_spent || self.is_behind();
        brought
    }
}

//! A reader of one topic: all partitions from given offsets on, what was read ahead kept per partition,
//! and pages taken from it in the order of the partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_model::SourceError;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;

use super::aside;
use super::consumer::{Came, Consumer};
use super::partition::Partition;
use super::there::{PAUSE, missing, until_all_are_there};
use crate::cursor::Seen;
use crate::log::{Arrived, Brought, Want, another, lost, vanished};
use crate::settings::{OnLoss, Start};

/// So long one look for a message takes at most.
const LOOK: Duration = Duration::from_millis(50);
/// So many pages' bytes are read ahead at most, while a slow partition is waited for.
const PAGES_AHEAD: u64 = 4;

/// A reader of one topic.
pub(super) struct Reader {
    consumer: Consumer,
    config: ClientConfig,
    partitions: BTreeMap<i32, Partition>,
    /// How many bytes were read ahead; an empty message counts one.
    ahead: u64,
    lost: u64,
    is_spent: bool,
}

impl Reader {
    /// A reader with a new consumer, of all partitions from where `want` says.
    pub(super) fn open(
        config: &ClientConfig,
        timeout: Duration,
        want: &Want,
    ) -> Result<Self, SourceError> {
        let mut reader = Self {
            consumer: Consumer::new(config, &want.topic, timeout)?,
            config: config.clone(),
            partitions: BTreeMap::new(),
            ahead: 0,
            lost: 0,
            is_spent: false,
        };
        let ids = reader.ids(want)?;
        for id in ids {
            let (first, end) = reader.consumer.reach(id)?;
            let next = reader.begin(want, id, first, end)?;
            let is_there = |last: &&Seen| (first..next).contains(&last.offset);
            let last = want.last.get(&id).filter(is_there).cloned();
            let mut partition = Partition::new(next, end);
            partition.last = last;
            reader.partitions.insert(id, partition);
        }
        let begins = reader.partitions.iter().map(|(id, partition)| (*id, partition.begins()));
        reader.consumer.begin(&begins.collect())?;
        Ok(reader)
    }

    /// Whether it stands where a page is wanted from.
    pub(super) fn stands_at(&self, want: &Want) -> bool {
        want.topic == self.consumer.topic && want.from.as_ref() == Some(&self.next())
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
    pub(super) fn commit(&self, next: &BTreeMap<i32, i64>) -> KafkaResult<()> {
        self.consumer.commit(next)
    }

    /// The partitions that there are. One of which something was read does not go but with its topic.
    fn ids(&self, want: &Want) -> Result<Vec<i32>, SourceError> {
        let ids = until_all_are_there(want, PAUSE, || self.consumer.ids())?;
        let Some((id, next)) = missing(want, &ids) else { return Ok(ids) };
        if want.on_loss == OnLoss::Stop {
            return Err(vanished(want, &self.place(id), next));
        }
        tracing::warn!(entity = %want.entity, partition = id, "a partition is not there any more");
        Ok(ids)
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
        let mut fresh = Self::open(&self.config, self.consumer.timeout, &want)?;
        fresh.lost += self.lost;
        aside(std::mem::replace(self, fresh));
        Ok(())
    }

    fn place(&self, id: i32) -> String {
        format!("partition {id} of topic `{}`", self.consumer.topic)
    }

    fn is_behind(&self) -> bool {
        self.partitions.values().any(Partition::is_behind)
    }

    /// Asks for the ends anew. A partition that was added, or messages that were removed meanwhile,
    /// are met by a new consumer.
    fn look_again(&mut self) -> Result<(), SourceError> {
        if self.consumer.ids()?.iter().ne(self.partitions.keys()) {
            self.is_spent = true;
            return Ok(());
        }
        let ids: Vec<i32> = self.partitions.keys().copied().collect();
        for id in ids {
            let (first, end) = self.consumer.reach(id)?;
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
            if quiet >= self.consumer.timeout {
                if self.ahead > 0 {
                    return Ok(());
                }
                return Err(SourceError::Unavailable(format!(
                    "topic `{}`: what stands before its end did not come in time",
                    self.consumer.topic
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
        match self.consumer.look(within)? {
            Came::Nothing => return Ok(false),
            // A broker may announce an end before that of its topic: what stands behind it is yet
            // to come.
            Came::End(id, at) => self.pass(id, at),
            Came::Message(message) => self.take_up(want, message)?,
        }
        Ok(true)
    }

    fn pass(&mut self, id: i32, at: i64) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.pass(at);
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

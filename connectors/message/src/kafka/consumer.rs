//! A consumer of librdkafka for one topic: what it is asked, and what it brings.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_model::SourceError;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::heard::Heard;
use super::message::arrived;
use super::refusal::{is_passing, of_config};
use crate::log::Arrived;

/// A consumer of one topic.
pub(super) struct Consumer {
    inner: BaseConsumer<Heard>,
    pub(super) topic: String,
    pub(super) timeout: Duration,
}

/// What a look for a message brought.
pub(super) enum Came {
    /// Nothing that counts, in the time that was given.
    Nothing,
    /// Nothing, and nothing waits: what was heard of before this look has come.
    Idle,
    /// A broker announced the end of a partition.
    End(i32),
    /// A message.
    Message(Arrived),
}

impl Consumer {
    /// A new one, which reads nothing yet.
    pub(super) fn new(
        config: &ClientConfig,
        topic: &str,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let inner =
            config.create_with_context(Heard::default()).map_err(|error| of_config(&error))?;
        Ok(Self { inner, topic: topic.to_owned(), timeout })
    }

    fn known<T>(&self, result: KafkaResult<T>) -> Result<T, SourceError> {
        result.map_err(|error| self.inner.context().meaning(&error, &self.topic))
    }

    /// The partitions that there are.
    pub(super) fn ids(&self) -> Result<Vec<i32>, SourceError> {
        let metadata = self.known(self.inner.fetch_metadata(Some(&self.topic), self.timeout))?;
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

    /// The first offset of a partition that is still there, and the one after the last.
    pub(super) fn reach(&self, id: i32) -> Result<(i64, i64), SourceError> {
        self.known(self.inner.fetch_watermarks(&self.topic, id, self.timeout))
    }

    /// Begins to read partitions at these offsets. Done once: what it says of places is of these.
    pub(super) fn begin(&self, places: &BTreeMap<i32, i64>) -> Result<(), SourceError> {
        let places = self.known(self.list(places))?;
        self.known(self.inner.assign(&places))
    }

    fn list(&self, places: &BTreeMap<i32, i64>) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (id, at) in places {
            list.add_partition_offset(&self.topic, *id, Offset::Offset(*at))?;
        }
        Ok(list)
    }

    /// Notes offsets in the consumer group.
    pub(super) fn commit(&self, next: &BTreeMap<i32, i64>) -> KafkaResult<()> {
        if next.is_empty() {
            return Ok(());
        }
        self.inner.commit(&self.list(next)?, CommitMode::Async)
    }

    /// Looks for one message, or the end of a partition.
    pub(super) fn look(&self, within: Duration) -> Result<Came, SourceError> {
        let served = self.inner.context().served();
        match self.inner.poll(within) {
            None if self.inner.context().served() == served => Ok(Came::Idle),
            None => Ok(Came::Nothing),
            Some(Err(KafkaError::PartitionEOF(id))) => Ok(Came::End(id)),
            Some(Err(error)) if is_passing(&error) => Ok(Came::Nothing),
            Some(Err(error)) => self.known(Err(error)),
            Some(Ok(message)) => Ok(Came::Message(arrived(&message))),
        }
    }

    /// Up to where everything of a partition has come, messages and marks of transactions; `None`
    /// where nothing has.
    pub(super) fn position(&self, id: i32) -> Result<Option<i64>, SourceError> {
        let places = self.known(self.inner.position())?;
        let place = places.find_partition(&self.topic, id).map(|place| place.offset());
        Ok(match place {
            Some(Offset::Offset(at)) => Some(at),
            _ => None,
        })
    }

    /// The ends of partitions that were announced when everything before them was on its way.
    pub(super) fn ends(&self) -> Vec<(i32, i64)> {
        self.inner.context().ends(&self.topic)
    }
}

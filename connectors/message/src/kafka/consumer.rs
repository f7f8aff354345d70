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
    /// A broker announced the end of a partition at an offset. All of it that is a message and stands
    /// before that has come.
    End(i32, i64),
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
        match self.inner.poll(within) {
            None => Ok(Came::Nothing),
            Some(Err(KafkaError::PartitionEOF(id))) => {
                let end = self.inner.context().take_end();
                Ok(end.map_or(Came::Nothing, |at| Came::End(id, at)))
            }
            Some(Err(error)) if is_passing(&error) => Ok(Came::Nothing),
            Some(Err(error)) => self.known(Err(error)),
            Some(Ok(message)) => Ok(Came::Message(arrived(&message))),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    /// Compaction may have taken the last messages: only the end tells how far was read then.
    #[test]
    fn an_end_is_announced_with_its_offset_also_where_no_message_comes() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("ends", 2, 1).unwrap();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", "ends")
            .set("enable.partition.eof", "true");
        let consumer = Consumer::new(&config, "ends", Duration::from_secs(30)).unwrap();
        consumer.begin(&BTreeMap::from([(1, 0)])).unwrap();
        let ended =
            (0..600).find_map(|_| match consumer.look(Duration::from_millis(50)).unwrap() {
                Came::End(id, at) => Some((id, at)),
                _ => None,
            });
        assert_eq!(ended, Some((1, 0)));
    }
}

//! What a consumer tells beside its messages: refusals, and in its statistics the ends at which its
//! partitions stood.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alluvium_model::SourceError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::Deserialize;

use super::refusal::{is_refusal, meaning};

/// What a consumer heard beside its answers: a failed log-in is told nowhere else.
#[derive(Default)]
pub(super) struct Heard {
    refused: Mutex<Option<RDKafkaErrorCode>>,
    statistics: Mutex<Statistics>,
    /// How often it was told anything.
    served: AtomicU64,
}

/// Of librdkafka's statistics, what is needed here.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: BTreeMap<String, Partition>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Partition {
    partition: i32,
    /// The end that was announced last. By then everything before it was queued.
    eof_offset: i64,
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, _: &str) {
        self.serve();
        tracing::debug!(?level, facility, "librdkafka");
    }

    fn error(&self, error: KafkaError, _: &str) {
        self.serve();
        if let Some(code) = error.rdkafka_error_code().filter(|code| is_refusal(*code)) {
            *locked(&self.refused) = Some(code);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.serve();
        if let Ok(told) = serde_json::from_slice(statistics) {
            *locked(&self.statistics) = told;
        }
    }
}

impl ConsumerContext for Heard {
    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.serve();
    }
}

impl Heard {
    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was told anything: a look at an empty queue leaves it as it is, one that found
    /// something else than a message does not.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The last end that each partition of the topic stood at, everything before it having been
    /// queued; what is less than 0 is none. They are heard of before what waits in the queue.
    pub(super) fn ends(&self, topic: &str) -> Vec<(i32, i64)> {
        let statistics = locked(&self.statistics);
        let partitions =
            statistics.topics.get(topic).into_iter().flat_map(|t| t.partitions.values());
        partitions.map(|partition| (partition.partition, partition.eof_offset)).collect()
    }

    /// What an error means for whoever asked.
    pub(super) fn meaning(&self, error: &KafkaError, topic: &str) -> SourceError {
        meaning(error, *locked(&self.refused), topic)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_topic_are_heard_of_in_the_statistics() {
        let heard = Heard::default();
        assert!(heard.ends("t").is_empty());
        let told = r#"{"name":"alluvium#consumer-1","topics":{
            "t":{"topic":"t","age":3,"partitions":{
                "0":{"partition":0,"eof_offset":95,"ls_offset":100},
                "-1":{"partition":-1,"eof_offset":-1001}
            }},
            "u":{"topic":"u","partitions":{"0":{"partition":0,"eof_offset":7}}}
        },"cgrp":{}}"#;
        heard.stats_raw(told.as_bytes());
        let mut ends = heard.ends("t");
        ends.sort_unstable();
        assert_eq!(ends, [(-1, -1001), (0, 95)]);
        heard.stats_raw(b"no statistics");
        assert_eq!((heard.ends("u"), heard.served()), (vec![(0, 7)], 2));
    }
}

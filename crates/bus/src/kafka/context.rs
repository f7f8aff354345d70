//! What librdkafka tells of itself goes to `tracing`, without secrets.

use std::sync::Arc;

use alluvium_model::{BusError, Secret};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use super::mishap::told;

/// Given to every client of librdkafka. Knows the secrets, so that no line shows one.
#[derive(Clone)]
pub(super) struct Context {
    secrets: Arc<[Secret]>,
}

impl Context {
    pub(super) fn new(secrets: Vec<Secret>) -> Self {
        Self { secrets: secrets.into() }
    }

    /// Why there is no client with these options.
    pub(super) fn refuses(&self, error: &KafkaError) -> BusError {
        match told("connecting", error) {
            BusError::Refused(why) => BusError::Refused(self.masked(&why)),
            other => other,
        }
    }

    /// The text with every secret in it masked.
    pub(super) fn masked(&self, text: &str) -> String {
        let shown = self.secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty());
        shown.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        let said = self.masked(message);
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(fac, said, "kafka"),
            RDKafkaLogLevel::Warning => tracing::warn!(fac, said, "kafka"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(fac, said, "kafka");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(fac, said, "kafka"),
        }
    }

    fn stats(&self, stats: Statistics) {
        let up = stats.brokers.values().filter(|broker| broker.state == "UP").count();
        tracing::debug!(
            client = stats.name,
            kind = stats.client_type,
            brokers_up = up,
            waiting_messages = stats.msg_cnt,
            waiting_bytes = stats.msg_size,
            sent_bytes = stats.tx_bytes,
            received_bytes = stats.rx_bytes,
            "kafka statistics"
        );
    }

    /// Not an error of ours: librdkafka goes on by itself, and what fails is told to who asked.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(code = ?error.rdkafka_error_code(), reason = self.masked(reason), "kafka");
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "a group offset was not committed; it will be again");
        }
    }
}

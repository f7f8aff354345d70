//! What librdkafka tells of itself goes to `tracing`, without secrets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_model::{BusError, Secret};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use super::door::Door;
use super::mishap::told;

/// Where a connection failed, a line of librdkafka's log says so by this.
const FAILED: &str = "FAIL";

/// Given to every client of librdkafka. Knows the secrets, so that no line shows one.
#[derive(Clone)]
pub(super) struct Context {
    secrets: Arc<[Secret]>,
    door: Arc<Mutex<Door>>,
}

impl Context {
    pub(super) fn new(secrets: Vec<Secret>) -> Self {
        Self { secrets: secrets.into(), door: Arc::default() }
    }

    /// Whether the brokers let us in, as far as they told.
    pub(super) fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no client with these options.
    pub(super) fn refuses(&self, error: &KafkaError) -> BusError {
        match told("connecting", error) {
            BusError::Refused(why) => BusError::Refused(self.masked(&why)),
            other => other,
        }
    }

    /// That nobody answers, with what librdkafka has told of the connections.
    pub(super) fn explained(&self, error: BusError) -> BusError {
        match (error, self.door().told()) {
            (BusError::Unavailable(why), Some(told)) => {
                BusError::Unavailable(format!("{why}; {told}"))
            }
            (error, _) => error,
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
        // What is worse comes as an error as well, and what debugging adds says it once more.
        if fac == FAILED && !is_error(level) && !matches!(level, RDKafkaLogLevel::Debug) {
            // Before it stands whose thread says so.
            self.door().failed(None, said.split_once("]: ").map_or(&*said, |(_, said)| said));
        }
        match level {
            level if is_error(level) => tracing::error!(fac, said, "kafka"),
            RDKafkaLogLevel::Warning => tracing::warn!(fac, said, "kafka"),
            RDKafkaLogLevel::Debug => tracing::debug!(fac, said, "kafka"),
            _ => tracing::info!(fac, said, "kafka"),
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
        let (code, reason) = (error.rdkafka_error_code(), self.masked(reason));
        self.door().failed(code, &reason);
        tracing::debug!(?code, reason, "kafka");
    }
}

fn is_error(level: RDKafkaLogLevel) -> bool {
    (level as i32) <= (RDKafkaLogLevel::Error as i32)
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "a group offset was not committed");
        }
    }
}

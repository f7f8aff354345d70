//! What a consumer tells beside its messages: refusals, and at which ends its partitions stand.

use std::sync::{Mutex, MutexGuard, PoisonError};

use alluvium_model::SourceError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::refusal::{is_broken, is_refusal, meaning};

/// What stands before the offset where librdkafka announces an end. Its binding gives the partition
/// alone.
const END: &str = "end of partition at offset ";

/// What a consumer heard beside its answers: a failed log-in is told nowhere else.
#[derive(Default)]
pub(super) struct Heard {
    refused: Mutex<Option<RDKafkaErrorCode>>,
    end: Mutex<Option<i64>>,
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, _: &str) {
        tracing::debug!(?level, facility, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => *locked(&self.end) = end(reason),
            Some(code) if is_refusal(code) && !is_broken(reason) => {
                *locked(&self.refused) = Some(code);
            }
            _ => {}
        }
    }
}

impl ConsumerContext for Heard {}

impl Heard {
    /// The offset of the end that was announced last, told once. Everything before it has come.
    pub(super) fn take_end(&self) -> Option<i64> {
        locked(&self.end).take()
    }

    /// What an error means for whoever asked.
    pub(super) fn meaning(&self, error: &KafkaError, topic: &str) -> SourceError {
        meaning(error, *locked(&self.refused), topic)
    }
}

/// The offset in an announcement of an end.
fn end(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once(END)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |at| &rest[..at]);
    digits.parse().ok()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_unknown_is_a_refusal_and_a_line_that_breaks_is_none() {
        let (heard, away) = (Heard::default(), KafkaError::Global(RDKafkaErrorCode::Resolve));
        let meaning = |heard: &Heard| heard.meaning(&away, "orders");
        heard.error(KafkaError::Global(RDKafkaErrorCode::SSL), "SSL transport error: timed out");
        assert!(matches!(meaning(&heard), SourceError::Unavailable(_)));
        let unknown = "SSL handshake failed: certificate verify failed";
        heard.error(KafkaError::Global(RDKafkaErrorCode::SSL), unknown);
        assert!(matches!(meaning(&heard), SourceError::Refused(_)));
    }

    #[test]
    fn an_end_is_told_once_with_its_offset() {
        let heard = Heard::default();
        assert_eq!(heard.take_end(), None);
        let said = "Fetch from broker 1 reached end of partition at offset 95 (HighwaterMark 100)";
        heard.error(KafkaError::Global(RDKafkaErrorCode::PartitionEOF), said);
        assert_eq!((heard.take_end(), heard.take_end()), (Some(95), None));
        heard.error(KafkaError::Global(RDKafkaErrorCode::PartitionEOF), "the end");
        assert_eq!(heard.take_end(), None);
    }
}

//! A transaction: a page and its cursor record are put into it, and it is brought to its end.

use std::time::Duration;

use alluvium_model::{BusError, EncodedPage};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureRecord, Producer};

use super::cursors::{Stored, cursor_entry};
use super::look::PARTITION;
use super::mishap::{is_fenced, is_purged, stopped};
use super::publish::{Client, answers, queue};
use super::record::Polled;
use super::shared::Shared;
use super::topic::Topic;

/// A commit whose answer does not come is asked for again so often.
const COMMIT_TRIES: u32 = 3;

/// Why a transaction was not filled.
pub(super) enum Failure {
    Kafka(KafkaError),
    Told(BusError),
}

/// How a transaction ended.
pub(super) enum Ended {
    Committed,
    /// It must be rolled back.
    Failed(KafkaError),
    /// Nobody answered: it may be committed, or not.
    Unknown(KafkaError),
}

/// Puts the page and its cursor record, which then counts its messages, into a transaction; where they
/// stand.
pub(super) async fn fill(
    client: &Client,
    shared: &Shared,
    topic: &Topic,
    page: &EncodedPage,
    stored: &mut Stored,
) -> Result<Vec<Option<u64>>, Failure> {
    client.begin_transaction().map_err(Failure::Kafka)?;
    let first = Polled { number: stored.polled + 1, after: stored.polled_at };
    let queued = queue(client, topic, page, stored.published_at_us, Some(first)).await;
    let queued = queued.map_err(Failure::Kafka)?;
    let offsets = answers(queued).await.map_err(Failure::Kafka)?;
    if offsets.first().copied().flatten().is_some_and(|first| first <= topic.known_end()) {
        topic.spoil();
        return Err(Failure::Told(BusError::Unavailable(format!(
            "topic {} was made anew; it is asked what it is now",
            topic.name
        ))));
    }
    stored.polled += page.messages.len() as u64;
    if let Some(last) = offsets.last() {
        stored.polled_at = *last;
    }
    let (key, value) = cursor_entry(&topic.id, stored).map_err(Failure::Told)?;
    let record = FutureRecord::to(&shared.cursors.topic).partition(PARTITION);
    let record = record.key(&key).payload(&value);
    client.send(record, shared.settings.patience).await.map_err(|(e, _)| Failure::Kafka(e))?;
    Ok(offsets)
}

/// Messages that were thrown away do not tell why: their transaction does, which is at its end.
pub(super) async fn reason(client: &Client, patience: Duration, failure: Failure) -> Failure {
    match &failure {
        Failure::Kafka(error) if is_purged(error) => match commit(client, patience).await {
            Ok(Ended::Failed(reason)) => Failure::Kafka(reason),
            _ => failure,
        },
        _ => failure,
    }
}

/// Commits it.
pub(super) async fn commit(client: &Client, patience: Duration) -> Result<Ended, BusError> {
    let client = client.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let mut last = KafkaError::Canceled;
        for _ in 0..COMMIT_TRIES {
            last = match client.commit_transaction(patience) {
                Ok(()) => return Ended::Committed,
                Err(KafkaError::Transaction(e)) if e.txn_requires_abort() => {
                    return Ended::Failed(KafkaError::Transaction(e));
                }
                Err(KafkaError::Transaction(e)) if e.is_retriable() => KafkaError::Transaction(e),
                Err(KafkaError::Flush(code)) => return Ended::Failed(KafkaError::Flush(code)),
                Err(error) if is_fenced(&error) => return Ended::Failed(error),
                Err(error) => return Ended::Unknown(error),
            };
        }
        Ended::Unknown(last)
    });
    asked.await.map_err(|e| stopped(&e))
}

/// Rolls it back.
pub(super) async fn abort(client: Client, patience: Duration) -> Result<(), KafkaError> {
    let asked = tokio::task::spawn_blocking(move || client.abort_transaction(patience));
    asked.await.unwrap_or(Err(KafkaError::Canceled))
}

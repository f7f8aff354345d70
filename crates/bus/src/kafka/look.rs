//! Looks at topics: where they begin and end, and what stands in a stretch of them.
//!
//! One reader for the whole bus, used by one look at a time. It commits nothing.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::BusError;
use rdkafka::Message as _;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Mutex;

use super::context::Context;
use super::mishap::{is_unknown, stopped, told};
use super::settings::{ALONE, KafkaSettings};

/// The one partition of every topic.
pub(super) const PARTITION: i32 = 0;
/// The end of a topic is known after so long with nothing more.
const AT_THE_END: &str = "10";
/// So long a look that gets nothing waits before it looks again how far it is.
const STEP: Duration = Duration::from_millis(200);

/// Where a topic begins and ends, in Kafka's offsets: the first that is there, and the one after
/// the last that is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) low: i64,
    pub(super) high: i64,
}

pub(super) struct Looker {
    consumer: Arc<StreamConsumer<Context>>,
    context: Context,
    turn: Mutex<()>,
    patience: Duration,
}

impl Looker {
    pub(super) fn new(settings: &KafkaSettings, context: Context) -> Result<Self, BusError> {
        let mut config = settings.consumer(&settings.lookers(), ALONE);
        config.set("fetch.wait.max.ms", AT_THE_END);
        let consumer =
            config.create_with_context(context.clone()).map_err(|e| context.refuses(&e))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            context,
            turn: Mutex::default(),
            patience: settings.patience,
        })
    }

    /// Waits until every broker has refused us; why. Only who asks for records hears what librdkafka
    /// tells, so this is not for while something is read.
    pub(super) async fn refused(&self) -> BusError {
        loop {
            if let Some(why) = self.context.door().refusal() {
                return BusError::Refused(format!("Kafka does not let us in: {why}"));
            }
            // Nothing is assigned: it is no record, and an error that it has is at the door as well.
            drop(tokio::time::timeout(STEP, self.consumer.recv()).await);
        }
    }

    /// Where a topic begins and ends; `None` if it is not there.
    pub(super) async fn marks(&self, topic: &str) -> Result<Option<Marks>, BusError> {
        let (consumer, patience) = (Arc::clone(&self.consumer), self.patience);
        let name = topic.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            consumer.fetch_watermarks(&name, PARTITION, patience)
        });
        match asked.await.map_err(|e| stopped(&e))? {
            Ok((low, high)) => Ok(Some(Marks { low, high })),
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(told(&format!("asking where {topic} ends"), &error)),
        }
    }

    /// Kafka's offset of the first message that came at `since_ms` or later; `None` if none did.
    pub(super) async fn first_since(
        &self,
        topic: &str,
        since_ms: i64,
    ) -> Result<Option<i64>, BusError> {
        let (consumer, patience) = (Arc::clone(&self.consumer), self.patience);
        let times = place(topic, since_ms)?;
        let asked =
            tokio::task::spawn_blocking(move || consumer.offsets_for_times(times, patience));
        let doing = format!("asking what {topic} has of a time");
        let found = asked.await.map_err(|e| stopped(&e))?.map_err(|e| told(&doing, &e))?;
        let Some(found) = found.find_partition(topic, PARTITION) else {
            return Err(BusError::Unavailable(format!("{doing}: nothing was answered")));
        };
        found.error().map_err(|e| told(&doing, &e))?;
        // Where nothing came since, the answer is the end; what is none must remove nothing.
        match found.offset() {
            Offset::Offset(offset) if offset != since_ms => Ok(Some(offset)),
            Offset::End => Ok(None),
            other => Err(BusError::Unavailable(format!("{doing}: {other:?}"))),
        }
    }

    /// Shows `visit` what stands in a topic from Kafka's offset `from` to `high`, until it breaks.
    /// More may be shown, and never less: [`BusError::Unavailable`] if the brokers give nothing more
    /// of it for as long as the bus has patience.
    pub(super) async fn read<V>(
        &self,
        topic: &str,
        from: i64,
        high: i64,
        visit: V,
    ) -> Result<(), BusError>
    where
        V: FnMut(&BorrowedMessage<'_>) -> ControlFlow<()> + Send,
    {
        let _turn = self.turn.lock().await;
        let failed = |error: KafkaError| told(&format!("reading {topic}"), &error);
        self.consumer.assign(&place(topic, from)?).map_err(failed)?;
        let read = self.visit(topic, high, visit).await;
        self.consumer.unassign().map_err(failed)?;
        read
    }

    async fn visit<V>(&self, topic: &str, high: i64, mut visit: V) -> Result<(), BusError>
    where
        V: FnMut(&BorrowedMessage<'_>) -> ControlFlow<()> + Send,
    {
        loop {
            let next = tokio::time::timeout(self.patience, self.next(topic, high)).await;
            match next.map_err(|_| self.stuck(topic))? {
                // What comes behind `high` while we look is of no interest: a topic that others write
                // to has no end.
                Ok(Some(record)) => {
                    if visit(&record).is_break() || record.offset() + 1 >= high {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(told(&format!("reading {topic}"), &error)),
            }
        }
    }

    /// The next record; `None` once everything before `high` has come. Where the brokers say that the
    /// topic ends earlier, that is waited for: one of them may not know yet what another said.
    async fn next(
        &self,
        topic: &str,
        high: i64,
    ) -> Result<Option<BorrowedMessage<'_>>, KafkaError> {
        loop {
            match tokio::time::timeout(STEP, self.consumer.recv()).await {
                Ok(Ok(record)) => return Ok(Some(record)),
                Err(_) | Ok(Err(KafkaError::PartitionEOF(_))) => {
                    if next_of(&self.consumer, topic)?.is_some_and(|next| next >= high) {
                        return Ok(None);
                    }
                }
                Ok(Err(error)) if is_passing(&error) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    fn stuck(&self, topic: &str) -> BusError {
        let waited = self.patience.as_secs();
        BusError::Unavailable(format!("{topic} gave nothing of what it has for {waited} s"))
    }
}

/// Whether a reader goes on by itself after this: a connection broke, and is made anew.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::BrokerNotAvailable
                | Code::NetworkException
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator
                | Code::WaitingForCoordinator
        )
    )
}

/// What of a topic's offsets comes next to a reader, if anything came to it before. What Kafka has
/// put between messages counts as well as they.
pub(super) fn next_of(
    reader: &StreamConsumer<Context>,
    topic: &str,
) -> Result<Option<i64>, KafkaError> {
    let list = reader.position()?;
    match list.find_partition(topic, PARTITION).map(|place| place.offset()) {
        Some(Offset::Offset(next)) => Ok(Some(next)),
        _ => Ok(None),
    }
}

/// One offset of a topic.
pub(super) fn place(topic: &str, offset: i64) -> Result<TopicPartitionList, BusError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, PARTITION, Offset::Offset(offset))
        .map_err(|e| told("naming an offset", &e))?;
    Ok(list)
}

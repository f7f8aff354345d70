//! Ways into a topic: how messages are queued and their answers awaited, and the producer of pages
//! that carry no cursor.

use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{BusError, EncodedMessage, EncodedPage, Epoch, Span};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::backlog::Weight;
use super::context::Context;
use super::look::PARTITION;
use super::mishap::{code, told};
use super::record::{self, Polled};
use super::shared::Shared;
use super::topic::Topic;

/// How long to wait where librdkafka's queue is full.
const QUEUE_AGAIN: Duration = Duration::from_millis(5);

/// A client of librdkafka that publishes.
pub(super) type Client = FutureProducer<Context>;

/// The producer of pages without cursor. They may come from several processes at once, so it takes
/// nothing over from anybody.
#[derive(Default)]
pub(super) struct Pusher {
    client: tokio::sync::Mutex<Option<Client>>,
}

impl Pusher {
    /// Publishes a page without cursor, in one piece. If it fails, a part of it may stand: whoever
    /// published it publishes it again, and its ids absorb what stands twice.
    pub(super) async fn publish(
        &self,
        shared: &Shared,
        topic: &Topic,
        page: &EncodedPage,
    ) -> Result<Published, BusError> {
        let _with_others = topic.pages.read().await;
        let client = self.client(shared).await?;
        let (queued, published_at_us) = {
            let _in_one_piece = topic.queueing.lock().await;
            let published_at_us = topic.stamp(shared.now_us());
            (queue(&client, topic, page, published_at_us, None).await, published_at_us)
        };
        let offsets = match queued {
            Ok(queued) => answers(queued).await,
            Err(error) => Err(error),
        };
        let offsets = match offsets {
            Ok(offsets) => offsets,
            Err(error) => {
                self.drop_if_dead(&client).await;
                return Err(refused(shared, topic, page, &error));
            }
        };
        let span = settle(shared, topic, page, &offsets, published_at_us).await?;
        Ok(Published { span })
    }

    /// Writes one record with a key, durably.
    pub(super) async fn write(
        &self,
        shared: &Shared,
        topic: &str,
        key: &str,
        value: &[u8],
    ) -> Result<(), BusError> {
        self.send(shared, topic, |record| record.key(key).payload(value)).await
    }

    /// Writes one record that is nobody's message, durably. Such a record may stand twice: it is tried
    /// once more where the client was dead, as one is whose topic was made anew.
    pub(super) async fn send<'r>(
        &self,
        shared: &Shared,
        topic: &'r str,
        fill: impl Fn(FutureRecord<'r, str, [u8]>) -> FutureRecord<'r, str, [u8]>,
    ) -> Result<(), BusError> {
        let patience = shared.settings.patience;
        let record = || fill(FutureRecord::to(topic).partition(PARTITION));
        let client = self.client(shared).await?;
        let mut sent = client.send(record(), patience).await;
        if sent.is_err() && self.drop_if_dead(&client).await {
            sent = self.client(shared).await?.send(record(), patience).await;
        }
        sent.map(drop).map_err(|(error, _)| told(&format!("writing to {topic}"), &error))
    }

    /// Ends the client, with what it has queued.
    pub(super) async fn close(&self) {
        let client = self.client.lock().await.take();
        drop_aside(client);
    }

    async fn client(&self, shared: &Shared) -> Result<Client, BusError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let client: Client = shared
            .settings
            .producer()
            .create_with_context(shared.context.clone())
            .map_err(|e| shared.context.refuses(&e))?;
        *slot = Some(client.clone());
        Ok(client)
    }

    /// After some errors a client never works again: what comes next gets another one. Whether it was
    /// so.
    async fn drop_if_dead(&self, client: &Client) -> bool {
        let is_dead = |of: &Client| of.client().fatal_error().is_some();
        if !is_dead(client) {
            return false;
        }
        // Somebody else may have replaced it.
        drop_aside(self.client.lock().await.take_if(|of| is_dead(of)));
        true
    }
}

/// Begins a topic.
pub(super) async fn mark(shared: &Shared, name: &str, epoch: Epoch) -> Result<(), BusError> {
    let now_ms = shared.now_us() / 1000;
    let sent = shared
        .pusher
        .send(shared, name, |record| record.timestamp(now_ms).headers(record::mark(epoch)));
    sent.await
}

/// Queues a page's messages, in their order. Those of a polled page are numbered, from `first` on,
/// and its first says what stands before it.
pub(super) async fn queue(
    client: &Client,
    topic: &Topic,
    page: &EncodedPage,
    published_at_us: i64,
    first: Option<Polled>,
) -> Result<Vec<DeliveryFuture>, KafkaError> {
    let mut queued = Vec::with_capacity(page.messages.len());
    for (index, message) in (0..).zip(&page.messages) {
        let polled = first.map(|Polled { number, after }| {
            let after = after.filter(|_| index == 0);
            Polled { number: number + index, after }
        });
        let headers = record::headers(message, topic.epoch, published_at_us, polled);
        queued.push(queue_one(client, topic, message, headers, published_at_us).await?);
    }
    Ok(queued)
}

async fn queue_one(
    client: &Client,
    topic: &Topic,
    message: &EncodedMessage,
    headers: OwnedHeaders,
    published_at_us: i64,
) -> Result<DeliveryFuture, KafkaError> {
    let mut record: FutureRecord<'_, (), [u8]> = FutureRecord::to(&topic.name)
        .partition(PARTITION)
        .timestamp(published_at_us / 1000)
        .headers(headers)
        .payload(&message.payload[..]);
    loop {
        match client.send_result(record) {
            Ok(queued) => return Ok(queued),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => record = back,
            Err((error, _)) => return Err(error),
        }
        tokio::time::sleep(QUEUE_AGAIN).await;
    }
}

/// Waits until the brokers have taken all messages; their offsets, where they tell them.
pub(super) async fn answers(queued: Vec<DeliveryFuture>) -> Result<Vec<Option<u64>>, KafkaError> {
    let mut offsets = Vec::with_capacity(queued.len());
    let mut failed = None;
    // All are awaited, so that none is still on its way when an error is told.
    for queued in queued {
        match queued.await {
            Ok(Ok(delivery)) => offsets.push(u64::try_from(delivery.offset).ok()),
            Ok(Err((error, _))) => failed = failed.or(Some(error)),
            Err(_) => failed = failed.or(Some(KafkaError::Canceled)),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(offsets),
    }
}

/// Why a page was not taken.
pub(super) fn refused(
    shared: &Shared,
    topic: &Topic,
    page: &EncodedPage,
    error: &KafkaError,
) -> BusError {
    match code(error) {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            // They count compressed batches, and do not say which: it is the largest most likely.
            let sizes = page.messages.iter().map(record::size).enumerate();
            let largest = sizes.max_by_key(|(_, size)| *size);
            BusError::TooLarge {
                size: largest.map_or(0, |(_, size)| size),
                limit: topic.limits.max_batch_bytes.unwrap_or(shared.settings.max_message_bytes),
                message: largest.map(|(at, _)| at),
            }
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            topic.spoil();
            BusError::Unavailable(format!("topic {} is not there any more", topic.name))
        }
        _ => told(&format!("publishing to {}", topic.name), error),
    }
}

/// Takes up what was published; the stretch that it fills.
pub(super) async fn settle(
    shared: &Shared,
    topic: &Topic,
    page: &EncodedPage,
    offsets: &[Option<u64>],
    published_at_us: i64,
) -> Result<Span, BusError> {
    let weigh = |(message, offset): (&EncodedMessage, &Option<u64>)| {
        let (bytes, records) = (message.payload.len() as u64, message.records);
        offset.map(|offset| Weight { offset, bytes, records, published_at_us })
    };
    let weights: Vec<Weight> = page.messages.iter().zip(offsets).filter_map(weigh).collect();
    let whole = weights.len() == page.messages.len();
    if let (true, Some(first), Some(last)) = (whole, weights.first(), weights.last()) {
        topic.published(&weights);
        return Ok(Span { epoch: topic.epoch, after: first.offset - 1, to: last.offset });
    }
    // Nothing was published, or an answer came twice and does not tell where the messages stand.
    let marks = shared.marks(topic).await?.unwrap_or_default();
    let to = shared.end(topic, marks).await?;
    let after = to.saturating_sub(page.messages.len() as u64);
    Ok(Span { epoch: topic.epoch, after, to })
}

/// Drops what blocks while it ends, on a thread of its own. Nobody waits for that: a reader whose
/// commits the brokers never answer does not end before they do.
pub(super) fn drop_aside<T: Send + 'static>(ending: T) {
    let named = std::thread::Builder::new().name("kafka-end".to_owned());
    drop(named.spawn(move || drop(ending)));
}

//! A reader of one topic of the embedded bus, for one layer.

use std::sync::Arc;

use alluvium_model::{BusError, Delivery, FetchLimit, Layer, Message, Position, Span, Subscriber};
use async_trait::async_trait;

use super::block;
use super::in_parallel;
use super::queue::Shared;
use super::topic::Topic;

/// Where one layer stands on one topic.
///
/// [`Subscriber::seek`] and [`Subscriber::commit`] answer [`BusError::Corrupt`] for an offset
/// beyond the topic's end: the bus has lost what the lake has.
pub(super) struct EmbeddedSubscriber {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    layer: Layer,
    at: u64,
}

impl EmbeddedSubscriber {
    pub(super) fn new(shared: Arc<Shared>, topic: Arc<Topic>, layer: Layer) -> Self {
        topic.read_by(layer);
        let at = topic.first_after();
        Self { shared, topic, layer, at }
    }

    /// How far the next delivery reaches; waits until there is something.
    async fn reach(&self, limit: FetchLimit) -> Result<u64, BusError> {
        let mut end = self.topic.end.subscribe();
        loop {
            if let Some(to) = self.topic.reach(self.at, limit)? {
                return Ok(to);
            }
            if end.changed().await.is_err() {
                return Ok(self.at);
            }
        }
    }

    async fn messages(&self, to: u64) -> Result<Vec<Arc<Message>>, BusError> {
        let number = self.topic.number;
        let mut found: Vec<Option<Arc<Message>>> =
            (self.at + 1..=to).map(|offset| self.shared.cache.get(number, offset)).collect();
        let missing: Vec<u64> = (self.at + 1..=to)
            .zip(&found)
            .filter_map(|(offset, message)| message.is_none().then_some(offset))
            .collect();
        if !missing.is_empty() {
            let (shared, topic) = (Arc::clone(&self.shared), Arc::clone(&self.topic));
            let read = in_parallel(missing, move |offsets| {
                offsets.into_iter().map(|offset| read(&shared, &topic, offset)).collect()
            });
            let mut read = read.await?.into_iter();
            for slot in found.iter_mut().filter(|slot| slot.is_none()) {
                *slot = read.next();
            }
        }
        let messages: Vec<Arc<Message>> = found.into_iter().flatten().collect();
        let expected = self.at + 1..=to;
        if !messages.iter().map(|m| m.offset).eq(expected) {
            let (topic, at) = (&self.topic.id, self.at);
            return Err(BusError::Corrupt(format!("topic {topic}: a hole in ({at}, {to}]")));
        }
        Ok(messages)
    }
}

#[async_trait]
impl Subscriber for EmbeddedSubscriber {
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        let to = match tokio::time::timeout(limit.wait, self.reach(limit)).await {
            Ok(to) => to?,
            Err(_) => self.at,
        };
        let messages = self.messages(to).await?;
        let span = Span { epoch: self.topic.epoch, after: self.at, to };
        self.at = to;
        Ok(Delivery { entity: self.topic.id.clone(), span, messages })
    }

    async fn commit(&mut self, span: &Span) -> Result<(), BusError> {
        let past = self.topic.commit(self.layer, span)?;
        self.shared.cache.forget(self.topic.number, past);
        self.shared.queue.landed();
        Ok(())
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        self.topic.check_seek(after)?;
        self.at = after.offset;
        Ok(())
    }
}

fn read(shared: &Shared, topic: &Topic, offset: u64) -> Result<Arc<Message>, BusError> {
    let Some(block) = shared.store.block(topic.number, offset)? else {
        let (id, first_after) = (topic.id.clone(), topic.first_after());
        return Err(if offset <= first_after {
            BusError::Gone { topic: id, first_after, asked: offset }
        } else {
            BusError::Corrupt(format!("topic {id}: the message at offset {offset} is missing"))
        });
    };
    let message = block::read(&topic.id, topic.epoch, offset, block)?;
    Ok(shared.cache.share(topic.number, message))
}

//! Raw as a subscriber: the same messages in the same places, for who is behind the bus or begins
//! anew.

use std::collections::VecDeque;
use std::sync::Arc;

use alluvium_lake::raw::{self, RawHeader, RawObject};
use alluvium_lake::{Lake, LakeError};
use alluvium_model::{
    BusError, Delivery, EntityId, Epoch, FetchLimit, Message, Position, Span, Subscriber,
};
use async_trait::async_trait;

/// Reads the raw objects of an entity's newest epoch, or of the epoch that it is told to seek in.
pub struct RawReplay {
    lake: Lake,
    entity: EntityId,
    /// Objects not read yet, in order.
    objects: VecDeque<RawObject>,
    previous: Option<RawHeader>,
    /// Messages read but not fetched yet.
    waiting: VecDeque<Arc<Message>>,
    epoch: Epoch,
    at: u64,
}

impl RawReplay {
    /// A reader of `entity` from its newest epoch's beginning.
    pub async fn open(lake: Lake, entity: EntityId) -> Result<Self, BusError> {
        let mut replay = Self {
            lake,
            entity,
            objects: VecDeque::new(),
            previous: None,
            waiting: VecDeque::new(),
            epoch: Epoch(0),
            at: 0,
        };
        let objects = raw::list(&replay.lake, &replay.entity).await.map_err(|e| bus_error(&e))?;
        if let Some(newest) = objects.last().map(|object| object.epoch) {
            replay.begin(newest, 0, objects)?;
        }
        Ok(replay)
    }

    fn begin(&mut self, epoch: Epoch, after: u64, objects: Vec<RawObject>) -> Result<(), BusError> {
        let newest = objects.last().map(|object| object.epoch);
        let mut objects: Vec<RawObject> =
            objects.into_iter().filter(|object| object.epoch == epoch).collect();
        // Of an epoch later than all that is there, the first object may still come.
        let over = newest.is_some_and(|newest| newest > epoch);
        if objects.is_empty() && (after > 0 || over) {
            return Err(BusError::UnexpectedEpoch {
                topic: self.entity.clone(),
                expected: epoch,
                found: newest.unwrap_or(self.epoch),
            });
        }
        if objects.first().is_some_and(|first| first.after > after) {
            return Err(BusError::Gone {
                topic: self.entity.clone(),
                first_after: objects[0].after,
                asked: after,
            });
        }
        let first = objects.iter().rposition(|object| object.after <= after).unwrap_or(0);
        objects.drain(..first);
        self.objects = objects.into();
        self.previous = None;
        self.waiting.clear();
        (self.epoch, self.at) = (epoch, after);
        Ok(())
    }

    /// Reads the next object, if there is one.
    async fn read_next(&mut self) -> Result<bool, BusError> {
        if self.objects.is_empty() {
            // More may have landed since.
            let listed = raw::list_epoch(&self.lake, &self.entity, self.epoch).await;
            let end = self.previous.as_ref().map_or(self.at, |header| header.to);
            let newer = listed.map_err(|e| bus_error(&e))?.into_iter();
            self.objects = newer.filter(|object| object.after >= end).collect();
        }
        // It is passed only once it has been read: what fails is tried again, never skipped.
        let Some(object) = self.objects.front() else { return Ok(false) };
        let (header, messages) = raw::read(&self.lake, object).await.map_err(|e| bus_error(&e))?;
        if self.previous.is_some() {
            header.check_follows(self.previous.as_ref()).map_err(|e| bus_error(&e))?;
        }
        self.objects.pop_front();
        let at = self.at;
        self.waiting.extend(messages.into_iter().filter(|m| m.offset > at).map(Arc::new));
        self.previous = Some(header);
        Ok(true)
    }
}

fn bus_error(error: &LakeError) -> BusError {
    let text = alluvium_model::error::chain(error);
    match error {
        LakeError::Unavailable { .. } => BusError::Unavailable(text),
        LakeError::Full { .. } => BusError::Full(text),
        _ => BusError::Corrupt(text),
    }
}

#[async_trait]
impl Subscriber for RawReplay {
    async fn fetch(&mut self, limit: FetchLimit) -> Result<Delivery, BusError> {
        let mut messages: Vec<Arc<Message>> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        loop {
            if self.waiting.is_empty() {
                match self.read_next().await {
                    Ok(true) => {}
                    Ok(false) => break,
                    // What was read before it is given; the error comes with the next fetch.
                    Err(_) if !messages.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            let Some(next) = self.waiting.front() else { continue };
            let (r, b) = (u64::from(next.records), next.payload.len());
            let full = records + r > limit.records || bytes + b > limit.bytes;
            if full && !messages.is_empty() {
                break;
            }
            (records, bytes) = (records + r, bytes + b);
            messages.extend(self.waiting.pop_front());
        }
        let after = self.at;
        if let Some(last) = messages.last() {
            // An object that is read to its end may go further than its last message.
            let read = self.previous.as_ref().filter(|_| self.waiting.is_empty());
            self.at = read.map_or(last.offset, |header| header.to.max(last.offset));
        }
        let span = Span { epoch: self.epoch, after, to: self.at };
        Ok(Delivery { entity: self.entity.clone(), span, messages })
    }

    async fn commit(&mut self, _span: &Span) -> Result<(), BusError> {
        // Raw is never dropped for having been read.
        Ok(())
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        let objects = raw::list(&self.lake, &self.entity).await.map_err(|e| bus_error(&e))?;
        self.begin(after.epoch, after.offset, objects)
    }
}

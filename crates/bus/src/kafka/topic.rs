//! A topic as far as this process knows it: its epoch, where it begins and ends, what this process
//! published of it that raw has not landed, and how far the layers are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_model::{BusError, EntityId, Epoch, Layer, Position, Span};
use tokio::sync::{Notify, RwLock};

use super::admin::Limits;
use super::look::Marks;
use super::owner::Owner;
use crate::stats::{LayerStats, TopicStats};

/// One topic.
pub(super) struct Topic {
    pub(super) id: EntityId,
    /// What it is called on the brokers.
    pub(super) name: String,
    pub(super) epoch: Epoch,
    pub(super) limits: Limits,
    /// Who publishes polled pages. Held while one is published.
    pub(super) owner: tokio::sync::Mutex<Owner>,
    /// Held alone for a polled page, shared by pushed ones, so that pages do not mix.
    pub(super) pages: RwLock<()>,
    /// Held while a pushed page is queued, so that pages do not mix.
    pub(super) queueing: tokio::sync::Mutex<()>,
    /// Held by the publisher whose turn it is to wait for room.
    pub(super) turn: tokio::sync::Mutex<()>,
    room: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As the brokers last told it.
    seen: Marks,
    tip: Tip,
    unlanded: VecDeque<Weight>,
    unlanded_bytes: u64,
    reserved: u64,
    committed: [Option<u64>; 3],
    reading: [bool; 3],
    last_ms: i64,
    shortened: i64,
    stale: bool,
}

/// The last message, and the end of the topic (in Kafka's offsets) for which that holds.
#[derive(Debug, Clone, Copy, Default)]
struct Tip {
    end: u64,
    high: i64,
}

/// A message that this process published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) records: u32,
    pub(super) published_at_ms: i64,
}

/// Room that a page in flight takes; given back when dropped.
pub(super) struct Room {
    topic: Arc<Topic>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.topic.lock().reserved -= self.bytes;
        self.topic.room.notify_one();
    }
}

impl Topic {
    pub(super) fn new(id: EntityId, name: String, epoch: Epoch, limits: Limits) -> Self {
        Self {
            id,
            name,
            epoch,
            limits,
            owner: tokio::sync::Mutex::default(),
            pages: RwLock::default(),
            queueing: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            room: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Where the brokers last said that the topic begins and ends.
    pub(super) fn marks(&self) -> Marks {
        self.lock().seen
    }

    /// Takes up where the brokers say that the topic begins and ends.
    pub(super) fn seen(&self, marks: Marks) {
        let mut state = self.lock();
        let (low, high) = (marks.low.max(state.seen.low), marks.high.max(state.seen.high));
        state.seen = Marks { low, high };
    }

    /// The last message, if that is known for a topic that ends at `high`. What this process
    /// published counts, though the brokers may not yet show it.
    pub(super) fn end_at(&self, high: i64) -> Option<u64> {
        let tip = self.lock().tip;
        (high <= tip.high).then_some(tip.end)
    }

    /// The last message that is known of.
    pub(super) fn known_end(&self) -> u64 {
        self.lock().tip.end
    }

    /// Takes up that the last message before Kafka's offset `high` stands at `end`.
    pub(super) fn ends(&self, end: u64, high: i64) {
        let mut state = self.lock();
        if high > state.tip.high {
            state.tip = Tip { end: end.max(state.tip.end), high };
        }
    }

    /// Takes up what this process has published.
    pub(super) fn published(&self, weights: &[Weight]) {
        let Some(last) = weights.last() else { return };
        self.ends(last.offset, i64::try_from(last.offset).unwrap_or(i64::MAX).saturating_add(1));
        let mut state = self.lock();
        let landed = state.committed[slot(Layer::Raw)].unwrap_or(0);
        for weight in weights.iter().filter(|weight| weight.offset > landed) {
            state.unlanded_bytes += weight.bytes;
            state.unlanded.push_back(*weight);
        }
    }

    /// Waits until the topic has room for `bytes` of payload, and takes it. The caller holds the
    /// topic's turn.
    pub(super) async fn room(self: &Arc<Self>, bytes: u64, limit: u64) -> Room {
        loop {
            {
                let mut state = self.lock();
                let taken = state.unlanded_bytes + state.reserved;
                if taken == 0 || taken.saturating_add(bytes) <= limit {
                    state.reserved += bytes;
                    return Room { topic: Arc::clone(self), bytes };
                }
            }
            self.room.notified().await;
        }
    }

    /// Checks that a reader may go on after `after`, in a topic as the brokers just told it.
    pub(super) fn check_seek(&self, after: &Position, marks: Marks) -> Result<(), BusError> {
        self.check_known(after.epoch, after.offset, marks.high)?;
        self.still_there(after.offset, marks)
    }

    /// [`BusError::Gone`] if the brokers have removed what comes after `at`.
    pub(super) fn still_there(&self, at: u64, marks: Marks) -> Result<(), BusError> {
        let first_after = first_after(marks);
        if at < first_after {
            return Err(BusError::Gone { topic: self.id.clone(), first_after, asked: at + 1 });
        }
        Ok(())
    }

    /// Takes up that `layer` has landed `span`; how far it has landed all in all.
    pub(super) fn commit(&self, layer: Layer, span: &Span) -> Result<u64, BusError> {
        let high = self.lock().seen.high;
        self.check_known(span.epoch, span.to, high)?;
        Ok(self.landed(layer, span.to))
    }

    /// Takes up that `layer` has landed all up to `to`, as it or the brokers say.
    pub(super) fn landed(&self, layer: Layer, to: u64) -> u64 {
        let mut state = self.lock();
        let committed = state.committed[slot(layer)].unwrap_or(0).max(to);
        state.committed[slot(layer)] = Some(committed);
        if layer == Layer::Raw {
            while let Some(first) = state.unlanded.front().filter(|w| w.offset <= committed) {
                state.unlanded_bytes -= first.bytes;
                state.unlanded.pop_front();
            }
            self.room.notify_one();
        }
        committed
    }

    /// How far raw has landed, and up to which of Kafka's offsets the topic was shortened.
    pub(super) fn to_shorten(&self) -> (Option<u64>, i64) {
        let state = self.lock();
        (state.committed[slot(Layer::Raw)], state.shortened.max(state.seen.low))
    }

    pub(super) fn shortened(&self, before: i64) {
        self.lock().shortened = before;
    }

    /// Whether something that this process published waits for raw.
    pub(super) fn is_waiting(&self) -> bool {
        self.lock().unlanded_bytes > 0
    }

    /// Takes up that `layer` reads the topic in this process.
    pub(super) fn read_by(&self, layer: Layer) {
        self.lock().reading[slot(layer)] = true;
    }

    /// Whether `layer` reads the topic in this process.
    pub(super) fn is_read_by(&self, layer: Layer) -> bool {
        self.lock().reading[slot(layer)]
    }

    /// The time for a message that is published now: never before that of another one.
    pub(super) fn stamp(&self, now_ms: i64) -> i64 {
        let mut state = self.lock();
        state.last_ms = state.last_ms.max(now_ms);
        state.last_ms
    }

    /// Nobody is to use this one any more: the brokers may have another topic by its name.
    pub(super) fn spoil(&self) {
        self.lock().stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.lock().stale
    }

    pub(super) fn stats(&self, now_ms: i64) -> TopicStats {
        let state = self.lock();
        let layers = Layer::ALL.into_iter().filter_map(|layer| state.layer(layer)).collect();
        let last = state.last_ms.saturating_mul(1000);
        let first_after = first_after(state.seen);
        TopicStats {
            topic: self.id.clone(),
            epoch: self.epoch,
            first_after,
            end: state.tip.end,
            messages: state.tip.end.saturating_sub(first_after),
            stored_bytes: 0,
            unlanded_bytes: state.unlanded_bytes,
            last_published_at_us: (last > 0).then_some(last),
            time_to_loss: self.time_to_loss(&state, now_ms),
            layers,
        }
    }

    /// Where the brokers remove messages by their age: how long the oldest that waits has left.
    fn time_to_loss(&self, state: &State, now_ms: i64) -> Option<Duration> {
        let kept = self.limits.retention?;
        let waited = state.unlanded.front().map_or(0, |oldest| now_ms - oldest.published_at_ms);
        Some(kept.saturating_sub(Duration::from_millis(u64::try_from(waited).unwrap_or(0))))
    }

    fn check_known(&self, epoch: Epoch, offset: u64, high: i64) -> Result<(), BusError> {
        if epoch != self.epoch {
            let topic = self.id.clone();
            return Err(BusError::UnexpectedEpoch { topic, expected: epoch, found: self.epoch });
        }
        let high = self.lock().tip.high.max(high);
        let end = u64::try_from(high - 1).unwrap_or(0);
        if offset > end {
            return Err(BusError::Corrupt(format!(
                "topic {} ends at offset {end}, but a layer knows it up to offset {offset}",
                self.id
            )));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The brokers count messages, so that is what is told: a message holds one record or more.
    fn layer(&self, layer: Layer) -> Option<LayerStats> {
        let slot = slot(layer);
        if !self.reading[slot] && self.committed[slot].is_none() {
            return None;
        }
        let committed = self.committed[slot].unwrap_or(0);
        let known = self.unlanded.iter().filter(|weight| weight.offset > committed);
        let records: u64 = known.clone().map(|weight| u64::from(weight.records)).sum();
        Some(LayerStats {
            layer,
            committed,
            waiting_records: records.max(self.tip.end.saturating_sub(committed)),
            waiting_since_us: known.map(|weight| weight.published_at_ms * 1000).next(),
        })
    }
}

/// The offset before the first message that is still there. At Kafka's offset 0 stands the mark.
pub(super) fn first_after(marks: Marks) -> u64 {
    u64::try_from(marks.low - 1).unwrap_or(0)
}

/// The layer's place in an array of all layers.
fn slot(layer: Layer) -> usize {
    match layer {
        Layer::Raw => 0,
        Layer::Bronze => 1,
        Layer::Silver => 2,
    }
}

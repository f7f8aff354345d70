//! A topic in memory: where it begins and ends, what each message weighs, and how far the layers
//! are. Everything here is answered without touching the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_model::{BusError, CursorRecord, EntityId, Epoch, FetchLimit, Layer, Position, Span};
use tokio::sync::{Notify, watch};

use crate::BusSettings;
use crate::stats::{LayerStats, TopicStats};

/// What is known of a message without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Bytes of payload.
    pub(super) payload: u32,
    /// Bytes of the block.
    pub(super) stored: u32,
    /// Records.
    pub(super) records: u32,
    /// Publish time, in microseconds since 1970.
    pub(super) published_at_us: i64,
}

/// Where a topic ends, and its cursor record: what the next page builds on.
#[derive(Debug, Clone, Default)]
pub(super) struct Tip {
    pub(super) end: u64,
    pub(super) published_at_us: i64,
    pub(super) cursor: Option<CursorRecord>,
}

/// One topic.
pub(super) struct Topic {
    pub(super) id: EntityId,
    pub(super) number: u32,
    pub(super) epoch: Epoch,
    /// The end offset, for those who wait for messages.
    pub(super) end: watch::Sender<u64>,
    /// Held by the publisher whose turn it is to wait for room.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Told when there may be more room.
    pub(super) room: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tip: Tip,
    first_after: u64,
    weights: VecDeque<Weight>,
    stored: u64,
    unlanded: u64,
    reserved: u64,
    committed: [Option<u64>; 3],
    reading: [bool; 3],
    unrecorded: bool,
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
    pub(super) fn new(
        id: EntityId,
        number: u32,
        epoch: Epoch,
        tip: Tip,
        weights: VecDeque<Weight>,
        committed: [Option<u64>; 3],
    ) -> Self {
        let first_after = tip.end - weights.len() as u64;
        let stored = weights.iter().map(|w| u64::from(w.stored)).sum();
        let end = watch::Sender::new(tip.end);
        let mut state = State { tip, first_after, weights, stored, committed, ..State::default() };
        state.unlanded = state.payload(state.landed(), state.tip.end);
        let (turn, room) = (tokio::sync::Mutex::default(), Notify::new());
        Self { id, number, epoch, end, turn, room, state: Mutex::new(state) }
    }

    pub(super) fn tip(&self) -> Tip {
        self.lock().tip.clone()
    }

    /// Takes up what became durable.
    pub(super) fn advance(&self, tip: Tip, weights: Vec<Weight>) {
        let end = tip.end;
        {
            let mut state = self.lock();
            state.tip = tip;
            for weight in weights {
                state.stored += u64::from(weight.stored);
                state.unlanded += u64::from(weight.payload);
                state.weights.push_back(weight);
            }
        }
        self.end.send_replace(end);
    }

    /// Takes room for `bytes` of payload, if there is so much.
    pub(super) fn take_room(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Room> {
        let mut state = self.lock();
        let taken = state.unlanded + state.reserved;
        let fits = taken == 0 || taken.saturating_add(bytes) <= limit;
        fits.then(|| {
            state.reserved += bytes;
            Room { topic: Arc::clone(self), bytes }
        })
    }

    /// How far a fetch that goes on after `at` may reach; `None` if there is nothing yet.
    pub(super) fn reach(&self, at: u64, limit: FetchLimit) -> Result<Option<u64>, BusError> {
        let state = self.lock();
        self.still_there(&state, at)?;
        let skip = usize::try_from(at - state.first_after).unwrap_or(usize::MAX);
        let (mut to, mut records, mut bytes) = (at, 0, 0);
        for weight in state.weights.iter().skip(skip) {
            records += u64::from(weight.records);
            bytes += weight.payload as usize;
            if to > at && (records > limit.records || bytes > limit.bytes) {
                break;
            }
            to += 1;
        }
        Ok((to > at).then_some(to))
    }

    /// The offset before the first message that is still there.
    pub(super) fn first_after(&self) -> u64 {
        self.lock().first_after
    }

    /// Checks that a reader may go on after `after`.
    pub(super) fn check_seek(&self, after: &Position) -> Result<(), BusError> {
        self.check_known(after.epoch, after.offset)?;
        self.still_there(&self.lock(), after.offset)
    }

    /// Takes up that `layer` has landed `span`. Returns the offset that all readers are past.
    pub(super) fn commit(&self, layer: Layer, span: &Span) -> Result<u64, BusError> {
        self.check_known(span.epoch, span.to)?;
        let mut state = self.lock();
        let slot = place(layer);
        let before = state.committed[slot].unwrap_or(0);
        if span.to > before || state.committed[slot].is_none() {
            state.committed[slot] = Some(span.to.max(before));
            state.unrecorded = true;
            if layer == Layer::Raw {
                let landed = state.payload(before, span.to);
                state.unlanded -= landed;
                self.room.notify_one();
            }
        }
        let readers = Layer::ALL.map(place).into_iter().filter(|l| state.reading[*l]);
        Ok(readers.map(|l| state.committed[l].unwrap_or(0)).min().unwrap_or(0))
    }

    /// Takes up that `layer` reads the topic in this process.
    pub(super) fn read_by(&self, layer: Layer) {
        self.lock().reading[place(layer)] = true;
    }

    /// The layers' commits, if they were not yet asked for since they last changed.
    pub(super) fn unrecorded(&self) -> Option<[Option<u64>; 3]> {
        let mut state = self.lock();
        std::mem::take(&mut state.unrecorded).then_some(state.committed)
    }

    /// Drops what retention no longer keeps, at most `most` messages, and says which and how many
    /// bytes on disk they take. Readers find them gone from now on.
    pub(super) fn expire(&self, keep: &BusSettings, now_us: i64, most: usize) -> (Span, u64) {
        let mut state = self.lock();
        let age = i64::try_from(keep.retention_age.as_micros()).unwrap_or(i64::MAX);
        let oldest = now_us.saturating_sub(age);
        let (after, landed) = (state.first_after, state.landed());
        let mut dropped = 0;
        while state.first_after < landed && state.first_after - after < most as u64 {
            let Some(first) = state.weights.front().copied() else { break };
            if state.stored <= keep.retention_bytes && first.published_at_us >= oldest {
                break;
            }
            state.weights.pop_front();
            state.first_after += 1;
            state.stored -= u64::from(first.stored);
            dropped += u64::from(first.stored);
        }
        (Span { epoch: self.epoch, after, to: state.first_after }, dropped)
    }

    pub(super) fn stats(&self) -> TopicStats {
        let state = self.lock();
        let layers = Layer::ALL.into_iter().filter_map(|layer| state.layer(layer)).collect();
        TopicStats {
            topic: self.id.clone(),
            epoch: self.epoch,
            first_after: state.first_after,
            end: state.tip.end,
            messages: state.weights.len() as u64,
            stored_bytes: state.stored,
            unlanded_bytes: state.unlanded,
            last_published_at_us: (state.tip.end > 0).then_some(state.tip.published_at_us),
            time_to_loss: None,
            layers,
        }
    }

    fn check_known(&self, epoch: Epoch, offset: u64) -> Result<(), BusError> {
        if epoch != self.epoch {
            let topic = self.id.clone();
            return Err(BusError::UnexpectedEpoch { topic, expected: epoch, found: self.epoch });
        }
        let end = self.lock().tip.end;
        if offset > end {
            return Err(BusError::Corrupt(format!(
                "topic {} ends at offset {end}, but a layer knows it up to offset {offset}",
                self.id
            )));
        }
        Ok(())
    }

    fn still_there(&self, state: &State, at: u64) -> Result<(), BusError> {
        if at < state.first_after {
            let (topic, first_after) = (self.id.clone(), state.first_after);
            return Err(BusError::Gone { topic, first_after, asked: at + 1 });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn landed(&self) -> u64 {
        self.committed[place(Layer::Raw)].unwrap_or(0)
    }

    /// The weights of the messages in `(after, to]` that are still there.
    fn weights(&self, after: u64, to: u64) -> impl Iterator<Item = &Weight> {
        let after = after.max(self.first_after);
        let skip = usize::try_from(after - self.first_after).unwrap_or(usize::MAX);
        let count = usize::try_from(to.saturating_sub(after)).unwrap_or(usize::MAX);
        self.weights.iter().skip(skip).take(count)
    }

    fn payload(&self, after: u64, to: u64) -> u64 {
        self.weights(after, to).map(|w| u64::from(w.payload)).sum()
    }

    fn layer(&self, layer: Layer) -> Option<LayerStats> {
        let slot = place(layer);
        if !self.reading[slot] && self.committed[slot].is_none() {
            return None;
        }
        let committed = self.committed[slot].unwrap_or(0);
        let waiting = || self.weights(committed, self.tip.end);
        Some(LayerStats {
            layer,
            committed,
            waiting_records: waiting().map(|w| u64::from(w.records)).sum(),
            waiting_since_us: waiting().next().map(|w| w.published_at_us),
        })
    }
}

/// The layer's place in an array of all layers.
pub(super) fn place(layer: Layer) -> usize {
    match layer {
        Layer::Raw => 0,
        Layer::Bronze => 1,
        Layer::Silver => 2,
    }
}

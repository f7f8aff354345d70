//! A topic in memory: what is known of its stream, and how far the layers are. Answers without
//! asking the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use alluvium_model::{BusError, EntityId, Epoch, Layer, Message};
use async_nats::jetstream::stream::Info;
use tokio::sync::watch;

use super::headers::{Slot, Totals};
use super::records::LandedState;
use super::streams::{self, Limits};
use crate::stats::{LayerStats, TopicStats};

/// From so many messages on, those that nobody holds any more are looked for and forgotten.
const SHARED_MESSAGES: usize = 4096;

/// Where a topic ends: what the next page builds on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tip {
    pub(super) end: u64,
    pub(super) totals: Totals,
    /// What the last message is.
    pub(super) last: Option<Slot>,
}

/// How far one layer of this process is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LayerState {
    pub(super) committed: u64,
    pub(super) totals: Totals,
    /// When the first message after that was published.
    pub(super) next_at_us: Option<i64>,
}

/// One topic.
pub(super) struct Topic {
    pub(super) id: EntityId,
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) epoch: Epoch,
    /// Held by the publisher whose turn it is to wait for room.
    pub(super) queue: tokio::sync::Mutex<()>,
    /// Held by the publisher that writes. Empty where it must ask where the topic ends.
    pub(super) turn: tokio::sync::Mutex<Option<Tip>>,
    /// Held by who writes how far raw has landed; the sequence of that record.
    pub(super) landing: tokio::sync::Mutex<u64>,
    /// The offset that raw has landed, for those who wait for room.
    pub(super) landed: watch::Sender<u64>,
    state: Mutex<State>,
    shared: Mutex<SharedMessages>,
}

/// Messages that somebody in this process holds, by their offsets.
#[derive(Default)]
struct SharedMessages {
    known: BTreeMap<u64, Weak<Message>>,
    /// How many were held when it was last looked.
    held: usize,
}

impl SharedMessages {
    fn get(&self, offset: u64) -> Option<Arc<Message>> {
        self.known.get(&offset).and_then(Weak::upgrade)
    }

    fn insert(&mut self, message: &Arc<Message>) {
        if self.known.len() >= SHARED_MESSAGES.max(2 * self.held) {
            self.known.retain(|_, message| message.strong_count() > 0);
            self.held = self.known.len();
        }
        self.known.insert(message.offset, Arc::downgrade(message));
    }
}

#[derive(Default)]
struct State {
    end: u64,
    /// The totals, and the offset at which they hold: the end, but where others publish.
    totals: Totals,
    totals_at: u64,
    first_after: u64,
    messages: u64,
    stored: u64,
    last_us: i64,
    landed: Totals,
    limits: Limits,
    layers: [Option<LayerState>; 3],
}

impl Topic {
    pub(super) fn new(
        id: EntityId,
        subject: String,
        info: &Info,
        tip: Tip,
        landed: Option<(LandedState, u64)>,
    ) -> Self {
        let epoch = streams::epoch(info);
        let (landing, landed) = match landed {
            Some((record, at)) if record.epoch == epoch => (at, Some(record)),
            Some((_, at)) => (at, None),
            None => (0, None),
        };
        let state = State {
            totals: tip.totals,
            totals_at: tip.end,
            landed: landed.map(|l| l.totals()).unwrap_or_default(),
            limits: Limits::of(&info.config),
            ..State::default()
        };
        let topic = Self {
            id,
            stream: info.config.name.clone(),
            subject,
            epoch,
            queue: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::new(Some(tip)),
            landing: tokio::sync::Mutex::new(landing),
            landed: watch::Sender::new(landed.map_or(0, |l| l.offset)),
            state: Mutex::new(state),
            shared: Mutex::default(),
        };
        topic.saw(info);
        topic
    }

    /// Takes up what the server says of the stream.
    pub(super) fn saw(&self, info: &Info) {
        let of = &info.state;
        let mut state = self.lock();
        state.end = state.end.max(of.last_sequence);
        state.first_after = state.first_after.max(first_after(info));
        state.messages = of.messages;
        state.stored = of.bytes;
        state.limits = Limits::of(&info.config);
        if of.last_sequence > 0 {
            state.last_us = state.last_us.max(micros(of.last_timestamp.unix_timestamp_nanos()));
        }
    }

    /// Takes up totals that were found at `offset`.
    pub(super) fn saw_totals(&self, offset: u64, totals: Totals) {
        let mut state = self.lock();
        if offset >= state.totals_at {
            (state.totals_at, state.totals) = (offset, totals);
        }
        if offset > state.end {
            state.messages += offset - state.end;
            state.end = offset;
        }
    }

    /// Takes up how far raw has landed, here or elsewhere.
    pub(super) fn raw_landed(&self, offset: u64, totals: Totals) {
        self.landed.send_if_modified(|landed| {
            let is_news = offset > *landed;
            if is_news {
                self.lock().landed = totals;
                *landed = offset;
            }
            is_news
        });
    }

    pub(super) fn end(&self) -> u64 {
        self.lock().end
    }

    pub(super) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// The totals at `offset`, if it is the one at which they are known.
    pub(super) fn totals_at(&self, offset: u64) -> Option<Totals> {
        let state = self.lock();
        (state.totals_at == offset).then_some(state.totals)
    }

    pub(super) fn first_after(&self) -> u64 {
        self.lock().first_after
    }

    pub(super) fn landed(&self) -> u64 {
        *self.landed.borrow()
    }

    /// Whether a page of so many bytes may be published while no more than `limit` wait for raw.
    pub(super) fn has_room(&self, bytes: u64, limit: u64) -> bool {
        let state = self.lock();
        let waiting = state.totals.since(state.landed).bytes;
        waiting == 0 || waiting.saturating_add(bytes) <= limit
    }

    /// Takes up that a layer of this process reads.
    pub(super) fn read_by(&self, layer: Layer) {
        self.lock().layers[layer as usize].get_or_insert_default();
    }

    pub(super) fn is_read_by(&self, layer: Layer) -> bool {
        self.lock().layers[layer as usize].is_some()
    }

    pub(super) fn layer(&self, layer: Layer) -> LayerState {
        self.lock().layers[layer as usize].unwrap_or_default()
    }

    pub(super) fn committed(&self, layer: Layer, to: LayerState) {
        let mut state = self.lock();
        let slot = state.layers[layer as usize].get_or_insert_default();
        if to.committed >= slot.committed {
            *slot = to;
        }
    }

    /// The message as others of this process hold it, so that it is decoded once; or this one.
    pub(super) fn share(&self, message: Arc<Message>) -> Arc<Message> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(message.offset) {
            return known;
        }
        shared.insert(&message);
        message
    }

    pub(super) fn check_epoch(&self, expected: Epoch) -> Result<(), BusError> {
        if expected == self.epoch {
            return Ok(());
        }
        Err(BusError::UnexpectedEpoch { topic: self.id.clone(), expected, found: self.epoch })
    }

    pub(super) fn check_end(&self, offset: u64, end: u64) -> Result<(), BusError> {
        if offset <= end {
            return Ok(());
        }
        Err(BusError::Corrupt(format!(
            "topic {} ends at offset {end}, but a layer knows it up to offset {offset}",
            self.id
        )))
    }

    pub(super) fn check_there(&self, after: u64, first_after: u64) -> Result<(), BusError> {
        if after >= first_after {
            return Ok(());
        }
        Err(BusError::Gone { topic: self.id.clone(), first_after, asked: after + 1 })
    }

    pub(super) fn stats(&self, now_us: i64) -> TopicStats {
        let landed = self.landed();
        let state = self.lock();
        let unlanded = state.totals.since(state.landed).bytes;
        let raw = state.layers[Layer::Raw as usize];
        let since = raw.and_then(|raw| raw.next_at_us).unwrap_or(state.last_us);
        let waited = u64::try_from(now_us.saturating_sub(since)).unwrap_or(0);
        let waiting = state.end.saturating_sub(landed);
        TopicStats {
            topic: self.id.clone(),
            epoch: self.epoch,
            first_after: state.first_after,
            end: state.end,
            messages: state.messages,
            stored_bytes: state.stored,
            unlanded_bytes: unlanded,
            last_published_at_us: (state.end > 0).then_some(state.last_us),
            time_to_loss: state.limits.time_to_loss(
                waiting,
                unlanded,
                Duration::from_micros(waited),
            ),
            layers: Layer::ALL.into_iter().filter_map(|layer| state.layer(layer)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn layer(&self, layer: Layer) -> Option<LayerStats> {
        let of = self.layers[layer as usize]?;
        let waits = self.end > of.committed;
        Some(LayerStats {
            layer,
            committed: of.committed,
            waiting_records: if waits { self.totals.since(of.totals).records } else { 0 },
            waiting_since_us: of.next_at_us.filter(|_| waits),
        })
    }
}

/// The offset before the first message of a stream.
pub(super) fn first_after(info: &Info) -> u64 {
    match info.state.messages {
        0 => info.state.last_sequence,
        _ => info.state.first_sequence.saturating_sub(1),
    }
}

/// A time of NATS in microseconds.
pub(super) fn micros(nanos: i128) -> i64 {
    i64::try_from(nanos / 1000).unwrap_or(i64::MAX)
}

//! A topic in memory: what is known of its stream, and how far the layers are. Answers without
//! asking the server.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_model::{EntityId, Epoch, Layer, Message};
use async_nats::jetstream::stream::Info;
use tokio::sync::watch;

use super::headers::{Slot, Totals, micros};
use super::held::HeldMessages;
use super::lag::{Lag, LayerState};
use super::records::{CursorState, LandedState};
use super::streams::{self, Limits};
use crate::stats::{LayerStats, TopicStats};

/// So many pages that failed are remembered.
const BEGUN_PAGES: usize = 64;

/// Where a topic ends: what the next page builds on.
#[derive(Debug, Clone, Default)]
pub(super) struct Tip {
    pub(super) end: u64,
    /// The offset of the last message that is there: the end, but where the server took one and
    /// dropped it again. 0 if there is none.
    pub(super) message: u64,
    pub(super) totals: Totals,
    /// When the last message was published.
    pub(super) published_at_us: i64,
    /// What the last message is.
    pub(super) last: Option<Slot>,
    /// The cursor record that it tells.
    pub(super) told: Option<CursorState>,
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
    held: Mutex<HeldMessages>,
    /// Pages that were sent, after which offset, and of which it is not known that they stand as a
    /// whole, with their cursor record.
    begun: Mutex<VecDeque<(u128, u64)>>,
}

#[derive(Default)]
struct State {
    end: u64,
    /// Up to here there were messages: they were acknowledged to this process, or came to it.
    sure: u64,
    /// The totals, and the offset at which they hold: the end, but where others publish.
    totals: Totals,
    totals_at: u64,
    first_after: u64,
    messages: u64,
    stored: u64,
    last_us: i64,
    limits: Limits,
    lag: Lag,
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
            sure: landed.map_or(0, |l| l.offset).max(tip.message),
            totals: tip.totals,
            totals_at: tip.end,
            limits: Limits::of(&info.config),
            lag: Lag::new(landed),
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
            held: Mutex::default(),
            begun: Mutex::default(),
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
            state.last_us = state.last_us.max(micros(of.last_timestamp));
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

    /// Takes up that there was a message at `offset`.
    pub(super) fn is_sure_of(&self, offset: u64) {
        let mut state = self.lock();
        state.sure = state.sure.max(offset);
    }

    /// Up to where the topic must have messages, or have had them.
    pub(super) fn sure(&self) -> u64 {
        self.lock().sure
    }

    /// Takes up how far raw has landed, here or elsewhere.
    pub(super) fn raw_landed(&self, record: LandedState) {
        self.landed.send_if_modified(|landed| {
            let is_news = record.offset > *landed;
            if is_news {
                let mut state = self.lock();
                state.sure = state.sure.max(record.offset);
                let end = state.end;
                state.lag.raw_landed(record, end);
                *landed = record.offset;
            }
            is_news
        });
    }

    /// How far raw has landed, and what the topic had there.
    pub(super) fn landed_state(&self) -> Option<LandedState> {
        self.lock().lag.landed
    }

    /// Where the topic ends, if it has no message any more and ended at `end`.
    pub(super) fn emptied(&self, end: u64) -> Tip {
        let state = self.lock();
        // Only what raw has landed goes, so it knows the last that went.
        let landed = state.lag.landed.filter(|landed| landed.offset == end);
        let totals = landed.and_then(|landed| landed.known());
        let totals = totals.map_or(state.totals, |(_, totals)| totals);
        let published_at_us = landed.map_or(0, |landed| landed.published_at_us);
        let published_at_us = if published_at_us > 0 { published_at_us } else { state.last_us };
        Tip { end, totals, published_at_us, ..Tip::default() }
    }

    /// Remembers that a page is sent after the offset `base`.
    pub(super) fn begin(&self, page: u128, base: u64) {
        let mut begun = self.begun();
        begun.retain(|(known, _)| *known != page);
        if begun.len() == BEGUN_PAGES {
            begun.pop_front();
        }
        begun.push_back((page, base));
    }

    /// After which offset a page was sent, if it was and is not known to stand.
    pub(super) fn begun_at(&self, page: u128) -> Option<u64> {
        self.begun().iter().find(|(known, _)| *known == page).map(|(_, base)| *base)
    }

    /// Forgets a page that stands, with its cursor record if it has one.
    pub(super) fn stands(&self, page: u128) {
        self.begun().retain(|(known, _)| *known != page);
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

    /// The last offset up to `offset` of which the totals are known, and these.
    pub(super) fn known_totals(&self, offset: u64) -> (u64, Totals) {
        let state = self.lock();
        let landed = state.lag.landed.and_then(|landed| landed.known());
        let known = landed.into_iter().chain([(state.totals_at, state.totals)]);
        known.filter(|(at, _)| *at <= offset).max_by_key(|(at, _)| *at).unwrap_or_default()
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
        let waiting = state.unlanded_bytes();
        waiting == 0 || waiting.saturating_add(bytes) <= limit
    }

    /// Bytes of payload that wait for raw, as far as is known.
    pub(super) fn unlanded_bytes(&self) -> u64 {
        self.lock().unlanded_bytes()
    }

    /// Takes up that a layer of this process reads, with one subscriber more.
    pub(super) fn read_by(&self, layer: Layer) {
        self.lock().lag.read_by(layer);
    }

    /// Takes up that a subscriber of a layer is gone. How far the layer was when the last one went
    /// is still told: it may stand still.
    pub(super) fn left_by(&self, layer: Layer) {
        self.lock().lag.left_by(layer);
    }

    pub(super) fn is_read_by(&self, layer: Layer) -> bool {
        self.lock().lag.is_read_by(layer)
    }

    pub(super) fn layer(&self, layer: Layer) -> LayerState {
        self.lock().lag.here(layer)
    }

    pub(super) fn committed(&self, layer: Layer, to: LayerState) {
        self.lock().lag.committed(layer, to);
    }

    /// Whether the totals at the topic's end are to be asked for: they tell how much waits for a
    /// layer that reads here, or for `all` that ever did; and for raw, if that may be lost.
    pub(super) fn needs_totals(&self, all: bool) -> bool {
        let state = self.lock();
        let end = state.end;
        let is_known = state.totals_at >= end;
        let others = state.may_lose() || (all && state.lag.waits(end));
        state.lag.waits_here(end) || (others && !is_known)
    }

    /// The offsets of which it is to be asked when the first message after them was published, for
    /// layers that read here, or `all` that ever did.
    pub(super) fn unasked(&self, all: bool) -> Vec<u64> {
        let mut state = self.lock();
        let (end, may_lose) = (state.end, state.may_lose());
        state.lag.unasked(end, may_lose, all)
    }

    /// Takes up when the first message after `after` was published, or that there is none.
    pub(super) fn asked(&self, after: u64, published_at_us: Option<i64>) {
        let mut state = self.lock();
        let last_us = state.last_us;
        state.lag.asked(after, published_at_us, last_us);
    }

    /// The message as others of this process hold it, so that it is decoded once; or this one.
    pub(super) fn share(&self, message: Arc<Message>) -> Arc<Message> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).share(message)
    }

    pub(super) fn stats(&self, now_us: i64) -> TopicStats {
        let state = self.lock();
        let unlanded = state.unlanded_bytes();
        TopicStats {
            topic: self.id.clone(),
            epoch: self.epoch,
            first_after: state.first_after,
            end: state.end,
            messages: state.messages,
            stored_bytes: state.stored,
            unlanded_bytes: unlanded,
            last_published_at_us: (state.end > 0).then_some(state.last_us),
            time_to_loss: state.time_to_loss(now_us),
            layers: Layer::ALL.into_iter().filter_map(|layer| state.layer(layer)).collect(),
        }
    }

    fn begun(&self) -> MutexGuard<'_, VecDeque<(u128, u64)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the server may drop something that waits for raw.
    fn may_lose(&self) -> bool {
        !self.limits.lose_nothing() && self.lag.landed_to() < self.end
    }

    /// How long it is until it does, if it is known since when that waits.
    fn time_to_loss(&self, now_us: i64) -> Option<Duration> {
        let waited = now_us.saturating_sub(self.lag.unlanded_since_us()?);
        let waited = Duration::from_micros(u64::try_from(waited).unwrap_or(0));
        let waiting = self.end.saturating_sub(self.lag.landed_to());
        self.limits.time_to_loss(waiting, self.unlanded_bytes(), waited)
    }

    /// Bytes of payload that wait for raw.
    fn unlanded_bytes(&self) -> u64 {
        match self.lag.landed {
            // Whatever totals it tells: earlier releases took those of a message that tells none.
            Some(landed) if landed.offset >= self.totals_at => 0,
            landed => {
                let landed = landed.map(|landed| landed.totals()).unwrap_or_default();
                self.totals.since(landed).bytes
            }
        }
    }

    fn layer(&self, layer: Layer) -> Option<LayerStats> {
        let of = self.lag.of(layer)?;
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

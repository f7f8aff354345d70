//! A topic as far as this process knows it: its epoch, where it begins and ends, when it was published
//! to last, and how far the layers are that read it here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_model::{BusError, EntityId, Epoch, Layer, Position, Span};
use tokio::sync::RwLock;

use super::backlog::{Backlog, Weight};
use super::limits::Limits;
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
    /// What this process published of it that raw has not landed.
    pub(super) backlog: Arc<Backlog>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As the brokers last told it.
    seen: Marks,
    /// The last message that the brokers removed, as far as that is known.
    gone: u64,
    tip: Tip,
    /// How far the layers are that read the topic here.
    committed: [Option<u64>; 3],
    /// How far those were that no longer do.
    left: [Option<u64>; 3],
    /// How many subscribers of this process each layer has.
    readers: [u32; 3],
    /// When the first message behind some of these places was published.
    oldest: BTreeMap<u64, i64>,
    /// Nothing that waits for raw was published before, where it is not known when it was.
    no_earlier: Option<i64>,
    /// Where the layers stood when it was asked for last.
    stood: [Option<u64>; 3],
    last_us: i64,
    shortened: i64,
    stale: bool,
}

/// The last message, and the end of the topic (in Kafka's offsets) for which that holds.
#[derive(Debug, Clone, Copy, Default)]
struct Tip {
    end: u64,
    high: i64,
}

/// That a layer reads a topic in this process, until it is dropped.
pub(super) struct Reading {
    topic: Arc<Topic>,
    layer: Layer,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let (mut state, slot) = (self.topic.lock(), slot(self.layer));
        state.readers[slot] -= 1;
        if state.readers[slot] == 0 {
            // It may go on elsewhere, where nobody tells this process how far it gets.
            state.left[slot] = state.committed[slot].take().or(state.left[slot]);
        }
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
            backlog: Arc::default(),
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
        if marks.low > state.seen.low {
            // Behind the last message they may have removed the end of its transaction, too.
            let Tip { end, high } = state.tip;
            let is_known = high >= marks.low && i64::try_from(end).is_ok_and(|end| end < marks.low);
            state.gone = if is_known { end } else { first_after(marks) };
        }
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

    /// What of Kafka's offsets comes behind everything that is known of.
    pub(super) fn next(&self) -> i64 {
        let state = self.lock();
        state.seen.high.max(state.tip.high)
    }

    /// What of Kafka's offsets comes behind the message at `at`, and behind all after it that is none.
    pub(super) fn next_behind(&self, at: u64) -> i64 {
        let (tip, next) = (self.lock().tip, i64::try_from(at + 1).unwrap_or(i64::MAX));
        if tip.end <= at { tip.high.max(next) } else { next }
    }

    /// The last message that the brokers removed, as far as that is known.
    pub(super) fn gone(&self) -> u64 {
        self.lock().gone
    }

    /// Takes up that the last message before Kafka's offset `high` stands at `end`.
    pub(super) fn ends(&self, end: u64, high: i64) {
        let mut state = self.lock();
        if high >= state.tip.high {
            state.tip = Tip { end: end.max(state.tip.end), high };
        }
    }

    /// Takes up what this process has published.
    pub(super) fn published(&self, weights: &[Weight]) {
        let Some(last) = weights.last() else { return };
        self.ends(last.offset, i64::try_from(last.offset).unwrap_or(i64::MAX).saturating_add(1));
        self.backlog.add(weights);
    }

    /// Checks that a reader may go on after `after`, in a topic as the brokers just told it.
    pub(super) fn check_seek(&self, after: &Position, marks: Marks) -> Result<(), BusError> {
        self.check_known(after.epoch, after.offset, marks.high)?;
        self.still_there(after.offset)
    }

    /// [`BusError::Gone`] if the brokers have removed a message that comes after `at`.
    pub(super) fn still_there(&self, at: u64) -> Result<(), BusError> {
        let first_after = self.gone();
        if at < first_after {
            return Err(BusError::Gone { topic: self.id.clone(), first_after, asked: at + 1 });
        }
        Ok(())
    }

    /// Checks that the topic, as the brokers told it last, has had all that raw has landed. One that
    /// came back shorter would give the same offsets to other messages, and those would be passed over.
    pub(super) fn has_all(&self, landed: u64) -> Result<(), BusError> {
        let end = u64::try_from(self.marks().high - 1).unwrap_or(0);
        match landed > end {
            true => Err(self.shorter(end, landed)),
            false => Ok(()),
        }
    }

    /// How far raw has landed in this process, or had when it ended here, if the topic has this epoch.
    pub(super) fn landed_of(&self, epoch: Epoch) -> Option<u64> {
        let (state, raw) = (self.lock(), slot(Layer::Raw));
        state.committed[raw].max(state.left[raw]).filter(|_| self.epoch == epoch)
    }

    /// Takes up that `layer` has landed `span`; how far it has landed all in all.
    pub(super) fn commit(&self, layer: Layer, span: &Span) -> Result<u64, BusError> {
        self.check_known(span.epoch, span.to, 0)?;
        if layer == Layer::Raw {
            self.backlog.land(span.to);
        }
        let mut state = self.lock();
        let committed = state.committed[slot(layer)].unwrap_or(0).max(span.to);
        state.committed[slot(layer)] = Some(committed);
        Ok(committed)
    }

    /// How far raw has landed, where it runs in this process and says so itself.
    pub(super) fn landed(&self) -> Option<u64> {
        self.lock().committed[slot(Layer::Raw)]
    }

    /// How far raw has landed, and up to which of Kafka's offsets the topic was shortened. `None`
    /// where raw does not run in this process: nobody else may remove anything.
    pub(super) fn to_shorten(&self) -> Option<(u64, i64)> {
        let landed = self.landed()?;
        let state = self.lock();
        Some((landed, state.shortened.max(state.seen.low)))
    }

    pub(super) fn shortened(&self, before: i64) {
        self.lock().shortened = before;
    }

    /// Takes up that `layer` reads the topic in this process.
    pub(super) fn read_by(self: &Arc<Self>, layer: Layer) -> Reading {
        self.lock().readers[slot(layer)] += 1;
        Reading { topic: Arc::clone(self), layer }
    }

    /// Whether `layer` reads the topic in this process.
    pub(super) fn is_read_by(&self, layer: Layer) -> bool {
        self.lock().readers[slot(layer)] > 0
    }

    /// Whether brokers may remove by its age what raw has not landed.
    pub(super) fn may_lose(&self) -> bool {
        self.limits.retention.is_some() && self.backlog.landed() < self.known_end()
    }

    /// Where it is to be asked when the first message behind it was published: where something waits
    /// that brokers may remove, and where a layer does not get on.
    pub(super) fn unasked(&self) -> Vec<u64> {
        let (mut state, landed) = (self.lock(), self.backlog.landed());
        let stands = Layer::ALL.map(|layer| state.stands(slot(layer)));
        let stood = std::mem::replace(&mut state.stood, stands);
        let still = stands.into_iter().zip(stood).filter(|(now, before)| now == before);
        let mut wanted: BTreeSet<u64> = still.filter_map(|(now, _)| now).collect();
        wanted.extend(self.limits.retention.map(|_| landed));
        wanted.retain(|at| *at < state.tip.end);
        state.oldest.retain(|at, _| wanted.contains(at));
        state.no_earlier = state.no_earlier.filter(|_| landed < state.tip.end);
        wanted.into_iter().filter(|at| !state.oldest.contains_key(at)).collect()
    }

    /// Takes up when the first message behind `at` was published.
    pub(super) fn waits_since(&self, at: u64, published_at_us: i64) {
        let (mut state, landed) = (self.lock(), self.backlog.landed());
        state.oldest.insert(at, published_at_us);
        if at <= landed {
            state.no_earlier = state.no_earlier.max(Some(published_at_us));
        }
    }

    /// The time for a page that is published now, in microseconds since 1970: never before that of
    /// one that is known of.
    pub(super) fn stamp(&self, now_us: i64) -> i64 {
        let mut state = self.lock();
        state.last_us = state.last_us.max(now_us);
        state.last_us
    }

    /// Takes up when a page was published that stands in the topic.
    pub(super) fn heard(&self, published_at_us: i64) {
        self.stamp(published_at_us);
    }

    /// Nobody is to use this one any more: the brokers may have another topic by its name.
    pub(super) fn spoil(&self) {
        self.lock().stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.lock().stale
    }

    pub(super) fn stats(&self, now_us: i64) -> TopicStats {
        let state = self.lock();
        let layers = Layer::ALL.into_iter().filter_map(|layer| self.layer(&state, layer)).collect();
        let first_after = first_after(state.seen);
        TopicStats {
            topic: self.id.clone(),
            epoch: self.epoch,
            first_after,
            end: state.tip.end,
            messages: state.tip.end.saturating_sub(first_after),
            stored_bytes: 0,
            unlanded_bytes: self.backlog.bytes(),
            last_published_at_us: (state.last_us > 0).then_some(state.last_us),
            time_to_loss: self.time_to_loss(&state, now_us),
            layers,
        }
    }

    /// Where the brokers remove messages by their age: how long the oldest that waits has left.
    fn time_to_loss(&self, state: &State, now_us: i64) -> Option<Duration> {
        let (kept, landed) = (self.limits.retention?, self.backlog.landed());
        let waited = match landed < state.tip.end {
            true => {
                let oldest = state.oldest.get(&landed).copied().or(state.no_earlier);
                now_us - oldest.or(self.backlog.since_us())?
            }
            false => 0,
        };
        Some(kept.saturating_sub(Duration::from_micros(u64::try_from(waited).unwrap_or(0))))
    }

    fn check_known(&self, epoch: Epoch, offset: u64, high: i64) -> Result<(), BusError> {
        if epoch != self.epoch {
            let topic = self.id.clone();
            return Err(BusError::UnexpectedEpoch { topic, expected: epoch, found: self.epoch });
        }
        let high = self.next().max(high);
        let end = u64::try_from(high - 1).unwrap_or(0);
        if offset > end {
            return Err(self.shorter(end, offset));
        }
        Ok(())
    }

    fn shorter(&self, end: u64, known: u64) -> BusError {
        let id = &self.id;
        BusError::Corrupt(format!(
            "topic {id} ends at offset {end}, but a layer knows it up to offset {known}"
        ))
    }

    /// The brokers count messages, so that is what is told: a message holds one record or more.
    fn layer(&self, state: &State, layer: Layer) -> Option<LayerStats> {
        let slot = slot(layer);
        let stands = state.stands(slot);
        if state.readers[slot] == 0 && stands.is_none() {
            return None;
        }
        let committed = stands.unwrap_or(0);
        let rest = self.backlog.rest(committed);
        Some(LayerStats {
            layer,
            committed,
            waiting_records: rest.records.max(state.tip.end.saturating_sub(committed)),
            waiting_since_us: state.oldest.get(&committed).copied().or(rest.since_us),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How far a layer is, or was when it left.
    fn stands(&self, slot: usize) -> Option<u64> {
        self.committed[slot].or(self.left[slot])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        limited(Limits::default())
    }

    fn limited(limits: Limits) -> Topic {
        let id = "shop.orders".parse().unwrap();
        Topic::new(id, "alluvium.shop.orders".to_owned(), Epoch(1), limits)
    }

    fn is_there(topic: &Topic, at: u64) -> bool {
        topic.still_there(at).is_ok()
    }

    #[test]
    fn who_read_the_last_message_misses_nothing_where_the_end_of_its_transaction_is_removed() {
        let topic = topic();
        topic.seen(Marks { low: 0, high: 9 });
        topic.ends(7, 9);
        assert_eq!((topic.next_behind(7), topic.next_behind(6)), (9, 7));
        topic.seen(Marks { low: 9, high: 9 });
        assert_eq!((is_there(&topic, 7), is_there(&topic, 6), topic.gone()), (true, false, 7));
        topic.ends(9, 11);
        topic.seen(Marks { low: 9, high: 11 });
        assert!(is_there(&topic, 7), "whatever comes then");
        topic.seen(Marks { low: 11, high: 11 });
        assert_eq!((is_there(&topic, 9), is_there(&topic, 7)), (true, false));
    }

    #[test]
    fn what_is_not_known_to_be_no_message_is_gone() {
        let topic = topic();
        topic.seen(Marks { low: 9, high: 9 });
        assert_eq!((is_there(&topic, 8), is_there(&topic, 7)), (true, false));
        topic.ends(12, 14);
        topic.seen(Marks { low: 11, high: 14 });
        assert_eq!((is_there(&topic, 10), is_there(&topic, 9)), (true, false));
    }

    #[test]
    fn how_long_the_oldest_message_has_left_is_known_where_others_published_it() {
        let mut limits = Limits::default();
        limits.retention = Some(Duration::from_secs(100));
        let topic = limited(limits);
        let left = |topic: &Topic| topic.stats(90_000_000).time_to_loss.unwrap().as_secs();
        assert_eq!((topic.may_lose(), topic.unasked(), left(&topic)), (false, vec![], 100));
        topic.seen(Marks { low: 0, high: 9 });
        topic.ends(8, 9);
        topic.heard(80_000_000);
        topic.backlog.land(3);
        assert_eq!((topic.may_lose(), topic.unasked()), (true, vec![3]));
        assert_eq!(topic.stats(90_000_000).time_to_loss, None, "nobody knows yet");
        topic.waits_since(3, 20_000_000);
        assert_eq!((topic.unasked(), left(&topic)), (vec![], 30), "not that of the newest");
        topic.backlog.land(5);
        assert_eq!((topic.unasked(), left(&topic)), (vec![5], 30), "as far as is known");
        topic.waits_since(5, 50_000_000);
        assert_eq!(left(&topic), 60);
        topic.backlog.land(8);
        assert_eq!((topic.may_lose(), topic.unasked(), left(&topic)), (false, vec![], 100));
    }
}

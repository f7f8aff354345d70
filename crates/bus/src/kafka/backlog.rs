//! What this process published of a topic that raw has not landed, and the room that is left.
//!
//! Raw may run in another process: then what that tells on the bus says how far it is. Where nobody
//! can say that, a publisher is told so and does not wait for ever.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_model::{BusError, EntityId};
use tokio::sync::Notify;

/// What of a topic waits for raw.
#[derive(Default)]
pub(super) struct Backlog {
    /// Held by the publisher whose turn it is to wait for room.
    turn: tokio::sync::Mutex<()>,
    room: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Weight>,
    bytes: u64,
    reserved: u64,
    /// Up to where raw has landed.
    landed: u64,
    /// Why nobody can say how far raw is, if that is so.
    untold: Option<String>,
}

/// A message that this process published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) records: u32,
    pub(super) published_at_us: i64,
}

/// What of the backlog a layer has not committed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rest {
    pub(super) records: u64,
    pub(super) since_us: Option<i64>,
}

/// Room that a page in flight takes; given back when dropped.
pub(super) struct Room {
    backlog: Arc<Backlog>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.backlog.lock().reserved -= self.bytes;
        self.backlog.room.notify_one();
    }
}

impl Backlog {
    /// Takes up what was published.
    pub(super) fn add(&self, weights: &[Weight]) {
        let mut state = self.lock();
        let landed = state.landed;
        for weight in weights.iter().filter(|weight| weight.offset > landed) {
            state.bytes += weight.bytes;
            state.waiting.push_back(*weight);
        }
    }

    /// Waits until the topic has room for `bytes` of payload, and takes it. Tells every `patience`
    /// that it waits; [`BusError::Unavailable`] where it cannot be known how far raw is.
    pub(super) async fn room(
        self: &Arc<Self>,
        topic: &EntityId,
        bytes: u64,
        limit: u64,
        patience: Duration,
    ) -> Result<Room, BusError> {
        let _turn = self.turn.lock().await;
        loop {
            if let Some(room) = self.take(bytes, limit) {
                return Ok(room);
            }
            if tokio::time::timeout(patience, self.room.notified()).await.is_err() {
                self.complain(topic, patience)?;
            }
        }
    }

    /// Takes up that raw has landed all up to `to`.
    pub(super) fn land(&self, to: u64) {
        let mut state = self.lock();
        let landed = state.landed.max(to);
        state.landed = landed;
        while let Some(first) = state.waiting.front().filter(|w| w.offset <= landed) {
            state.bytes -= first.bytes;
            state.waiting.pop_front();
        }
        self.room.notify_one();
    }

    /// Takes up why nobody can say how far raw is, or that there is no reason any more.
    pub(super) fn untold(&self, why: Option<String>) {
        self.lock().untold = why;
    }

    /// Up to where raw has landed, as far as is known.
    pub(super) fn landed(&self) -> u64 {
        self.lock().landed
    }

    /// Whether something that this process published waits for raw.
    pub(super) fn is_waiting(&self) -> bool {
        self.bytes() > 0
    }

    /// The bytes of payload that wait for raw.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// When the oldest message was published that waits for raw.
    pub(super) fn since_us(&self) -> Option<i64> {
        self.lock().waiting.front().map(|oldest| oldest.published_at_us)
    }

    /// What is behind `committed`.
    pub(super) fn rest(&self, committed: u64) -> Rest {
        let state = self.lock();
        let rest = state.waiting.iter().filter(|weight| weight.offset > committed);
        Rest {
            records: rest.clone().map(|weight| u64::from(weight.records)).sum(),
            since_us: rest.map(|weight| weight.published_at_us).next(),
        }
    }

    fn take(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Room> {
        let mut state = self.lock();
        let taken = state.bytes + state.reserved;
        if taken > 0 && taken.saturating_add(bytes) > limit {
            return None;
        }
        state.reserved += bytes;
        Some(Room { backlog: Arc::clone(self), bytes })
    }

    fn complain(&self, topic: &EntityId, waited: Duration) -> Result<(), BusError> {
        let state = self.lock();
        let (bytes, landed) = (state.bytes, state.landed);
        if let Some(why) = &state.untold {
            return Err(BusError::Unavailable(format!(
                "{bytes} bytes of topic {topic} wait for raw, and how far raw is cannot be known: \
                 {why}"
            )));
        }
        let seconds = waited.as_secs();
        tracing::warn!(
            %topic, bytes, landed, seconds,
            "a publisher waits for raw; is a worker running that lands raw?"
        );
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(5);

    fn full() -> Arc<Backlog> {
        let backlog = Arc::new(Backlog::default());
        let weight = Weight { offset: 1, bytes: 10, records: 1, published_at_us: 5 };
        backlog.add(&[weight, Weight { offset: 2, ..weight }]);
        backlog
    }

    fn topic() -> EntityId {
        "shop.orders".parse().unwrap()
    }

    #[tokio::test]
    async fn who_waits_for_raw_waits_as_long_as_raw_is_known_to_be_behind() {
        let (backlog, topic) = (full(), topic());
        let waiting = backlog.room(&topic, 1, 20, PATIENCE);
        assert!(tokio::time::timeout(PATIENCE * 20, waiting).await.is_err());
        backlog.land(1);
        backlog.room(&topic, 10, 20, PATIENCE).await.map(drop).unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_told_where_nobody_can_say_how_far_raw_is() {
        let (backlog, topic) = (full(), topic());
        backlog.untold(Some("not authorized".to_owned()));
        let refused = backlog.room(&topic, 1, 20, PATIENCE).await.map(drop);
        assert!(matches!(&refused, Err(BusError::Unavailable(why))
            if why.contains("20 bytes") && why.contains("not authorized")));
        backlog.untold(None);
        let waiting = backlog.room(&topic, 1, 20, PATIENCE);
        assert!(tokio::time::timeout(PATIENCE * 20, waiting).await.is_err(), "it is known again");
    }
}

//! What waits for the writer, and what publishers, subscribers and the writer share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{BusError, Clock, CursorRecord, EntityId, Epoch};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::block::Prepared;
use super::cache::Cache;
use super::store::Store;
use super::topic::{Room, Tip, Topic};
use crate::BusSettings;

const MAX_GROUP_PAGES: usize = 512;
const MAX_GROUP_BYTES: usize = 32 << 20;

/// A page that waits to be written.
pub(super) struct Request {
    pub(super) topic: Arc<Topic>,
    pub(super) messages: Vec<Prepared>,
    pub(super) cursor: Option<CursorRecord>,
    pub(super) reply: oneshot::Sender<Result<Published, BusError>>,
    pub(super) room: Option<Room>,
    pub(super) place: OwnedSemaphorePermit,
}

/// What publishers, subscribers and the writer share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) settings: BusSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache: Cache,
    pub(super) topics: RwLock<HashMap<EntityId, Arc<Topic>>>,
    /// Held by who creates a topic.
    pub(super) creating: Mutex<()>,
    pub(super) queue: Queue,
    pub(super) group_commits: AtomicU64,
    pub(super) pages: AtomicU64,
}

impl Shared {
    /// The topic, if it is there.
    pub(super) fn known(&self, topic: &EntityId) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// The topic, created durably if it is not there. Blocks the thread.
    pub(super) fn create(&self, id: &EntityId) -> Result<Arc<Topic>, BusError> {
        let _only_one = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = self.known(id) {
            return Ok(topic);
        }
        let (number, epoch) = self.next_topic();
        self.store.create_topic(id, number, epoch)?;
        let (tip, weights) = (Tip::default(), VecDeque::new());
        let topic = Arc::new(Topic::new(id.clone(), number, epoch, tip, weights, [None; 3]));
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(id.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Waits until the topic has room for `bytes` of payload, and takes it, unless the bus is
    /// closed. The caller holds the topic's turn.
    pub(super) async fn room(&self, topic: &Arc<Topic>, bytes: u64) -> Result<Room, BusError> {
        loop {
            if self.queue.is_stopping() {
                return Err(closed());
            }
            if let Some(room) = topic.take_room(bytes, self.settings.max_unlanded_bytes) {
                return Ok(room);
            }
            topic.room.notified().await;
        }
    }

    /// The writer finishes what waits, and ends; who waits for room is told.
    pub(super) fn stop(&self) {
        self.queue.stop();
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().for_each(|topic| topic.room.notify_one());
    }

    /// The writer has ended: nobody takes what still waits.
    pub(super) fn abandon(&self) {
        self.stop();
        self.queue.abandon();
    }

    /// The number and the epoch of the next topic, both above all that the database has seen.
    fn next_topic(&self) -> (u32, Epoch) {
        let now = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let number = topics.values().map(|t| t.number + 1).max().unwrap_or(0);
        let last = topics.values().map(|t| t.epoch.0).max().unwrap_or(0);
        (number, Epoch(now.max(last + 1)))
    }
}

/// What waits for the writer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    landed: bool,
    retained: Vec<oneshot::Sender<()>>,
    stopping: bool,
}

/// What the writer does next.
pub(super) struct Work {
    pub(super) requests: Vec<Request>,
    /// Dropped when retention is done.
    pub(super) retained: Vec<oneshot::Sender<()>>,
    /// Whether this is the last work.
    pub(super) stopping: bool,
}

impl Queue {
    /// Hands a page to the writer, unless the bus is closed.
    pub(super) fn push(&self, request: Request) -> Result<(), BusError> {
        let mut waiting = self.lock();
        if waiting.stopping {
            return Err(closed());
        }
        waiting.requests.push_back(request);
        self.arrived.notify_one();
        Ok(())
    }

    /// A layer has committed: there may be something to record and to remove.
    pub(super) fn landed(&self) {
        self.lock().landed = true;
        self.arrived.notify_one();
    }

    /// Asks for retention now; the channel closes when nothing is left to remove.
    pub(super) fn retain(&self) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if !waiting.stopping {
            waiting.retained.push(done);
            self.arrived.notify_one();
        }
        answer
    }

    /// Whether the bus is being closed.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The writer finishes what waits, and ends.
    fn stop(&self) {
        self.lock().stopping = true;
        self.arrived.notify_one();
    }

    /// Drops what waits; whoever waits for an answer sees that none comes.
    fn abandon(&self) {
        let dropped = {
            let mut waiting = self.lock();
            (std::mem::take(&mut waiting.requests), std::mem::take(&mut waiting.retained))
        };
        drop(dropped);
    }

    /// Waits for work, as long as `patience`.
    pub(super) fn next(&self, patience: Duration) -> Work {
        let idle = |w: &mut Waiting| {
            w.requests.is_empty() && w.retained.is_empty() && !w.landed && !w.stopping
        };
        let (mut waiting, _) = self
            .arrived
            .wait_timeout_while(self.lock(), patience, idle)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.landed = false;
        let (mut requests, mut bytes) = (Vec::new(), 0);
        while requests.len() < MAX_GROUP_PAGES && bytes < MAX_GROUP_BYTES {
            let Some(request) = waiting.requests.pop_front() else { break };
            bytes += request.messages.iter().map(Prepared::payload_bytes).sum::<usize>();
            requests.push(request);
        }
        let retained = std::mem::take(&mut waiting.retained);
        Work { requests, retained, stopping: waiting.stopping && waiting.requests.is_empty() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a bus that was closed.
pub(super) fn closed() -> BusError {
    BusError::Unavailable("the bus is closed".to_owned())
}

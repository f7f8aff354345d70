//! What waits for the writer, and what publishers, subscribers and the writer share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{BusError, Clock, CursorRecord, EntityId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::BusSettings;
use crate::block::Prepared;
use crate::cache::Cache;
use crate::store::Store;
use crate::topic::{Room, Topic};

const MAX_GROUP_PAGES: usize = 512;
const MAX_GROUP_BYTES: usize = 32 << 20;

/// A page that waits to be written.
pub(crate) struct Request {
    pub(crate) topic: Arc<Topic>,
    pub(crate) messages: Vec<Prepared>,
    pub(crate) cursor: Option<CursorRecord>,
    pub(crate) reply: oneshot::Sender<Result<Published, BusError>>,
    pub(crate) room: Option<Room>,
    pub(crate) place: OwnedSemaphorePermit,
}

/// What publishers, subscribers and the writer share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) settings: BusSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Cache,
    pub(crate) topics: RwLock<HashMap<EntityId, Arc<Topic>>>,
    pub(crate) queue: Queue,
    pub(crate) group_commits: AtomicU64,
    pub(crate) pages: AtomicU64,
}

/// What waits for the writer.
#[derive(Default)]
pub(crate) struct Queue {
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
pub(crate) struct Work {
    pub(crate) requests: Vec<Request>,
    /// Dropped when retention is done.
    pub(crate) retained: Vec<oneshot::Sender<()>>,
    /// Whether this is the last work.
    pub(crate) stopping: bool,
}

impl Queue {
    /// Hands a page to the writer, unless the bus is closed.
    pub(crate) fn push(&self, request: Request) -> Result<(), BusError> {
        let mut waiting = self.lock();
        if waiting.stopping {
            return Err(closed());
        }
        waiting.requests.push_back(request);
        self.arrived.notify_one();
        Ok(())
    }

    /// A layer has committed: there may be something to record and to remove.
    pub(crate) fn landed(&self) {
        self.lock().landed = true;
        self.arrived.notify_one();
    }

    /// Asks for retention now; the channel closes when nothing is left to remove.
    pub(crate) fn retain(&self) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if !waiting.stopping {
            waiting.retained.push(done);
            self.arrived.notify_one();
        }
        answer
    }

    /// Whether the bus is being closed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The writer finishes what waits, and ends.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.arrived.notify_one();
    }

    /// Waits for work, as long as `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Work {
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
pub(crate) fn closed() -> BusError {
    BusError::Unavailable("the bus is closed".to_owned())
}

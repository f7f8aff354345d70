//! The one thread that changes the database: group commit, the layers' commits, retention.
//!
//! All pages that wait are put into one batch and made durable by one fsync. Fencing is decided
//! here, where nothing can come between the look and the write. After a failed write nothing more
//! is taken until the bus is opened anew, since nobody knows what the disk holds then.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{BusError, CursorRecord, Message, Span};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::block::Prepared;
use super::cache::Cache;
use super::queue::{Request, Shared};
use super::reclaim::Reclaim;
use super::store::Batch;
use super::topic::{Room, Tip, Topic, Weight};

/// How long the writer sleeps when nothing happens; then it looks for what has grown too old.
const IDLE: Duration = Duration::from_secs(1);
/// How long a stop waits for the writer.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How many messages retention removes before the writer looks at its queue again.
const RETENTION_STEP: usize = 256;
/// How many removed bytes make it worth while to give disk space back.
const RECLAIM_BYTES: u64 = 64 << 20;

/// The running writer.
pub(super) struct Running {
    thread: JoinHandle<()>,
    /// Closes when the thread ends.
    ended: mpsc::Receiver<()>,
}

/// Starts the writer. It ends after [`Shared::stop`].
pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Running> {
    let leaves = Leaves(Arc::clone(&shared));
    let writer = Writer { shared, failed: None, removed: 0, reclaim: Reclaim::default() };
    let (ends, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name("bus-writer".to_owned()).spawn(move || {
        let _ends: mpsc::Sender<()> = ends;
        let _leaves = leaves;
        writer.run();
    })?;
    Ok(Running { thread, ended })
}

/// Held by the writer. However it ends, also in a panic, nobody goes on waiting for it.
struct Leaves(Arc<Shared>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Running {
    /// Waits until the writer has ended. Not for ever: on a full disk the engine may wait for room
    /// that never comes.
    pub(super) fn join(self) {
        match self.ended.recv_timeout(STOP_PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tracing::error!("the bus's writer does not end; leaving it behind");
            }
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                if self.thread.join().is_err() {
                    tracing::error!("the bus's writer ended in a panic");
                }
            }
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    failed: Option<Failure>,
    removed: u64,
    reclaim: Reclaim,
}

/// Why the writer takes nothing more.
enum Failure {
    Full(String),
    Unavailable(String),
}

/// A page that stands in the batch.
struct Standing {
    reply: oneshot::Sender<Result<Published, BusError>>,
    published: Published,
    _room: Option<Room>,
    _place: OwnedSemaphorePermit,
}

/// What a group adds to one topic.
struct Growth {
    topic: Arc<Topic>,
    tip: Tip,
    weights: Vec<Weight>,
    messages: Vec<Message>,
}

impl Writer {
    fn run(mut self) {
        let mut more = false;
        loop {
            let work = self.shared.queue.next(if more { Duration::ZERO } else { IDLE });
            if !work.requests.is_empty() {
                self.take(work.requests);
            }
            more = self.tidy();
            while more && !work.retained.is_empty() {
                more = self.tidy();
            }
            drop(work.retained);
            if work.stopping {
                break;
            }
        }
        self.reclaim.join();
        if self.failed.is_none()
            && let Err(e) = self.shared.store.sync()
        {
            tracing::warn!(error = %e, "the bus could not be closed properly");
        }
    }

    fn take(&mut self, requests: Vec<Request>) {
        if let Some(failure) = &self.failed {
            return refuse(requests.into_iter().map(|r| r.reply), failure);
        }
        match self.write(requests) {
            Ok(standing) => {
                self.shared.group_commits.fetch_add(1, Ordering::Relaxed);
                self.shared.pages.fetch_add(standing.len() as u64, Ordering::Relaxed);
                for page in standing {
                    answer(page.reply, Ok(page.published));
                }
            }
            Err((error, standing)) => {
                let failure = Failure::of(&error);
                refuse(standing.into_iter().map(|p| p.reply), &failure);
                self.fail(&error);
            }
        }
    }

    fn write(&self, requests: Vec<Request>) -> Result<Vec<Standing>, (BusError, Vec<Standing>)> {
        let mut batch = self.shared.store.batch();
        let mut growths: HashMap<u32, Growth> = HashMap::new();
        let mut standing = Vec::with_capacity(requests.len());
        for request in requests {
            let growth = growths.entry(request.topic.number).or_insert_with(|| Growth {
                tip: request.topic.tip(),
                topic: Arc::clone(&request.topic),
                weights: Vec::new(),
                messages: Vec::new(),
            });
            if let Some(fenced) = fence(growth, request.cursor.as_ref()) {
                answer(request.reply, Err(fenced));
                continue;
            }
            let now = self.shared.clock.now().as_microsecond();
            let published = growth.page(&mut batch, request.messages, request.cursor, now);
            let Request { reply, room, place, .. } =
                Request { messages: Vec::new(), cursor: None, ..request };
            standing.push(Standing { reply, published, _room: room, _place: place });
        }
        let result = growths
            .values()
            .try_for_each(|g| batch.tip(g.topic.number, &g.tip))
            .and_then(|()| batch.sync());
        match result {
            Ok(()) => {
                growths.into_values().for_each(|g| g.settle(&self.shared.cache));
                Ok(standing)
            }
            Err(e) => Err((e, standing)),
        }
    }

    /// Records the layers' commits and removes what retention no longer keeps. Whether there is
    /// more to remove.
    fn tidy(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let topics: Vec<Arc<Topic>> = {
            let topics = self.shared.topics.read().unwrap_or_else(PoisonError::into_inner);
            topics.values().cloned().collect()
        };
        match self.tidy_topics(&topics) {
            Ok(more) => {
                if self.removed >= RECLAIM_BYTES && self.reclaim.start(&self.shared) {
                    self.removed = 0;
                }
                more
            }
            Err(e) => {
                self.fail(&e);
                false
            }
        }
    }

    fn tidy_topics(&mut self, topics: &[Arc<Topic>]) -> Result<bool, BusError> {
        let now = self.shared.clock.now().as_microsecond();
        let mut batch = self.shared.store.batch();
        let mut more = false;
        for topic in topics {
            if let Some(commits) = topic.unrecorded() {
                batch.commits(topic.number, commits)?;
            }
            let (span, bytes) = topic.expire(&self.shared.settings, now, RETENTION_STEP);
            for offset in span.after + 1..=span.to {
                batch.remove(topic.number, offset);
            }
            self.removed += bytes;
            more |= span.messages() == RETENTION_STEP as u64;
        }
        batch.write()?;
        Ok(more)
    }

    fn fail(&mut self, error: &BusError) {
        tracing::error!(%error, "the bus takes nothing more until it is opened anew");
        self.failed = Some(Failure::of(error));
    }
}

impl Growth {
    fn page(
        &mut self,
        batch: &mut Batch<'_>,
        messages: Vec<Prepared>,
        cursor: Option<CursorRecord>,
        now_us: i64,
    ) -> Published {
        let after = self.tip.end;
        self.tip.published_at_us = self.tip.published_at_us.max(now_us);
        for prepared in messages {
            self.tip.end += 1;
            let sealed = prepared.seal(self.topic.epoch, self.tip.end, self.tip.published_at_us);
            let weight = Weight {
                payload: u32::try_from(sealed.message.payload.len()).unwrap_or(u32::MAX),
                stored: u32::try_from(sealed.block.len()).unwrap_or(u32::MAX),
                records: sealed.message.records,
                published_at_us: self.tip.published_at_us,
            };
            batch.message(self.topic.number, self.tip.end, &sealed.block, weight);
            self.weights.push(weight);
            self.messages.push(sealed.message);
        }
        if cursor.is_some() {
            self.tip.cursor = cursor;
        }
        Published { span: Span { epoch: self.topic.epoch, after, to: self.tip.end } }
    }

    /// The group is durable. Readers find the messages in the cache when they wake.
    fn settle(self, cache: &Cache) {
        for message in self.messages {
            cache.offer(self.topic.number, message);
        }
        self.topic.advance(self.tip, self.weights);
    }
}

fn fence(growth: &Growth, cursor: Option<&CursorRecord>) -> Option<BusError> {
    let last = growth.tip.cursor.as_ref();
    if cursor.is_none_or(|c| c.may_follow(last)) {
        return None;
    }
    let topic = growth.topic.id.clone();
    last.map(|last| BusError::Fenced { topic, token: last.token.0, page: last.page })
}

impl Failure {
    fn of(error: &BusError) -> Self {
        match error {
            BusError::Full(text) => Self::Full(text.clone()),
            other => Self::Unavailable(other.to_string()),
        }
    }

    fn error(&self) -> BusError {
        const UNTIL: &str = "nothing more is taken until the bus is opened anew";
        match self {
            Self::Full(text) => BusError::Full(format!("{text}; {UNTIL}")),
            Self::Unavailable(text) => BusError::Unavailable(format!("{text}; {UNTIL}")),
        }
    }
}

fn refuse(
    replies: impl Iterator<Item = oneshot::Sender<Result<Published, BusError>>>,
    failure: &Failure,
) {
    for reply in replies {
        answer(reply, Err(failure.error()));
    }
}

fn answer(
    reply: oneshot::Sender<Result<Published, BusError>>,
    result: Result<Published, BusError>,
) {
    if reply.send(result).is_err() {
        tracing::debug!("a publisher did not wait for its answer");
    }
}

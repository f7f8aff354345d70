//! The embedded bus: a durable log in one folder on local disk, for one process.
//!
//! Everything that changes it goes through one writer thread, which makes many pages durable with
//! one fsync; readers take messages from a cache that all layers of the process share, or from disk.

mod block;
mod cache;
mod folder;
mod journal;
mod mishap;
mod queue;
mod reclaim;
mod record;
mod store;
mod subscriber;
mod topic;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, Clock, CursorRecord, EncodedMessage, EncodedPage, EntityId, Epoch, FencingToken,
    Layer, Publisher, Subscriber,
};
use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};

use self::block::Prepared;
use self::cache::Cache;
use self::queue::{Queue, Request, Shared, closed};
use self::store::Store;
use self::subscriber::EmbeddedSubscriber;
use self::topic::Topic;
use crate::{Bus, BusSettings, BusStats, Mark, Tenant, TopicStats};

/// How many pages may wait for the writer.
const MAX_WAITING_PAGES: usize = 256;
/// How long the writer may take before a publisher stops believing in it.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);
/// Pages up to this size are compressed where they are: handing them over would cost more.
const SMALL_PAGE_BYTES: usize = 16 << 10;

/// A durable log in one folder. Only one process may have it open.
///
/// After a failed write or fsync every further publish is refused until the bus is opened anew:
/// nobody knows what the disk holds then. Reading goes on.
pub struct EmbeddedBus {
    shared: Arc<Shared>,
    waiting: Arc<Semaphore>,
    writer: Mutex<Option<writer::Running>>,
}

impl EmbeddedBus {
    /// Opens the folder at `path`, creating it if it is not there. A torn tail that a kill or a
    /// power cut left is dropped, with a warning; nothing in it was acknowledged.
    ///
    /// [`BusError::Unavailable`] if another process has it open, [`BusError::Corrupt`] if it
    /// cannot be read. Blocks the thread while the newest journal is replayed.
    pub fn open(
        path: &Path,
        settings: BusSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, BusError> {
        let (store, topics) = Store::open(path)?;
        let topics = topics.into_iter().map(|t| (t.id.clone(), Arc::new(t))).collect();
        let shared = Arc::new(Shared {
            store,
            cache: Cache::new(settings.cache_bytes),
            settings,
            clock,
            topics: RwLock::new(topics),
            creating: Mutex::default(),
            queue: Queue::default(),
            group_commits: AtomicU64::default(),
            pages: AtomicU64::default(),
        });
        let writer = writer::start(Arc::clone(&shared))
            .map_err(|e| BusError::Unavailable(format!("the bus has no writer: {e}")))?;
        Ok(Arc::new(Self {
            shared,
            waiting: Arc::new(Semaphore::new(MAX_WAITING_PAGES)),
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// Writes what waits, and takes nothing more. The folder is free again when the bus and all
    /// its subscribers are dropped.
    pub async fn close(&self) {
        self.shared.stop();
        let writer = self.take_writer();
        let joined = tokio::task::spawn_blocking(move || writer.map(writer::Running::join)).await;
        if let Err(error) = joined {
            tracing::error!(%error, "the bus could not wait for its writer");
        }
    }

    /// Removes what retention no longer keeps, now instead of within a second, and returns when
    /// that is done.
    pub async fn retain(&self) {
        let closed = self.shared.queue.retain().await;
        debug_assert!(closed.is_err(), "the writer answers by closing the channel");
    }

    /// The bus as a whole.
    pub fn stats(&self) -> Result<BusStats, BusError> {
        Ok(BusStats {
            cache_bytes: self.shared.cache.bytes() as u64,
            disk_bytes: self.shared.store.disk_bytes()?,
            group_commits: self.shared.group_commits.load(Ordering::Relaxed),
            pages: self.shared.pages.load(Ordering::Relaxed),
        })
    }

    /// All topics, in the order of their names.
    pub fn topic_stats(&self) -> Vec<TopicStats> {
        let mut stats: Vec<TopicStats> = {
            let topics = self.shared.topics.read().unwrap_or_else(PoisonError::into_inner);
            topics.values().map(|t| t.stats()).collect()
        };
        stats.sort_by(|a, b| a.topic.cmp(&b.topic));
        stats
    }

    /// Loses the block of a message, as a fault of the disk would.
    ///
    /// [`BusError::Corrupt`] if there is no such topic.
    #[cfg(feature = "testkit")]
    pub fn lose_block(&self, topic: &EntityId, offset: u64) -> Result<(), BusError> {
        let known = self.shared.known(topic);
        let known = known.ok_or_else(|| BusError::Corrupt(format!("there is no topic {topic}")))?;
        self.shared.store.lose_block(known.number, offset)
    }

    /// The topic, created durably if it is not there.
    async fn topic(&self, id: &EntityId) -> Result<Arc<Topic>, BusError> {
        if let Some(topic) = self.shared.known(id) {
            return Ok(topic);
        }
        // It goes on to its end also if the caller does not: a number is never given to two topics.
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        blocking(move || shared.create(&id)).await
    }

    fn check_sizes(&self, page: &EncodedPage) -> Result<(), BusError> {
        let limit = self.shared.settings.max_message_bytes.min(u32::MAX as usize);
        let sizes = page.messages.iter().map(block::size);
        match sizes.enumerate().find(|(_, size)| *size > limit) {
            Some((at, size)) => Err(BusError::TooLarge { size, limit, message: Some(at) }),
            None => Ok(()),
        }
    }

    fn take_writer(&self) -> Option<writer::Running> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for EmbeddedBus {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(writer) = self.take_writer() {
            writer.join();
        }
    }
}

#[async_trait]
impl Publisher for EmbeddedBus {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        self.check_sizes(&page)?;
        let topic = self.topic(topic).await?;
        let room = if page.messages.is_empty() {
            None
        } else {
            let _turn = topic.turn.lock().await;
            Some(self.shared.room(&topic, page.bytes() as u64).await?)
        };
        let messages = prepare(page.messages).await?;
        let place = Arc::clone(&self.waiting).acquire_owned().await;
        let place = place.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Request { topic, messages, cursor, reply, room, place })?;
        match tokio::time::timeout(WRITE_PATIENCE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(BusError::Unavailable("the bus's writer has stopped".to_owned())),
            Err(_) => Err(BusError::Unavailable(format!(
                "the disk has not taken a page for {} s; it may still become durable",
                WRITE_PATIENCE.as_secs()
            ))),
        }
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        Ok(self.shared.known(topic).and_then(|t| t.tip().cursor))
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        let topic = self.topic(topic).await?;
        Ok((topic.epoch, topic.tip().end))
    }
}

#[async_trait]
impl Subscribe for EmbeddedBus {
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        _: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        let topic = self.topic(topic).await?;
        Ok(Box::new(EmbeddedSubscriber::new(Arc::clone(&self.shared), topic, layer)))
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn is_shared(&self) -> bool {
        false
    }

    fn topic_stats(&self) -> Vec<TopicStats> {
        self.topic_stats()
    }

    async fn topics(&self) -> Result<Vec<EntityId>, BusError> {
        Ok(self.topic_stats().into_iter().map(|stats| stats.topic).collect())
    }

    async fn mark(&self) -> Result<Option<Mark>, BusError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.store.mark()).await
    }

    async fn put_mark(&self, mark: &Mark, before: Option<&Mark>) -> Result<bool, BusError> {
        let (shared, mark) = (Arc::clone(&self.shared), mark.clone());
        let before = before.cloned();
        blocking(move || shared.store.put_mark(&mark, before.as_ref())).await
    }

    async fn tenant(&self) -> Result<Option<Tenant>, BusError> {
        Ok(None)
    }

    async fn put_tenant(&self, _: &Tenant) -> Result<(), BusError> {
        Ok(())
    }

    async fn rest(&self, _: &EntityId) {}

    async fn audit(&self, _: &str, _: &str, _: Vec<u8>) -> Result<bool, BusError> {
        Ok(false)
    }

    async fn close(&self) {
        self.close().await;
    }
}

/// Compresses a page's messages, on as many threads as the machine has cores.
async fn prepare(messages: Vec<EncodedMessage>) -> Result<Vec<Prepared>, BusError> {
    if messages.iter().map(block::size).sum::<usize>() <= SMALL_PAGE_BYTES {
        return messages.into_iter().map(block::prepare).collect();
    }
    in_parallel(messages, |part| part.into_iter().map(block::prepare).collect()).await
}

/// Does `work` on stretches of `items` on the threads for blocking work, keeping their order.
async fn in_parallel<T, R>(
    mut items: Vec<T>,
    work: impl Fn(Vec<T>) -> Result<Vec<R>, BusError> + Clone + Send + 'static,
) -> Result<Vec<R>, BusError>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let stretch = items.len().div_ceil(threads).max(1);
    let mut parts = Vec::with_capacity(threads);
    while !items.is_empty() {
        let rest = items.split_off(stretch.min(items.len()));
        let (part, work) = (std::mem::replace(&mut items, rest), work.clone());
        parts.push(tokio::task::spawn_blocking(move || work(part)));
    }
    let mut done = Vec::new();
    for part in parts {
        done.extend(part.await.map_err(|e| stopped(&e))??);
    }
    Ok(done)
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, BusError> + Send + 'static,
) -> Result<R, BusError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| stopped(&e))?
}

fn stopped(error: &tokio::task::JoinError) -> BusError {
    BusError::Unavailable(format!("the bus was interrupted: {error}"))
}

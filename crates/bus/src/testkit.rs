//! Publishers that fail as a test tells them to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{BusError, CursorRecord, EncodedPage, EntityId, Epoch, Publisher};
use async_trait::async_trait;
use tokio::sync::oneshot;

/// What goes wrong with one call of `publish`.
#[derive(Debug)]
pub enum Fault {
    /// It is refused, and nothing is written.
    Reject(BusError),
    /// It waits until the [`Release`] is used or dropped, then is written.
    Hold(oneshot::Receiver<()>),
    /// It is written after so long.
    Slow(Duration),
    /// It is written, but failure is reported.
    FailAfterWrite,
}

impl Fault {
    /// A fault that holds a page back, and what lets it go.
    pub fn hold() -> (Self, Release) {
        let (release, held) = oneshot::channel();
        (Self::Hold(held), Release(release))
    }
}

/// Lets a held page go.
#[derive(Debug)]
pub struct Release(oneshot::Sender<()>);

impl Release {
    /// Lets it go; whether it was still waiting.
    pub fn release(self) -> bool {
        self.0.send(()).is_ok()
    }
}

/// A publisher that passes everything on to another one, except where its script has a fault.
pub struct ScriptedPublisher {
    inner: Arc<dyn Publisher>,
    script: Mutex<VecDeque<Option<Fault>>>,
}

impl fmt::Debug for ScriptedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedPublisher").field("script", &*self.script()).finish_non_exhaustive()
    }
}

impl ScriptedPublisher {
    /// A publisher with an empty script.
    pub fn over(inner: Arc<dyn Publisher>) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// The next page that has none yet meets `fault`.
    pub fn fault(&self, fault: Fault) {
        self.script().push_back(Some(fault));
    }

    /// The next page that has no fault yet passes.
    pub fn pass(&self) {
        self.script().push_back(None);
    }

    fn script(&self) -> MutexGuard<'_, VecDeque<Option<Fault>>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publisher for ScriptedPublisher {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        let fault = self.script().pop_front().flatten();
        let fails_after_write = matches!(fault, Some(Fault::FailAfterWrite));
        match fault {
            Some(Fault::Reject(error)) => return Err(error),
            Some(Fault::Hold(held)) => {
                if held.await.is_err() {
                    tracing::debug!("a page was let go by dropping its release");
                }
            }
            Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
            Some(Fault::FailAfterWrite) | None => {}
        }
        let published = self.inner.publish(topic, page, cursor).await?;
        if fails_after_write {
            return Err(BusError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(published)
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        self.inner.cursor(topic).await
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        self.inner.end(topic).await
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

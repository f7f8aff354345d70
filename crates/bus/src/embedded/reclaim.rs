//! The thread that gives back the disk space of removed blocks.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::queue::Shared;

/// The thread, of which there is never more than one.
#[derive(Default)]
pub(super) struct Reclaim {
    thread: Option<JoinHandle<()>>,
}

impl Reclaim {
    /// Whether it was started: not while an earlier one still runs.
    pub(super) fn start(&mut self, shared: &Arc<Shared>) -> bool {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        self.join();
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("bus-reclaim".to_owned()).spawn(move || {
            if let Err(error) = shared.store.reclaim(|| shared.queue.is_stopping()) {
                tracing::warn!(%error, "the bus could not give disk space back");
            }
        });
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "the bus could not give disk space back"),
        }
        true
    }

    /// Waits until it has ended.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("giving disk space back ended in a panic");
        }
    }
}

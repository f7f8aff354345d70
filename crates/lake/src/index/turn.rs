//! Who may bring an index to another version: whoever lands batches, and while nobody does, who
//! stands by and follows the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// What all handles of one entity's index have in common.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// So many land batches: one, but for the moment in which another one takes over.
    writers: AtomicUsize,
    following: Arc<Mutex<()>>,
}

/// The right to write an index, which ends when this is dropped.
#[derive(Debug)]
pub struct Writer(Arc<Turn>);

/// The right to follow the table, which ends when this is dropped.
#[derive(Debug)]
pub struct Follower {
    _turn: OwnedMutexGuard<()>,
}

impl Turn {
    /// Takes the index for who lands batches, when nobody follows any more.
    pub(super) async fn write(self: &Arc<Self>) -> Writer {
        self.writers.fetch_add(1, Ordering::SeqCst);
        let writer = Writer(Arc::clone(self));
        drop(self.following.lock().await);
        writer
    }

    /// Takes it for who follows; `None` while somebody lands batches.
    pub(super) async fn follow(&self) -> Option<Follower> {
        let turn = Arc::clone(&self.following).lock_owned().await;
        (self.writers.load(Ordering::SeqCst) == 0).then_some(Follower { _turn: turn })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_follows_while_somebody_writes() {
        let turn = Arc::new(Turn::default());
        let follower = turn.follow().await.unwrap();
        let theirs = Arc::clone(&turn);
        let writer = tokio::spawn(async move { theirs.write().await });
        while turn.writers.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!writer.is_finished(), "who follows comes to an end first");
        drop(follower);
        let (first, second) = (writer.await.unwrap(), turn.write().await);
        assert!(turn.follow().await.is_none());
        drop(first);
        assert!(turn.follow().await.is_none());
        drop(second);
        assert!(turn.follow().await.is_some());
    }
}

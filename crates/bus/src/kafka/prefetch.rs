//! What readers hold in memory of what nobody has asked for yet.
//!
//! Each layer of each entity has a reader of its own, with a queue of its own. All of them share one
//! amount: the more there are, the less each fetches ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all readers of a process may fetch ahead, in bytes.
const TOTAL: usize = 128 << 20;
/// What one reader may fetch ahead, though there are few.
const MOST: usize = 16 << 20;
/// What each may, though there are many.
const LEAST: usize = 256 << 10;

/// How many readers there are.
#[derive(Default, Clone)]
pub(super) struct Prefetch {
    readers: Arc<AtomicUsize>,
}

/// That a reader is there, until it is dropped.
pub(super) struct Part {
    readers: Arc<AtomicUsize>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Prefetch {
    /// One more reader.
    pub(super) fn part(&self) -> Part {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Part { readers: Arc::clone(&self.readers) }
    }
}

impl Part {
    /// What this reader may fetch ahead now, in bytes.
    pub(super) fn bytes(&self) -> usize {
        (TOTAL / self.readers.load(Ordering::Relaxed).max(1)).clamp(LEAST, MOST)
    }
}

/// What a reader may fetch ahead that is the only one.
pub(super) const ALONE: usize = MOST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_readers_there_are_the_less_each_fetches_ahead() {
        let prefetch = Prefetch::default();
        let first = prefetch.part();
        assert_eq!(first.bytes(), MOST);
        let others: Vec<Part> = (0..31).map(|_| prefetch.part()).collect();
        assert_eq!(first.bytes(), TOTAL / 32);
        let more: Vec<Part> = (0..5000).map(|_| prefetch.part()).collect();
        assert_eq!(first.bytes(), LEAST);
        drop((others, more));
        assert_eq!(first.bytes(), MOST);
    }
}

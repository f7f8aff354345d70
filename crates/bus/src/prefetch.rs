//! What readers hold in memory of what nobody has asked for yet, where another machine sends it.
//!
//! Each layer of each entity has a reader of its own, with a queue of its own. All of them share one
//! amount: the more there are, the less each fetches ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all readers of a process may fetch ahead, in bytes.
const TOTAL: usize = 128 << 20;

/// How many readers there are, and what one of them may fetch ahead.
#[derive(Debug, Clone)]
pub(crate) struct Prefetch {
    readers: Arc<AtomicUsize>,
    least: usize,
    most: usize,
}

/// That a reader is there, until it is dropped.
#[derive(Debug)]
pub(crate) struct Part(Prefetch);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Prefetch {
    /// Of no reader yet. One may fetch `least` bytes ahead, though there are many, and `most`,
    /// though there are few.
    pub(crate) fn new(least: usize, most: usize) -> Self {
        Self { readers: Arc::default(), least, most }
    }

    /// One more reader.
    pub(crate) fn part(&self) -> Part {
        self.readers.fetch_add(1, Ordering::Relaxed);
        Part(self.clone())
    }
}

impl Part {
    /// What this reader may fetch ahead now, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let Prefetch { readers, least, most } = &self.0;
        (TOTAL / readers.load(Ordering::Relaxed).max(1)).clamp(*least, *most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_readers_there_are_the_less_each_fetches_ahead() {
        let (least, most) = (256 << 10, 16 << 20);
        let prefetch = Prefetch::new(least, most);
        let first = prefetch.part();
        assert_eq!(first.bytes(), most);
        let others: Vec<Part> = (0..31).map(|_| prefetch.part()).collect();
        assert_eq!(first.bytes(), TOTAL / 32);
        let more: Vec<Part> = (0..5000).map(|_| prefetch.part()).collect();
        assert_eq!(first.bytes(), least);
        drop((others, more));
        assert_eq!(first.bytes(), most);
    }
}

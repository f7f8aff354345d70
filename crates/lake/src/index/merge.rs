//! When the tables of the keys' states are merged.
//!
//! Batches replace random keys, so that merging anything means merging everything. Done level by
//! level as in other stores, each replaced state would be written again about ten times in an index
//! of ten million keys, and twice in one of a hundred thousand. Merged as a whole, whenever what
//! was added weighs as much as what was there, it is written again a few times at any size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fjall::Keyspace;

use super::error::IndexError;

/// The strategy's threshold at which nothing is merged unasked.
pub(super) const BY_HAND: u8 = u8::MAX;
/// Fewer tables than these are not worth merging.
const FEW: usize = 4;
/// More are not let come together: a lookup asks each, and from 20 on the store slows its writers.
const MANY: usize = 16;
/// Who adds some past the journal waits from so many on while they are merged.
const FAR: usize = 24;
/// So long, before it looks again.
const AGAIN: Duration = Duration::from_millis(10);

/// Whether the states of an entity are being merged, and how large they were after the last time.
/// All who have its index open share one: two would merge everything twice.
pub(super) struct Merging {
    at_work: AtomicBool,
    merged_bytes: AtomicU64,
}

/// Somebody merges, until this is dropped.
struct AtWork(Arc<Merging>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.store(false, Ordering::Release);
    }
}

impl Merging {
    /// Of states whose tables in memory go to the disk at `memtable` bytes.
    pub(super) fn of(states: &Keyspace, memtable: u64) -> Self {
        let added = memtable * states.l0_table_count() as u64;
        let merged_bytes = states.disk_space().saturating_sub(added).into();
        Self { at_work: AtomicBool::default(), merged_bytes }
    }

    /// Begins to merge beside everything else, if it is due. A process that ends meanwhile leaves
    /// the tables as they were.
    pub(super) fn begin_if_due(self: &Arc<Self>, states: &Keyspace) {
        if !self.is_due(states) || self.at_work.swap(true, Ordering::AcqRel) {
            return;
        }
        let (merging, states) = (Arc::clone(self), states.clone());
        let merge = move || {
            // Also where it breaks down.
            let merging = AtWork(merging);
            if let Err(error) = merging.0.merge(&states) {
                tracing::warn!(%error, "the key index could not be merged; it is tried again");
            }
        };
        let begun = std::thread::Builder::new().name("key-index-merge".to_owned()).spawn(merge);
        if let Err(error) = begun {
            tracing::warn!(%error, "the key index could not be merged");
            self.at_work.store(false, Ordering::Release);
        }
    }

    /// Waits for who merges while so many tables have come together meanwhile that lookups would
    /// suffer: what goes in past the journal is held up by nobody else. Blocks.
    pub(super) fn wait_if_far_behind(&self, states: &Keyspace) {
        while states.l0_table_count() >= FAR && self.at_work.load(Ordering::Acquire) {
            std::thread::sleep(AGAIN);
        }
    }

    /// Merges now.
    pub(super) fn merge(&self, states: &Keyspace) -> Result<(), IndexError> {
        states.major_compact()?;
        self.merged_bytes.store(states.disk_space(), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn is_due(&self, states: &Keyspace) -> bool {
        let tables = states.l0_table_count();
        let merged = self.merged_bytes.load(Ordering::Relaxed);
        tables >= MANY || (tables >= FEW && states.disk_space() >= 2 * merged)
    }
}

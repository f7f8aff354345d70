//! States of many keys on their way into the index: past its journal, sorted, where they are many.

use alluvium_lake::index::{CurrentEntry, IndexError, IndexUpdate, KeyIndex};

/// From so many keys on, their states go into the index in bulk.
const MANY: usize = 20_000;
/// So many bytes of them are held in memory by who brings them piece by piece.
const FULL: usize = 32 << 20;

/// The states of keys, each once.
#[derive(Default)]
pub(super) struct Bulk {
    bytes: Vec<u8>,
    /// The keys, and where their entries begin.
    keys: Vec<(u128, usize)>,
    /// Whether some went into the index already, which fits no version of the table since.
    begun: bool,
}

impl Bulk {
    pub(super) fn push(&mut self, key: u128, entry: &CurrentEntry<'_>) {
        self.keys.push((key, self.bytes.len()));
        entry.put(&mut self.bytes);
    }

    /// Makes room for so many keys in all, by what the entries take that are here.
    pub(super) fn reserve(&mut self, keys: usize) {
        let more = keys.saturating_sub(self.keys.len());
        self.keys.reserve(more);
        self.bytes.reserve(more * self.bytes.len() / self.keys.len().max(1));
    }

    /// Writes them if they take much memory. The index then fits no version of the table until the
    /// [`IndexUpdate::finish`] that must follow.
    pub(super) fn write_if_full(&mut self, index: &KeyIndex) -> Result<(), IndexError> {
        if self.bytes.len() >= FULL { self.write(index) } else { Ok(()) }
    }

    /// Puts what is left into the index, or into the update if that is little.
    pub(super) fn put(
        mut self,
        index: &KeyIndex,
        update: &mut IndexUpdate,
    ) -> Result<(), IndexError> {
        if self.begun || self.keys.len() >= MANY {
            return self.write(index);
        }
        self.entries().for_each(|(key, entry)| update.current(key, entry));
        Ok(())
    }

    fn write(&mut self, index: &KeyIndex) -> Result<(), IndexError> {
        self.begun = true;
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        order.sort_unstable_by_key(|at| self.keys[*at as usize].0);
        let entries = order.into_iter().filter_map(|at| self.entry(at as usize));
        index.bulk_current(entries)?;
        self.bytes.clear();
        self.keys.clear();
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = (u128, &[u8])> {
        (0..self.keys.len()).filter_map(|at| self.entry(at))
    }

    fn entry(&self, at: usize) -> Option<(u128, &[u8])> {
        let (key, begin) = *self.keys.get(at)?;
        let end = self.keys.get(at + 1).map_or(self.bytes.len(), |(_, begin)| *begin);
        Some((key, self.bytes.get(begin..end)?))
    }
}

//! States of many keys on their way into the index: past its journal, sorted, where they are many.

use alluvium_lake::index::{CurrentEntry, IndexError, IndexUpdate, KeyIndex};

/// From so many keys on, their states go into the index in bulk.
const MANY: usize = 20_000;
/// So many bytes of them are held in memory by who brings them piece by piece.
const FULL: usize = 32 << 20;

/// The states of keys. Of one that comes twice (as where another program has doubled a row) the last
/// counts.
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
        if self.keys.is_empty() {
            return Ok(());
        }
        let key = |at: &usize| self.keys[*at].0;
        let mut order: Vec<usize> = (0..self.keys.len()).rev().collect();
        order.sort_by_key(key);
        order.dedup_by_key(|at| key(at));
        index.bulk_current(order.into_iter().filter_map(|at| self.entry(at)))?;
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

#[cfg(test)]
mod tests {
    use alluvium_lake::index::IndexStore;
    use alluvium_lake::table::Mark;

    use super::*;

    #[test]
    fn keys_come_in_any_order_and_of_one_that_comes_twice_the_last_counts() {
        let folder = tempfile::tempdir().unwrap();
        let store = IndexStore::open(folder.path()).unwrap();
        for count in [5, MANY as u128 + 5] {
            let index = store.entity(&format!("shop.orders{count}").parse().unwrap()).unwrap();
            let (mut bulk, mut update) = (Bulk::default(), index.update());
            let keys = (0..count).rev().map(|key| (key, b"first")).chain([(3, b"again")]);
            for (key, known) in keys {
                let entry = CurrentEntry { known, read: false, completed: false, open: None };
                bulk.push(key, &entry);
            }
            bulk.put(&index, &mut update).unwrap();
            update.finish(&Mark::of(1, b"entry"), "").unwrap();
            assert_eq!(index.keys().unwrap() as u128, count);
            let entries = index.current(&[2, 3, 4]).unwrap();
            let known = |at: usize| {
                CurrentEntry::parse(entries[at].as_deref().unwrap()).unwrap().known.to_vec()
            };
            assert_eq!(
                (known(0), known(1), known(2)),
                (b"first".to_vec(), b"again".to_vec(), b"first".to_vec())
            );
        }
    }
}

//! Alterations of an index, of which all take effect or none.

use fjall::OwnedWriteBatch;

use super::entry::{HiddenEntry, VersionEntry};
use super::error::IndexError;
use super::reflects::{Reflects, STATE};
use super::store::KeyIndex;
use crate::table::Mark;

/// Alterations that take effect together.
pub struct IndexUpdate {
    pub(super) index: KeyIndex,
    pub(super) batch: OwnedWriteBatch,
    buffer: Vec<u8>,
}

impl KeyIndex {
    /// Begins a set of alterations that take effect together.
    pub fn update(&self) -> IndexUpdate {
        IndexUpdate { index: self.clone(), batch: self.database.batch(), buffer: Vec::new() }
    }
}

impl IndexUpdate {
    /// Sets the state of a key: the bytes of a [`super::CurrentEntry`].
    pub fn current(&mut self, key: u128, entry: &[u8]) {
        self.batch.insert(&self.index.current, key.to_be_bytes(), entry);
    }

    /// Adds or replaces a closed version.
    pub fn closed(&mut self, key: u128, entry: &VersionEntry<'_>) {
        self.buffer.clear();
        entry.put(&mut self.buffer);
        let place = [key.to_be_bytes().as_slice(), entry.opener].concat();
        self.batch.insert(&self.index.history, place, self.buffer.as_slice());
    }

    /// Removes the closed version of `key` that was opened at `opener`.
    pub fn remove_closed(&mut self, key: u128, opener: &[u8]) {
        let place = [key.to_be_bytes().as_slice(), opener].concat();
        self.batch.remove(&self.index.history, place);
    }

    /// Adds a hidden event.
    pub fn hidden(&mut self, key: u128, entry: &HiddenEntry<'_>) {
        self.buffer.clear();
        entry.put(&mut self.buffer);
        self.batch.insert(&self.index.hidden, hidden_place(key, entry), self.buffer.as_slice());
    }

    /// Removes a hidden event that a version shows now.
    pub fn remove_hidden(&mut self, key: u128, entry: &HiddenEntry<'_>) {
        self.batch.remove(&self.index.hidden, hidden_place(key, entry));
    }

    /// Sets what is known of the entity as a whole.
    pub fn whole(&mut self, state: &str) {
        self.batch.insert(&self.index.meta, "entity", state);
    }

    /// Gives a name its number.
    pub fn name(&mut self, id: u32, name: &str) {
        self.batch.insert(&self.index.names, id.to_be_bytes(), name);
    }

    /// How many alterations there are.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Writes what has been collected so far without saying which table version it makes: until
    /// [`IndexUpdate::finish`], a restart finds an index that fits no version, and rebuilds it.
    pub fn write_part(&mut self) -> Result<(), IndexError> {
        let batch = std::mem::replace(&mut self.batch, self.index.database.batch());
        batch.commit()?;
        // Nobody else does, and in the end the store would take no more.
        self.index.merging.begin_if_due(&self.index.current);
        Ok(())
    }

    /// Makes all of it the index's state, which now reflects `mark` with these columns.
    pub fn finish(mut self, mark: &Mark, columns: &str) -> Result<(), IndexError> {
        let state = Reflects { mark: mark.clone(), columns: columns.to_owned() }.write()?;
        self.batch.insert(&self.index.meta, STATE, state);
        self.batch.commit()?;
        self.index.merging.begin_if_due(&self.index.current);
        Ok(())
    }
}

fn hidden_place(key: u128, entry: &HiddenEntry<'_>) -> Vec<u8> {
    let mut place = key.to_be_bytes().to_vec();
    entry.place(&mut place);
    place
}

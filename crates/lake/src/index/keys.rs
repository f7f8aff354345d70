//! The index key by key: all that it holds of each, in the order of the keys.

use fjall::{Guard, Keyspace, Slice};

use super::error::IndexError;
use super::store::KeyIndex;
use super::update::IndexUpdate;

/// All that the index holds of one key.
#[derive(Debug, Default)]
pub struct KeyEntries {
    /// The key.
    pub key: u128,
    /// Its state, to be read with [`super::CurrentEntry::parse`].
    pub current: Option<Slice>,
    /// Its closed versions, to be read with [`super::VersionEntry::parse`].
    pub closed: Vec<Slice>,
    /// Its hidden events, to be read with [`super::HiddenEntry::parse`].
    pub hidden: Vec<Slice>,
}

impl KeyEntries {
    fn len(&self) -> usize {
        usize::from(self.current.is_some()) + self.closed.len() + self.hidden.len()
    }
}

impl KeyIndex {
    /// The keys from `from` on, ascending, until they have `limit` entries; and the key to go on
    /// with, if there are more.
    pub fn keys_from(
        &self,
        from: u128,
        limit: usize,
    ) -> Result<(Vec<KeyEntries>, Option<u128>), IndexError> {
        let part = |part: &Keyspace| part.range(from.to_be_bytes().as_slice()..);
        let mut current = Entries::of(part(&self.current));
        let mut history = Entries::of(part(&self.history));
        let mut hidden = Entries::of(part(&self.hidden));
        let (mut keys, mut entries) = (Vec::new(), 0);
        loop {
            let next = [current.key()?, history.key()?, hidden.key()?].into_iter().flatten().min();
            let Some(key) = next.filter(|_| entries < limit) else { return Ok((keys, next)) };
            let of_key = KeyEntries {
                key,
                current: current.take(key)?.pop(),
                closed: history.take(key)?,
                hidden: hidden.take(key)?,
            };
            entries += of_key.len();
            keys.push(of_key);
        }
    }
}

impl IndexUpdate {
    /// Forgets the state of a key.
    pub fn forget_key(&mut self, key: u128) {
        self.batch.remove(&self.index.current, key.to_be_bytes());
    }
}

/// Entries of one kind, of which the next one has been read.
struct Entries<I: Iterator<Item = Guard>> {
    rest: I,
    next: Option<(u128, Slice)>,
}

impl<I: Iterator<Item = Guard>> Entries<I> {
    fn of(rest: I) -> Self {
        Self { rest, next: None }
    }

    /// The key of the next entry.
    fn key(&mut self) -> Result<Option<u128>, IndexError> {
        if self.next.is_none() {
            self.next = self.rest.next().map(read).transpose()?;
        }
        Ok(self.next.as_ref().map(|(key, _)| *key))
    }

    /// Takes the entries of a key.
    fn take(&mut self, key: u128) -> Result<Vec<Slice>, IndexError> {
        let mut taken = Vec::new();
        while self.key()? == Some(key) {
            taken.extend(self.next.take().map(|(_, value)| value));
        }
        Ok(taken)
    }
}

fn read(entry: Guard) -> Result<(u128, Slice), IndexError> {
    let (place, value) = entry.into_inner()?;
    let key = place.first_chunk().ok_or(IndexError::Damaged)?;
    Ok((u128::from_be_bytes(*key), value))
}

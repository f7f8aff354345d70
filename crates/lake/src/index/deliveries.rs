//! Which deliveries the index has met, of an entity whose records are known by them: where the
//! records of each stand. So what comes in a delivery that is new needs no looking up, and what does
//! not is looked for no further back than it can stand.

use super::error::IndexError;
use super::store::KeyIndex;
use super::update::IndexUpdate;

/// What the entries of deliveries begin with, before the delivery's number.
const PREFIX: &[u8] = b"delivery/";
/// So many are forgotten at a time.
const PART: usize = 50_000;

/// From which place of an entity's order to which the records of a delivery stand. All places of an
/// entity have the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The first place.
    pub first: Vec<u8>,
    /// The last one.
    pub last: Vec<u8>,
}

impl Stretch {
    /// That of one place.
    pub fn at(place: &[u8]) -> Self {
        Self { first: place.to_vec(), last: place.to_vec() }
    }

    /// Reaches to another place.
    pub fn reach(&mut self, place: &[u8]) {
        if place < self.first.as_slice() {
            self.first = place.to_vec();
        }
        if place > self.last.as_slice() {
            self.last = place.to_vec();
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        let (first, last) = bytes.split_at(bytes.len() / 2);
        Self { first: first.to_vec(), last: last.to_vec() }
    }
}

impl KeyIndex {
    /// Where the records of a delivery stand; `None` if it has never been met.
    pub fn delivery(&self, number: u64) -> Result<Option<Stretch>, IndexError> {
        let bytes = self.meta.get(entry(number))?;
        Ok(bytes.map(|bytes| Stretch::parse(&bytes)))
    }

    /// Forgets the deliveries of which all stands before a place.
    pub fn forget_deliveries(&self, before: &[u8]) -> Result<(), IndexError> {
        let mut update = self.update();
        for stands in self.meta.prefix(PREFIX) {
            let (place, bytes) = stands.into_inner()?;
            if Stretch::parse(&bytes).last.as_slice() < before {
                update.batch.remove(&self.meta, place);
            }
            if update.len() >= PART {
                update.write_part()?;
            }
        }
        if update.is_empty() { Ok(()) } else { update.write_part() }
    }
}

impl IndexUpdate {
    /// Sets where the records of a delivery stand.
    pub fn delivery(&mut self, number: u64, stretch: &Stretch) {
        let bytes = [stretch.first.as_slice(), &stretch.last].concat();
        self.batch.insert(&self.index.meta, entry(number), bytes);
    }
}

fn entry(number: u64) -> Vec<u8> {
    [PREFIX, &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::IndexStore;
    use crate::table::Mark;

    #[test]
    fn deliveries_are_forgotten_once_all_of_them_stands_before_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = IndexStore::open(dir.path()).unwrap();
        let index = store.entity(&"shop.orders".parse().unwrap()).unwrap();
        let mut long = Stretch::at(b"c");
        long.reach(b"a");
        long.reach(b"d");
        let mut update = index.update();
        update.delivery(1, &long);
        update.delivery(2, &Stretch::at(b"b"));
        update.delivery(u64::MAX, &Stretch::at(b"c"));
        let mark = Mark::of(1, b"entry");
        update.finish(&mark, "columns").unwrap();
        let known = || [1, 2, u64::MAX, 3].map(|number| index.delivery(number).unwrap());
        assert_eq!(
            known(),
            [
                Some(Stretch { first: b"a".to_vec(), last: b"d".to_vec() }),
                Some(Stretch::at(b"b")),
                Some(Stretch::at(b"c")),
                None
            ]
        );
        index.forget_deliveries(b"c").unwrap();
        assert_eq!(known().map(|stretch| stretch.is_some()), [true, false, true, false]);
        assert!(index.reflects().unwrap().is_some_and(|reflects| reflects.mark.is(&mark)));
        index.clear().unwrap();
        assert_eq!(known().map(|stretch| stretch.is_some()), [false; 4]);
    }
}

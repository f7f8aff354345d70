//! The deliveries that the records of an entity came in, as the index keeps them. Only where the
//! order is that of arrival: all else is known by its sequence.

use std::collections::HashMap;

use alluvium_lake::index::{IndexError, IndexUpdate, KeyIndex, Stretch};

use super::Shape;
use super::gather::Incoming;
use crate::decode::{PLACE, id_of};

/// Deliveries by their hashes, and where records of each stand.
pub(super) struct Deliveries {
    is_by_arrival: bool,
    stretches: HashMap<u64, Stretch>,
}

impl Deliveries {
    /// None so far.
    pub(super) fn of(shape: &Shape) -> Self {
        Self { is_by_arrival: shape.is_by_arrival(), stretches: HashMap::new() }
    }

    /// Those of a batch.
    pub(super) fn of_batch(shape: &Shape, incoming: &Incoming) -> Self {
        let mut deliveries = Self::of(shape);
        for decoded in &incoming.decoded {
            // A message has one place.
            if let Some(row) = decoded.rows.first() {
                deliveries.note(decoded.sequence(row));
            }
        }
        deliveries
    }

    /// Notes the delivery of a record that has this sequence.
    pub(super) fn note(&mut self, sequence: &[u8]) {
        if !self.is_by_arrival {
            return;
        }
        let Some((id, place)) = id_of(sequence).zip(sequence.get(..PLACE)) else { return };
        match self.stretches.get_mut(&id.delivery) {
            Some(stretch) => stretch.reach(place),
            None => {
                self.stretches.insert(id.delivery, Stretch::at(place));
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.stretches.len()
    }

    /// Makes them part of an update, together with what the index knows of them, and forgets them.
    pub(super) fn put(
        &mut self,
        index: &KeyIndex,
        update: &mut IndexUpdate,
    ) -> Result<(), IndexError> {
        for (delivery, mut stretch) in self.stretches.drain() {
            if let Some(known) = index.delivery(delivery)? {
                if known.first <= stretch.first && stretch.last <= known.last {
                    continue;
                }
                stretch.reach(&known.first);
                stretch.reach(&known.last);
            }
            update.delivery(delivery, &stretch);
        }
        Ok(())
    }
}

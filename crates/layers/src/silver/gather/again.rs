//! Records that stand on the topic once more, for their page was published twice. Where the order is
//! that of arrival they have another place in it, and are known by their ids.
//!
//! What is looked up is what may be known: of a message whose delivery has been met, the keys that
//! have events since then. All other keys pass by.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use alluvium_lake::index::{CurrentEntry, HiddenEntry, IndexError, KeyIndex, VersionEntry};
use alluvium_model::{Message, SequencePart};

use super::{Incoming, Place};
use crate::decode::{RecordId, id_of};
use crate::silver::Shape;
use crate::silver::border::Borders;
use crate::silver::late::{Late, micros};

/// The records that are known of a key, and when the bus took each.
type Known = HashMap<RecordId, Option<i64>>;

impl Incoming {
    /// Leaves out the records that were delivered before, and came in time: those that did not are
    /// left out already. Returns how many they are. `borders` learn which of them made one unknown.
    pub(in crate::silver) fn leave_out_known(
        &mut self,
        shape: &Shape,
        late: &Late,
        borders: &mut Borders,
        index: &KeyIndex,
    ) -> Result<u64, IndexError> {
        // What the border that holds has made unknown may be gone already, so that nothing tells of it:
        // the border is part of the result wherever a record came that could have been known.
        for (message, decoded) in self.messages.iter().zip(&self.decoded) {
            if decoded.rows.first().is_some_and(|row| id_of(decoded.sequence(row)).is_some()) {
                borders.refuse(message.epoch, message.offset);
            }
        }
        let met = self.met(index)?;
        let met_at = |place: &Place| met[place.message as usize].as_deref();
        let groups = self.order.chunk_by(|a, b| a.key == b.key);
        let groups: Vec<(&[Place], Option<&[u8]>)> = groups
            .map(|group| (group, group.iter().filter_map(met_at).min()))
            .filter(|(group, met)| group.len() > 1 || met.is_some())
            .collect();
        let mut again: Vec<Place> = Vec::new();
        for (group, met) in groups {
            let mut known = match met {
                Some(since) => known_since(index, group[0].key, since)?,
                None => Known::new(),
            };
            for place in group {
                let (message, decoded, row) = self.row(place.message, place.row);
                let Some(id) = id_of(decoded.sequence(row)) else { continue };
                if let Some(at) = known.get(&id)
                    && is_remembered(*at, late.earliest(shape, place.message), borders, message)
                {
                    again.push(*place);
                } else {
                    known.insert(id, micros(row.at));
                }
            }
        }
        // Both are by key and then by position.
        self.order.retain(|place| again.binary_search(place).is_err());
        Ok(again.iter().filter(|place| place.is_counted()).count() as u64)
    }

    /// Of each message, where its delivery began, if that has been met in a batch before.
    fn met(&self, index: &KeyIndex) -> Result<Vec<Option<Vec<u8>>>, IndexError> {
        let mut deliveries: HashMap<u64, Option<Vec<u8>>> = HashMap::new();
        let mut met = Vec::with_capacity(self.decoded.len());
        for decoded in &self.decoded {
            let first = decoded.rows.first().and_then(|row| id_of(decoded.sequence(row)));
            let Some(RecordId { delivery, .. }) = first else {
                met.push(None);
                continue;
            };
            met.push(match deliveries.entry(delivery) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => {
                    let stretch = index.delivery(delivery)?;
                    new.insert(stretch.map(|stretch| stretch.first)).clone()
                }
            });
        }
        Ok(met)
    }
}

/// Whether a record that the bus took at a time is still known when a message comes, at which records
/// before `earliest` are too late. What is older than the horizon or the border may have been removed,
/// and whether it has been must make no difference. So the horizon is the one by which it is removed:
/// it goes by the newest record, which is newer than the message where the bus's clock was set back.
fn is_remembered(
    at: Option<i64>,
    earliest: Option<i64>,
    borders: &Borders,
    message: &Message,
) -> bool {
    if earliest.is_some_and(|earliest| at < Some(earliest)) {
        return false;
    }
    let removed = borders.at(message.epoch, message.offset);
    removed.is_none_or(|removed| at >= Some(removed))
}

/// The records of a key that the index knows, those among them that stand at a place or behind it.
fn known_since(index: &KeyIndex, key: u128, since: &[u8]) -> Result<Known, IndexError> {
    let mut known = Known::new();
    let current = index.current(&[key])?;
    let Some(bytes) = current.first().and_then(Option::as_ref) else { return Ok(known) };
    let state = CurrentEntry::parse(bytes).ok_or(IndexError::Damaged)?;
    if state.known < since {
        return Ok(known);
    }
    let mut note = |sequence: &[u8], at: SequencePart| {
        if let Some(id) = id_of(sequence) {
            let at = micros(at);
            known.entry(id).and_modify(|known| *known = at.max(*known)).or_insert(at);
        }
    };
    let window = index.window(key, since, state.open.map(|open| open.opener))?;
    let closed = window.closed.iter().map(|bytes| VersionEntry::parse(bytes));
    for version in closed.chain(state.open.map(Some)) {
        let version = version.ok_or(IndexError::Damaged)?;
        note(version.opener, version.opener_at);
        note(version.shown, version.shown_at);
    }
    for bytes in &window.hidden {
        let entry = HiddenEntry::parse(bytes).ok_or(IndexError::Damaged)?;
        note(entry.sequence, entry.at);
    }
    Ok(known)
}

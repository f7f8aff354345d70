//! The rows of a delivery, by key: what came in, and what the index knows of those keys.

mod again;

use std::sync::Arc;

use alluvium_lake::index::{
    CurrentEntry, HiddenEntry, IndexError, KeyIndex, KeyWindow, Slice, VersionEntry,
};
use alluvium_model::{Message, Op, Outcome};
use rayon::prelude::*;

use super::closing::Closings;
use super::known::KnownKey;
use super::late::Late;
use super::plan::{Event, Kind};
use crate::decode::{self, Decoded, Row, RowDecoder};

/// Where the values of an event are to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// In the delivery: the message and the row.
    Incoming(u32, u32),
    /// The row of the delivery that gave up its key.
    Moved(u32, u32),
    /// In a version that stands in the table.
    Version(u32),
    /// With a hidden event.
    Hidden(u32),
    /// It is a closing of the entity, and has none.
    Closing(u32),
}

/// A row of the delivery, as it concerns one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    key: u128,
    message: u32,
    row: u32,
    /// The row had this key before the change, and has it no longer.
    moved: bool,
}

impl Place {
    /// Whether the record's outcome is told with this key.
    pub(super) fn is_counted(&self) -> bool {
        !self.moved
    }
}

/// A delivery's messages and what was decoded from them.
pub(super) struct Incoming {
    pub(super) messages: Vec<Arc<Message>>,
    pub(super) decoded: Vec<Arc<Decoded>>,
    /// By key and then by position.
    order: Vec<Place>,
}

impl Incoming {
    /// Decodes the messages, on all processors, and sorts their rows by key.
    pub(super) fn decode(messages: Vec<Arc<Message>>, decoder: &RowDecoder) -> Self {
        let decoded: Vec<Arc<Decoded>> =
            messages.par_iter().map(|message| decode::shared(message, decoder)).collect();
        let mut order = Vec::with_capacity(decoded.iter().map(|d| d.rows.len()).sum());
        for (message, decoded) in (0u32..).zip(&decoded) {
            for (row, r) in (0u32..).zip(&decoded.rows) {
                order.push(Place { key: r.key, message, row, moved: false });
                order.extend(r.old_key.map(|key| Place { key, message, row, moved: true }));
            }
        }
        order.par_sort_unstable();
        Self { messages, decoded, order }
    }

    /// Leaves out the rows of snapshots that are older than one already applied.
    pub(super) fn skip_older(&mut self, closings: &Closings) -> u64 {
        let mut left_out = 0;
        let Self { order, decoded, .. } = self;
        order.retain(|place| {
            let decoded = &decoded[place.message as usize];
            let row = &decoded.rows[place.row as usize];
            let stays = row.op != Op::Read || !closings.is_older_snapshot(decoded.sequence(row));
            left_out += u64::from(!stays && place.is_counted());
            stays
        });
        left_out
    }

    /// Leaves out the records that come too late.
    pub(super) fn leave_out(&mut self, late: &Late) {
        let Self { order, decoded, .. } = self;
        order.retain(|place| {
            let row = &decoded[place.message as usize].rows[place.row as usize];
            !late.contains(place.message, row.index)
        });
    }

    /// All rows, by key and then by position.
    pub(super) fn places(&self) -> &[Place] {
        &self.order
    }

    /// The row of a message.
    pub(super) fn row(&self, message: u32, row: u32) -> (&Message, &Decoded, &Row) {
        let decoded = &self.decoded[message as usize];
        (&self.messages[message as usize], decoded, &decoded.rows[row as usize])
    }

    /// What was not sent with a row: tags of columns, eight bytes each.
    pub(super) fn unset(&self, source: Source) -> &[u8] {
        match source {
            Source::Incoming(m, r) => {
                let (_, decoded, row) = self.row(m, r);
                decoded.unset(row)
            }
            _ => &[],
        }
    }

    /// A row as an event of the key.
    pub(super) fn event(&self, place: &Place) -> Event<'_, Source> {
        let (m, decoded, row) = self.row(place.message, place.row);
        let (kind, source) = match (place.moved, row.op) {
            (true, _) => (Kind::Delete(None), Source::Moved(place.message, place.row)),
            (false, Op::Delete) => (Kind::Delete(None), Source::Incoming(place.message, place.row)),
            (false, op) => (
                Kind::Upsert { row: row.hashes, says: row.hashes.full, read: op == Op::Read },
                Source::Incoming(place.message, place.row),
            ),
        };
        Event {
            sequence: decoded.sequence(row),
            at: row.at,
            position: m.position(row.index),
            kind,
            source,
        }
    }
}

/// What a batch has to do with one key.
pub(super) struct Work {
    pub(super) key: u128,
    /// Its rows, among [`Incoming::places`].
    pub(super) rows: std::ops::Range<usize>,
    pub(super) current: Option<Slice>,
    pub(super) window: Option<KeyWindow>,
    /// The earliest sequence at which something may be new.
    pub(super) earliest: Vec<u8>,
}

/// All keys that a batch concerns, ascending, with the bytes of what the index knows of them.
pub(super) struct Lookup {
    pub(super) work: Vec<Work>,
}

impl Lookup {
    /// Asks the index for the keys of a batch: their state, and where an event comes late or alters
    /// what a version shows, their history around it. `others` are keys that a new closing of the
    /// entity concerns, which begins at `touched`.
    pub(super) fn load(
        index: &KeyIndex,
        incoming: &Incoming,
        others: Vec<(u128, Slice)>,
        touched: Option<&[u8]>,
    ) -> Result<Self, IndexError> {
        let groups: Vec<&[Place]> = incoming.order.chunk_by(|a, b| a.key == b.key).collect();
        let keys: Vec<u128> = groups.iter().map(|group| group[0].key).collect();
        let current = index.current(&keys)?;
        let mut work = Vec::with_capacity(keys.len() + others.len());
        let mut at = 0;
        for (group, current) in groups.into_iter().zip(current) {
            let rows = at..at + group.len();
            at = rows.end;
            let earliest = group.iter().map(|place| incoming.event(place).sequence).min();
            let earliest = earliest.into_iter().chain(touched).min().unwrap_or_default();
            let window = match &current {
                None => None,
                Some(bytes) => {
                    let state = CurrentEntry::parse(bytes).ok_or(IndexError::Damaged)?;
                    let known = touched.is_none() && all_shown(&state, group, incoming);
                    window(index, group[0].key, &state, earliest, known)?
                }
            };
            let earliest = earliest.to_vec();
            work.push(Work { key: group[0].key, rows, current, window, earliest });
        }
        let mine = work.len();
        for (key, bytes) in others {
            if work[..mine].binary_search_by_key(&key, |work| work.key).is_ok() {
                continue;
            }
            let earliest = touched.unwrap_or_default().to_vec();
            let state = CurrentEntry::parse(&bytes).ok_or(IndexError::Damaged)?;
            let window = window(index, key, &state, &earliest, false)?;
            work.push(Work { key, rows: 0..0, current: Some(bytes), window, earliest });
        }
        if work.len() > mine {
            work.sort_unstable_by_key(|work| work.key);
        }
        Ok(Self { work })
    }

    /// What is known of a key of the batch.
    pub(super) fn known<'a>(
        &'a self,
        work: &'a Work,
        incoming: &Incoming,
    ) -> Result<KnownKey<'a>, IndexError> {
        let Some(bytes) = &work.current else { return Ok(KnownKey::default()) };
        let current = CurrentEntry::parse(bytes).ok_or(IndexError::Damaged)?;
        let mut known = KnownKey::load(current, work.window.as_ref())?;
        let group = &incoming.order[work.rows.clone()];
        known.all_known =
            work.window.is_none() && !group.is_empty() && all_shown(&current, group, incoming);
        Ok(known)
    }
}

/// The key's history from the earliest new event on, unless its state is enough: all that is new is
/// later than all that is known, or is known.
fn window(
    index: &KeyIndex,
    key: u128,
    state: &CurrentEntry<'_>,
    earliest: &[u8],
    all_known: bool,
) -> Result<Option<KeyWindow>, IndexError> {
    if all_known {
        return Ok(None);
    }
    let alters_run = state.open.is_some_and(|open| open.opener != open.shown);
    if !alters_run && !state.completed && earliest > state.known {
        return Ok(None);
    }
    let open = state.open.map(|open| open.opener);
    let mut window = index.window(key, earliest, open)?;
    while let Some(opener) = incomplete(state, &window)? {
        let wider = index.window(key, &opener, open)?;
        let same = wider.closed.len() == window.closed.len();
        if same && wider.hidden.len() == window.hidden.len() {
            break;
        }
        window = wider;
    }
    Ok(Some(window))
}

/// The opener of the window's first version, if its own row is not told by the version and was
/// completed from what came before.
fn incomplete(state: &CurrentEntry<'_>, window: &KeyWindow) -> Result<Option<Vec<u8>>, IndexError> {
    let first = match window.closed.first() {
        Some(bytes) => Some(VersionEntry::parse(bytes).ok_or(IndexError::Damaged)?),
        None => state.open,
    };
    let Some(first) = first.filter(|first| first.opener != first.shown) else { return Ok(None) };
    for bytes in &window.hidden {
        let entry = HiddenEntry::parse(bytes).ok_or(IndexError::Damaged)?;
        if entry.sequence == first.opener && !entry.unset.is_empty() {
            return Ok(Some(first.opener.to_vec()));
        }
    }
    Ok(None)
}

/// Whether all rows are the event that the open version shows.
fn all_shown(state: &CurrentEntry<'_>, group: &[Place], incoming: &Incoming) -> bool {
    let Some(open) = &state.open else { return false };
    group.iter().all(|place| {
        let event = incoming.event(place);
        let Kind::Upsert { says, read, .. } = event.kind else { return false };
        event.sequence == open.shown
            && says == open.hashes.full
            && open.opener_op != Op::Delete
            && read == (open.meta.op == Op::Read)
    })
}

/// The outcome of rows that were left out before planning.
pub(super) const LEFT_OUT: Outcome = Outcome::Stale;

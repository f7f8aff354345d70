//! The rows of a delivery, by key: what came in, and what the index knows of those keys.

use std::sync::Arc;

use alluvium_lake::index::{
    CurrentEntry, HiddenEntry, IndexError, KeyIndex, KeyWindow, Slice, VersionEntry,
};
use alluvium_model::{Message, Op};
use rayon::prelude::*;

use super::plan::{Event, Kind};
use crate::decode::{self, Decoded, Row, RowDecoder};

/// Where the values of an event are to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In the delivery: the message and the row.
    Incoming(u32, u32),
    /// In a version that stands in the table.
    Version(u32),
    /// With a hidden event.
    Hidden(u32),
}

/// A delivery's messages and what was decoded from them.
pub(super) struct Incoming {
    pub(super) messages: Vec<Arc<Message>>,
    pub(super) decoded: Vec<Arc<Decoded>>,
    /// (key, message, row), by key and then by position.
    order: Vec<(u128, u32, u32)>,
}

impl Incoming {
    /// Decodes the messages, on all processors, and sorts their rows by key.
    pub(super) fn decode(messages: Vec<Arc<Message>>, decoder: &RowDecoder) -> Self {
        let decoded: Vec<Arc<Decoded>> =
            messages.par_iter().map(|message| decode::shared(message, decoder)).collect();
        let mut order: Vec<(u128, u32, u32)> = Vec::new();
        for (m, decoded) in (0u32..).zip(&decoded) {
            order.extend((0u32..).zip(&decoded.rows).map(|(r, row)| (row.key, m, r)));
        }
        order.par_sort_unstable();
        Self { messages, decoded, order }
    }

    /// The row of a message.
    pub(super) fn row(&self, message: u32, row: u32) -> (&Message, &Decoded, &Row) {
        let decoded = &self.decoded[message as usize];
        (&self.messages[message as usize], decoded, &decoded.rows[row as usize])
    }

    /// The rows of each key, keys ascending.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[(u128, u32, u32)]> {
        self.order.chunk_by(|a, b| a.0 == b.0)
    }

    /// A row as an event.
    pub(super) fn event(&self, message: u32, row: u32) -> Event<'_, Source> {
        let (m, decoded, r) = self.row(message, row);
        Event {
            sequence: decoded.sequence(r),
            at: r.at,
            position: m.position(r.index),
            kind: match r.op {
                Op::Delete => Kind::Delete,
                _ => Kind::Upsert { tracked: r.tracked, full: r.full },
            },
            source: Source::Incoming(message, row),
        }
    }
}

/// The bytes of what the index knows of the keys of a batch.
pub(super) struct Lookup {
    keys: Vec<u128>,
    current: Vec<Option<Slice>>,
    windows: Vec<Option<KeyWindow>>,
}

/// What is known of one key, borrowed from a [`Lookup`].
#[derive(Default)]
pub(super) struct KnownKey<'a> {
    pub(super) current: Option<CurrentEntry<'a>>,
    /// Versions of the window: closed ones, then the open one.
    pub(super) versions: Vec<VersionEntry<'a>>,
    pub(super) hidden: Vec<HiddenEntry<'a>>,
    /// Whether all incoming rows are the event that the open version shows.
    pub(super) all_known: bool,
}

impl Lookup {
    /// Asks the index for the keys of a batch: their state, and where an event comes late or alters
    /// what a version shows, their history around it.
    pub(super) fn load(index: &KeyIndex, incoming: &Incoming) -> Result<Self, IndexError> {
        let keys: Vec<u128> = incoming.groups().map(|group| group[0].0).collect();
        let current = index.current(&keys)?;
        let mut windows = Vec::with_capacity(keys.len());
        for (entry, group) in current.iter().zip(incoming.groups()) {
            let window = match entry {
                None => None,
                Some(bytes) => {
                    let state = CurrentEntry::parse(bytes).ok_or(IndexError::Damaged)?;
                    match needed(&state, group, incoming) {
                        Some(earliest) => {
                            let open = state.open.map(|open| open.opener);
                            Some(index.window(group[0].0, earliest, open)?)
                        }
                        None => None,
                    }
                }
            };
            windows.push(window);
        }
        Ok(Self { keys, current, windows })
    }

    /// What is known of the `n`-th key of the batch.
    pub(super) fn known<'a>(
        &'a self,
        n: usize,
        group: &[(u128, u32, u32)],
        incoming: &Incoming,
    ) -> Result<KnownKey<'a>, IndexError> {
        let Some(bytes) = &self.current[n] else { return Ok(KnownKey::default()) };
        let current = CurrentEntry::parse(bytes).ok_or(IndexError::Damaged)?;
        let mut known = KnownKey { current: Some(current), ..KnownKey::default() };
        if let Some(window) = &self.windows[n] {
            for entry in &window.closed {
                known.versions.push(VersionEntry::parse(entry).ok_or(IndexError::Damaged)?);
            }
            for entry in &window.hidden {
                known.hidden.push(HiddenEntry::parse(entry).ok_or(IndexError::Damaged)?);
            }
        } else {
            known.all_known = current
                .open
                .is_some_and(|open| group.iter().all(|at| is_shown(&open, *at, incoming)));
        }
        known.versions.extend(current.open);
        Ok(known)
    }

    /// How many keys the batch has.
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }
}

/// The earliest sequence whose surroundings must be loaded; `None` if the key's state is enough:
/// all incoming events are later than all known ones, or they are the one that is shown.
fn needed<'a>(
    state: &CurrentEntry<'_>,
    group: &[(u128, u32, u32)],
    incoming: &'a Incoming,
) -> Option<&'a [u8]> {
    let sequences = group.iter().map(|(_, m, r)| incoming.event(*m, *r).sequence);
    let earliest = sequences.min()?;
    if let Some(open) = &state.open {
        if group.iter().all(|at| is_shown(open, *at, incoming)) {
            return None;
        }
        if open.opener != open.shown {
            return Some(earliest);
        }
    }
    (earliest <= state.known).then_some(earliest)
}

fn is_shown(open: &VersionEntry<'_>, at: (u128, u32, u32), incoming: &Incoming) -> bool {
    let event = incoming.event(at.1, at.2);
    let shown = Kind::Upsert { tracked: open.tracked, full: open.full };
    event.sequence == open.shown && event.kind == shown
}

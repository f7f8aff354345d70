//! What side files tell, put together: the hidden events, and what they say of those that versions
//! show.

use std::cmp::Ordering;
use std::collections::HashMap;

use alluvium_lake::index::{EventMeta, HiddenEntry, VersionEntry};
use alluvium_lake::{Lake, Table};
use alluvium_model::{Epoch, Op, Position, SequencePart, StageError};

use super::Shape;
use super::closing::Closings;
use super::hidden::{self, SideEvent, SideState};
use super::values::lake_error;

pub(super) fn damaged_side() -> StageError {
    StageError::Corrupt("a side file holds an event that does not read".to_owned())
}

/// The events of the side files.
pub(super) struct Side {
    events: Vec<SideEvent>,
    /// The last line about each event, by its place in the index.
    last: HashMap<Vec<u8>, usize>,
    /// Lines that are not hidden events: a version shows the event, or a later line tells of it.
    past: Vec<bool>,
    /// The highest sequence known of keys that have more than an open version.
    pub(super) known: HashMap<u128, Known>,
    /// Events that came without some columns, by key, sequence and position: what they did.
    partial: HashMap<(u128, Vec<u8>, Position), Op>,
    pub(super) closings: Closings,
    /// The border of the entity's history, and of keys with older events the first version's begin.
    border: Option<SequencePart>,
    firsts: HashMap<u128, Option<SequencePart>>,
}

/// The highest sequence known of a key, and whether a row of a snapshot stands there.
#[derive(Default)]
pub(super) struct Known {
    pub(super) sequence: Vec<u8>,
    pub(super) read: bool,
}

impl Side {
    /// What the side files of a table tell that has got to the place `at` of its topic.
    pub(super) async fn load(
        lake: &Lake,
        table: &Table,
        at: Option<(Epoch, u64)>,
        shape: &Shape,
    ) -> Result<Self, StageError> {
        let last = table.txn(hidden::TXN);
        let state = hidden::read_all(lake, table.path(), last, &shape.columns).await;
        let SideState { events, whole } = state.map_err(lake_error)?;
        let closings = match whole {
            Some(whole) => Closings::read(&whole, shape.first)?,
            None => Closings::default(),
        };
        let border = at.and_then(|(epoch, offset)| closings.borders.of_table(epoch, offset));
        Self::of(events, closings, border.map(SequencePart::Timestamp))
    }

    /// The events, oldest first, of an entity with these closings, of which all that is older than
    /// the border and than what stands of its key is forgotten.
    pub(super) fn of(
        events: Vec<SideEvent>,
        closings: Closings,
        border: Option<SequencePart>,
    ) -> Result<Self, StageError> {
        let mut firsts = HashMap::new();
        let (mut last, mut past) = (HashMap::new(), vec![false; events.len()]);
        let mut known: HashMap<u128, Known> = HashMap::new();
        let mut partial = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            let entry = event.entry(0, 0).ok_or_else(damaged_side)?;
            if !entry.unset.is_empty() {
                let event = (event.key, entry.sequence.to_vec(), entry.meta.position);
                partial.insert(event, entry.meta.op);
            }
            if let Some(before) = last.insert(place(event.key, &entry), at) {
                past[before] = true;
            }
            if border.is_some_and(|border| entry.at < border) {
                firsts.insert(event.key, None);
            }
            know(&mut known, event.key, entry.sequence, entry.meta.op == Op::Read);
        }
        Ok(Self { events, last, past, known, partial, closings, border, firsts })
    }

    /// What the event did that a version shows, if its row was completed: such an event is
    /// remembered as it came.
    fn completed(&self, key: u128, version: &VersionEntry<'_>) -> Option<Op> {
        if self.partial.is_empty() {
            return None;
        }
        self.partial.get(&(key, version.shown.to_vec(), version.meta.position)).copied()
    }

    /// Whether the row that a version shows was completed.
    pub(super) fn completes(&self, key: u128, version: &VersionEntry<'_>) -> bool {
        self.completed(key, version).is_some()
    }

    /// A sequence that is known of a key, at which a row of a snapshot stands if `read`.
    pub(super) fn know(&mut self, key: u128, sequence: &[u8], read: bool) {
        know(&mut self.known, key, sequence, read);
    }

    /// A version that a closing of the entity ended: that closing is known of the key too.
    pub(super) fn know_closing(&mut self, key: u128, closed_at: Option<SequencePart>) {
        for closing in self.closings.all().iter().filter(|c| Some(c.at) == closed_at) {
            know(&mut self.known, key, &closing.sequence, false);
        }
    }

    /// What is known of a key; nothing more of it is to come.
    pub(super) fn take_known(&mut self, key: u128) -> Known {
        self.known.remove(&key).unwrap_or_default()
    }

    /// An event that a version shows is no longer hidden. Returns what it did, if it is told: the
    /// table tells that only of the event that opened the version.
    pub(super) fn shows(&mut self, key: u128, version: &VersionEntry<'_>) -> Option<Op> {
        for op in [version.opener_op, Op::Read, Op::Update] {
            let shown = HiddenEntry {
                sequence: version.shown,
                at: version.shown_at,
                hashes: (version.opener_op != Op::Delete).then_some(version.hashes),
                unset: &[],
                meta: EventMeta { op, ..version.meta },
                values: None,
            };
            let Some(at) = self.last.get(&place(key, &shown)) else { continue };
            let Some(told) = self.events[*at].entry(0, 0) else { continue };
            if told.meta.position == version.meta.position {
                self.past[*at] = true;
                return Some(told.meta.op);
            }
        }
        self.completed(key, version)
    }

    /// Notes a version that stands, of a key whose old events may be forgotten.
    pub(super) fn stands(&mut self, key: u128, from: SequencePart) {
        if let Some(first) = self.firsts.get_mut(&key) {
            *first = Some(first.map_or(from, |first| first.min(from)));
        }
    }

    /// The events that no version shows, and that no later one replaced.
    pub(super) fn remaining(&self) -> impl Iterator<Item = &SideEvent> {
        let all = self.events.iter().zip(&self.past);
        all.filter(|(event, past)| !**past && !self.is_forgotten(event)).map(|(event, _)| event)
    }

    /// Whether an event belongs to history that has been removed: it is older than the border, and
    /// than all that stands of its key.
    fn is_forgotten(&self, event: &SideEvent) -> bool {
        let (Some(border), Some(first)) = (self.border, self.firsts.get(&event.key)) else {
            return false;
        };
        let at = event.entry(0, 0).map(|entry| entry.at);
        at.is_some_and(|at| at < border && first.is_none_or(|first| at < first))
    }
}

/// Where an event stands in the index.
pub(super) fn place(key: u128, entry: &HiddenEntry<'_>) -> Vec<u8> {
    let mut place = key.to_be_bytes().to_vec();
    entry.place(&mut place);
    place
}

fn know(known: &mut HashMap<u128, Known>, key: u128, sequence: &[u8], read: bool) {
    let known = known.entry(key).or_default();
    match sequence.cmp(&known.sequence) {
        Ordering::Greater => (known.sequence, known.read) = (sequence.to_vec(), read),
        Ordering::Equal => known.read |= read,
        Ordering::Less => {}
    }
}

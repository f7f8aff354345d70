//! Planning a batch: each key by itself, then all of it as rows to write, rows to delete and
//! alterations of the index.

use std::collections::BTreeMap;

use alluvium_lake::index::{EventMeta, Hashes, HiddenEntry, IndexError, VersionEntry};
use alluvium_model::metadata::Deletes;
use alluvium_model::{Counts, Op, Outcome, Position, RowsWritten, SequencePart};

use super::closing::Closings;
use super::gather::{Incoming, Lookup, Place, Source};
use super::key::KeyWriter;
use super::plan::{Kind, plan_key};
use super::unsent::Completed;

/// Where a row's values come from, made plain for writing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values<'a> {
    /// The row of a message.
    Incoming(u32, u32),
    /// Bytes of the row codec.
    Stored(&'a [u8]),
    /// A row of a file, by the file's number in the index.
    File(u32, u32),
    /// A row that was completed, for not all of its columns were sent.
    Completed(u32),
}

/// Where an event comes from: what the meta columns tell.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// Applied before.
    Known(EventMeta),
    /// The message and row of this batch.
    Incoming(u32, u32),
    /// The row of this batch that gave up its key, which is a delete of it.
    Moved(u32, u32),
    /// A closing of the entity.
    Closing(u32),
}

/// A row to write.
#[derive(Debug)]
pub(super) struct PlannedRow<'a> {
    pub(super) key: u128,
    pub(super) opener: &'a [u8],
    pub(super) opener_at: SequencePart,
    pub(super) opener_op: Op,
    pub(super) shown: &'a [u8],
    pub(super) shown_at: SequencePart,
    pub(super) hashes: Hashes,
    pub(super) closed_at: Option<SequencePart>,
    pub(super) position: Position,
    pub(super) values: Values<'a>,
    pub(super) origin: Origin,
}

/// An event to remember beside the table.
#[derive(Debug)]
pub(super) struct PlannedHidden<'a> {
    pub(super) key: u128,
    pub(super) sequence: &'a [u8],
    pub(super) at: SequencePart,
    pub(super) hashes: Option<Hashes>,
    pub(super) unset: &'a [u8],
    pub(super) op: Op,
    pub(super) values: Option<Values<'a>>,
    pub(super) origin: Origin,
}

/// What a key's state becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Top {
    /// Its open version stays as it is: the kept version with this index.
    Kept(usize),
    /// Its open version is the planned row with this index.
    New(usize),
    /// It has no open version.
    Closed,
}

/// The state of a key after the batch.
#[derive(Debug)]
pub(super) struct KeyState<'a> {
    pub(super) key: u128,
    /// The highest known sequence, and whether a row of a snapshot stands there.
    pub(super) known: &'a [u8],
    pub(super) read: bool,
    /// Whether the open version shows a completed row.
    pub(super) completed: bool,
    pub(super) top: Top,
}

/// All that a batch does.
#[derive(Debug, Default)]
pub(super) struct BatchPlan<'a> {
    pub(super) rows: Vec<PlannedRow<'a>>,
    /// Rows of the table that are replaced, by file number.
    pub(super) replaced: BTreeMap<u32, Vec<u32>>,
    pub(super) states: Vec<KeyState<'a>>,
    /// Open versions that stay as they are, of keys of which more is known now.
    pub(super) kept: Vec<VersionEntry<'a>>,
    /// Closed versions that stand no longer: key and opener.
    pub(super) closed_gone: Vec<(u128, &'a [u8])>,
    pub(super) hidden: Vec<PlannedHidden<'a>>,
    /// Shown events whose operation stands beside the table only, for a rebuild of the index.
    pub(super) told: Vec<PlannedHidden<'a>>,
    /// Hidden events that a version shows now.
    pub(super) hidden_gone: Vec<(u128, HiddenEntry<'a>)>,
    pub(super) counts: Counts,
    pub(super) written: RowsWritten,
}

impl<'a> BatchPlan<'a> {
    /// The first and only event of a key of which nothing is known needs no planning: it opens its
    /// first version. False if it is of another kind.
    fn open_first(&mut self, key: u128, place: &Place, incoming: &'a Incoming) -> bool {
        let event = incoming.event(place);
        let (Kind::Upsert { row, read, .. }, Source::Incoming(m, r)) = (event.kind, event.source)
        else {
            return false;
        };
        if !incoming.unset(event.source).is_empty() {
            return false;
        }
        let top = Top::New(self.rows.len());
        self.rows.push(PlannedRow {
            key,
            opener: event.sequence,
            opener_at: event.at,
            opener_op: incoming.row(m, r).2.op,
            shown: event.sequence,
            shown_at: event.at,
            hashes: row,
            closed_at: None,
            position: event.position,
            values: Values::Incoming(m, r),
            origin: Origin::Incoming(m, r),
        });
        self.states.push(KeyState { key, known: event.sequence, read, completed: false, top });
        self.counts.add(Outcome::Inserted, 1);
        self.written.opened += 1;
        true
    }
}

/// What planning takes besides the keys' own events.
pub(super) struct Planner<'a> {
    pub(super) deletes: Deletes,
    pub(super) closings: &'a Closings,
    pub(super) completed: &'a Completed,
}

impl<'a> Planner<'a> {
    /// Plans all keys of a batch.
    pub(super) fn plan(
        &self,
        incoming: &'a Incoming,
        lookup: &'a Lookup,
    ) -> Result<BatchPlan<'a>, IndexError> {
        let mut plan = BatchPlan::default();
        plan.rows.reserve(lookup.work.len());
        plan.states.reserve(lookup.work.len());
        let mut events = Vec::new();
        for (n, work) in lookup.work.iter().enumerate() {
            let group = &incoming.places()[work.rows.clone()];
            if let [place] = group
                && work.current.is_none()
                && self.closings.from(&work.earliest).is_empty()
                && plan.open_first(work.key, place, incoming)
            {
                continue;
            }
            let known = lookup.known(work, incoming)?;
            if known.all_known {
                plan.counts.add(Outcome::Duplicate, group.len() as u64);
                continue;
            }
            events.clear();
            events.extend(group.iter().map(|place| incoming.event(place)));
            if let Some(current) = &known.current {
                let late = group.iter().zip(&events);
                plan.counts.late += late
                    .filter(|(place, event)| place.is_counted() && event.sequence < current.known)
                    .count() as u64;
            }
            let mut window = known.events(self.closings, &work.earliest);
            self.completed.complete(n, window.events.iter_mut().chain(&mut events));
            let planned = plan_key(self.deletes, window, &events);
            for (place, outcome) in group.iter().zip(&planned.outcomes) {
                plan.counts.add(*outcome, u64::from(place.is_counted()));
            }
            let completed = |source| self.completed.row(n, source);
            let closings = self.closings;
            KeyWriter {
                key: work.key,
                incoming,
                known: &known,
                planned: &planned,
                closings,
                completed: &completed,
            }
            .write(&mut plan)?;
        }
        Ok(plan)
    }
}

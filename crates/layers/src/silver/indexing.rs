//! The index's side of a batch. Its entries are made while the files are written; they go in once
//! the commit stands, while the next batch is read: the acknowledgement does not wait for what can
//! be derived from the table.

use std::thread::JoinHandle;

use alluvium_lake::index::{
    CurrentEntry, EventMeta, IndexError, IndexUpdate, KeyIndex, VersionEntry,
};
use alluvium_lake::table::Mark;
use alluvium_model::{Op, StageError};

use super::batch::{KeyState, Origin, PlannedRow, Top};
use super::bulk::Bulk;
use super::commit::{OwnedHidden, Places, Planned, no_values};
use super::control::run_of;
use super::deliveries::Deliveries;
use super::files::Names;

/// What events tell of themselves in the index: runs and batches by their numbers.
pub(super) struct Metas<'p> {
    pub(super) planned: &'p Planned<'p>,
    batch: u32,
    /// The run of each message.
    runs: Vec<u32>,
}

impl<'p> Metas<'p> {
    pub(super) fn new(planned: &'p Planned<'p>, names: &mut Names<'_>, batch_id: &str) -> Self {
        let messages = &planned.incoming.messages;
        let runs = messages.iter().map(|message| names.number(run_of(message))).collect();
        Self { planned, batch: names.number(batch_id), runs }
    }

    pub(super) fn of(&self, origin: Origin, names: &mut Names<'_>) -> EventMeta {
        match origin {
            Origin::Known(meta) => meta,
            Origin::Closing(n) => self.planned.closings.all()[n as usize].meta(names),
            Origin::Incoming(m, r) | Origin::Moved(m, r) => {
                let (message, _, row) = self.planned.incoming.row(m, r);
                let moved = matches!(origin, Origin::Moved(..));
                EventMeta {
                    op: if moved { Op::Delete } else { row.op },
                    position: message.position(row.index),
                    changed_at: row.changed_at,
                    ingested_at: message.published_at_us,
                    run: self.runs[m as usize],
                    batch: self.batch,
                }
            }
        }
    }
}

/// All that a batch alters in the index.
pub(super) struct Prepared {
    states: Bulk,
    update: IndexUpdate,
}

impl Prepared {
    /// Makes the entries of a batch whose rows come to stand at `places`.
    pub(super) fn new(
        index: &KeyIndex,
        metas: &Metas<'_>,
        places: &Places,
        hidden: &[(u128, OwnedHidden<'_>)],
        mut deliveries: Deliveries,
        names: &mut Names<'_>,
    ) -> Result<Self, StageError> {
        let plan = metas.planned.plan;
        let mut prepared = Self { states: Bulk::default(), update: index.update() };
        prepared.states(metas, places, names)?;
        let update = &mut prepared.update;
        for (key, opener) in &plan.closed_gone {
            update.remove_closed(*key, opener);
        }
        for (row, place) in plan.rows.iter().zip(places) {
            if row.closed_at.is_some() {
                let meta = metas.of(row.origin, names);
                update.closed(row.key, &entry(row, *place, meta, &[]));
            }
        }
        for (key, event) in hidden {
            update.hidden(*key, &event.entry());
        }
        for (key, entry) in &plan.hidden_gone {
            update.remove_hidden(*key, entry);
        }
        deliveries.put(index, update).map_err(super::index_error)?;
        if metas.planned.closings_changed {
            update.whole(&metas.planned.closings.write());
        }
        for (number, name) in names.new_names() {
            update.name(*number, name);
        }
        Ok(prepared)
    }

    fn states(
        &mut self,
        metas: &Metas<'_>,
        places: &Places,
        names: &mut Names<'_>,
    ) -> Result<(), StageError> {
        let Planned { plan, sources, codec, .. } = metas.planned;
        let typed = sources.typed()?;
        let mut values = Vec::new();
        for (at, state) in plan.states.iter().enumerate() {
            values.clear();
            let open = match state.top {
                Top::Closed => None,
                Top::Kept(at) => plan.kept.get(at).copied(),
                Top::New(at) => {
                    let row = &plan.rows[at];
                    let place = sources.place(row.values).ok_or_else(no_values)?;
                    codec.put(&typed[place.0], place.1, &mut values);
                    Some(entry(row, places[at], metas.of(row.origin, names), &values))
                }
            };
            let KeyState { known, read, completed, .. } = *state;
            let current = CurrentEntry { known, read, completed, open };
            self.states.push(state.key, &current);
            if at == 0 {
                self.states.reserve(plan.states.len());
            }
        }
        Ok(())
    }

    /// Brings the index to the table's new version.
    fn write(mut self, index: &KeyIndex, mark: &Mark, fingerprint: &str) -> Result<(), IndexError> {
        self.states.put(index, &mut self.update)?;
        self.update.finish(mark, fingerprint)
    }
}

/// An index that is being brought to the table's version. Nobody else may use it meanwhile: when
/// this is dropped, it is done.
pub(super) struct Writing(Option<JoinHandle<Result<(), IndexError>>>);

impl Writing {
    /// Begins.
    pub(super) fn begin(
        index: KeyIndex,
        prepared: Prepared,
        mark: Mark,
        fingerprint: String,
    ) -> Result<Self, IndexError> {
        let work = move || prepared.write(&index, &mark, &fingerprint);
        let named = std::thread::Builder::new().name("key-index".to_owned());
        let thread = named.spawn(work).map_err(|error| IndexError::Store(error.into()))?;
        Ok(Self(Some(thread)))
    }

    /// Waits until it is done. Blocks.
    pub(super) fn done(mut self) -> Result<(), IndexError> {
        let Some(thread) = self.0.take() else { return Ok(()) };
        thread.join().map_err(|_| IndexError::Damaged)?
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(Ok(Err(error))) = self.0.take().map(JoinHandle::join) {
            tracing::warn!(%error, "the key index could not be written");
        }
    }
}

fn entry<'a>(
    row: &PlannedRow<'a>,
    place: (u32, u32),
    meta: EventMeta,
    values: &'a [u8],
) -> VersionEntry<'a> {
    VersionEntry {
        file: place.0,
        row: place.1,
        opener: row.opener,
        opener_at: row.opener_at,
        opener_op: row.opener_op,
        shown: row.shown,
        shown_at: row.shown_at,
        hashes: row.hashes,
        closed_at: row.closed_at,
        meta,
        values,
    }
}

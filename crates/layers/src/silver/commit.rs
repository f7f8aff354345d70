//! From a plan to the table: files, side file, one commit, and then the index.

use std::collections::BTreeMap;

use alluvium_lake::index::{CurrentEntry, EventMeta, HiddenEntry, IndexError, VersionEntry};
use alluvium_lake::{Commit, CommitOutcome, FileId, StagedFile};
use alluvium_model::outcome::Progress;
use alluvium_model::{Applied, Op, StageError};

use super::batch::{BatchPlan, KeyState, Origin, PlannedHidden, PlannedRow, Top};
use super::closing::Closings;
use super::control::run_of;
use super::files::Names;
use super::gather::Incoming;
use super::hidden::{self, SideFile};
use super::rows::RowWriter;
use super::values::{ValueSources, lake_error};
use super::{Open, SilverStage, index_error};
use crate::ledger_note::LayerNote;

/// From so many keys on, their states go into the index in bulk.
const BULK: usize = 20_000;

/// What may go wrong while states go into the index in bulk.
enum BulkError {
    Stage(StageError),
    Index(IndexError),
}

impl From<IndexError> for BulkError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<BulkError> for StageError {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::Stage(error) => error,
            BulkError::Index(error) => index_error(error),
        }
    }
}

/// Where the rows of a batch have come to stand: per planned row, the file's number and the row.
type Places = Vec<(u32, u32)>;

/// All that a batch has come to, ready to be committed.
pub(super) struct Planned<'p> {
    pub(super) incoming: &'p Incoming,
    pub(super) plan: &'p BatchPlan<'p>,
    pub(super) sources: &'p ValueSources,
    /// The closings after the batch, and whether they differ from those before.
    pub(super) closings: &'p Closings,
    pub(super) closings_changed: bool,
    /// The time of the entity's newest record after the batch.
    pub(super) newest: Option<i64>,
}

impl SilverStage {
    /// Makes a planned batch part of the table. `applied` is filled in.
    pub(super) async fn commit(
        &mut self,
        planned: &Planned<'_>,
        before: Option<Progress>,
        applied: &mut Applied,
    ) -> Result<(), StageError> {
        let Planned { incoming, plan, sources, closings, .. } = planned;
        let Some(open) = self.open.as_mut() else {
            return Err(StageError::Bug("the table is not open".to_owned()));
        };
        let mut names = Names::new(&self.index).map_err(index_error)?;
        let batch_id = applied.batch.0.clone();
        let writer = RowWriter {
            schema: &self.shape.schema,
            incoming,
            values: sources,
            closings,
            batch_id: &batch_id,
        };

        let mut staged = Vec::new();
        let mut places: Places = vec![(0, 0); plan.rows.len()];
        for current in [true, false] {
            let chosen: Vec<usize> = (0..plan.rows.len())
                .filter(|at| plan.rows[*at].closed_at.is_none() == current)
                .collect();
            if chosen.is_empty() {
                continue;
            }
            let rows: Vec<&PlannedRow<'_>> = chosen.iter().map(|at| &plan.rows[*at]).collect();
            let batch = tokio::task::block_in_place(|| writer.write(&rows, &mut names))?;
            let file = open.table.stage_file(&batch, Some(current)).await.map_err(lake_error)?;
            let number = names.number(&file.path);
            for (row, at) in (0u32..).zip(&chosen) {
                places[*at] = (number, row);
            }
            staged.push((number, file));
        }
        let hidden = self.prepare_hidden(&plan.hidden, planned, &mut names, &batch_id)?;
        let told = self.prepare_hidden(&plan.told, planned, &mut names, &batch_id)?;
        let side_file = self.side_file(&hidden, &told, planned, &mut names)?;
        let mut side = (None, 0);
        if let (Some(file), Some(open)) = (side_file, self.open.as_ref()) {
            let written = file.write(&self.lake, open.table.path()).await.map_err(lake_error)?;
            side = (Some((hidden::TXN.to_owned(), written.0)), written.1);
        }

        let note = LayerNote::following(before.as_ref(), applied).knowing(planned.newest);
        let (number_of, files): (Vec<u32>, Vec<StagedFile>) = staged.into_iter().unzip();
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        applied.bytes = files.iter().map(|file| file.size).sum::<u64>() + side.1;
        let Some(open) = self.open.as_mut() else {
            return Err(StageError::Bug("the table is not open".to_owned()));
        };
        let commit = Commit {
            add: files,
            delete: replaced(plan, open)?,
            txns: [note.txn(&self.shape.entity.id())].into_iter().chain(side.0).collect(),
            info: note.to_json(),
            operation: "MERGE",
        };
        match open.table.commit(commit).await.map_err(lake_error)? {
            CommitOutcome::Written { version, .. } => applied.version = Some(version),
            CommitOutcome::Conflict => {
                return Err(StageError::Unavailable(
                    "another writer committed meanwhile; planning anew".to_owned(),
                ));
            }
        }
        for (number, path) in number_of.into_iter().zip(paths) {
            open.numbers.add(number, path);
        }
        open.numbers.keep_only(&open.table);
        open.numbers.uses(&names);
        open.progress = Some(note.progress());
        open.newest = planned.newest;
        if planned.closings_changed {
            open.closings = (*closings).clone();
        }
        let version = open.table.version();
        let indexed = tokio::task::block_in_place(|| {
            self.write_index(planned, &places, &hidden, &mut names, &batch_id, version)
        });
        if let Err(error) = indexed {
            // The batch is durable all the same; the index is rebuilt when the stage opens again.
            tracing::warn!(%error, "the key index could not be written");
            self.open = None;
        }
        Ok(())
    }

    /// Hidden events with their values in bytes.
    fn prepare_hidden<'a>(
        &self,
        events: &'a [PlannedHidden<'a>],
        planned: &Planned<'_>,
        names: &mut Names<'_>,
        batch_id: &str,
    ) -> Result<Vec<(u128, OwnedHidden<'a>)>, StageError> {
        let mut out = Vec::with_capacity(events.len());
        let typed = planned.sources.typed()?;
        for event in events {
            let values = match event.values {
                None => None,
                Some(values) => {
                    let place = planned.sources.place(values).ok_or_else(no_values)?;
                    let mut bytes = Vec::new();
                    self.shape.codec.put(&typed[place.0], place.1, &mut bytes);
                    Some(bytes)
                }
            };
            let meta = meta(event.origin, planned, names, batch_id);
            let meta = EventMeta { op: event.op, ..meta };
            out.push((event.key, OwnedHidden { sequence: event.sequence, event, meta, values }));
        }
        Ok(out)
    }

    /// The side file of a batch: what it hides, and what it tells of events that are shown. `None`
    /// if there is nothing of either.
    fn side_file(
        &self,
        hidden: &[(u128, OwnedHidden<'_>)],
        told: &[(u128, OwnedHidden<'_>)],
        planned: &Planned<'_>,
        names: &mut Names<'_>,
    ) -> Result<Option<SideFile>, StageError> {
        let nothing = hidden.is_empty() && told.is_empty() && !planned.closings_changed;
        let Some(open) = self.open.as_ref().filter(|_| !nothing) else { return Ok(None) };
        let mut side = SideFile::new(&self.shape.columns, open.table.txn(hidden::TXN));
        for (key, event) in hidden.iter().chain(told) {
            let run = names.name(event.meta.run).map_err(index_error)?.to_owned();
            let batch = names.name(event.meta.batch).map_err(index_error)?.to_owned();
            side.push(*key, &run, &batch, &event.entry());
        }
        if planned.closings_changed {
            side.whole(&planned.closings.write());
        }
        Ok(Some(side))
    }

    /// Brings the index to the table's new version.
    fn write_index(
        &self,
        planned: &Planned<'_>,
        places: &Places,
        hidden: &[(u128, OwnedHidden<'_>)],
        names: &mut Names<'_>,
        batch_id: &str,
        version: i64,
    ) -> Result<(), StageError> {
        let Planned { plan, sources, .. } = planned;
        let mut update = self.index.update();
        let typed = sources.typed()?;
        let mut values = Vec::new();
        let mut states = plan.states.iter().map(|state| {
            values.clear();
            let open = match state.top {
                Top::Closed => None,
                Top::Kept(at) => plan.kept.get(at).copied(),
                Top::New(at) => {
                    let row = &plan.rows[at];
                    let place = sources.place(row.values).ok_or_else(no_values)?;
                    self.shape.codec.put(&typed[place.0], place.1, &mut values);
                    let meta = meta(row.origin, planned, names, batch_id);
                    Some(entry(row, places[at], meta, &values))
                }
            };
            let mut bytes = Vec::new();
            let KeyState { known, read, completed, .. } = *state;
            CurrentEntry { known, read, completed, open }.put(&mut bytes);
            Ok::<_, StageError>((state.key, bytes))
        });
        if plan.states.len() >= BULK {
            self.index.bulk_current(states.map(|state| state.map_err(BulkError::Stage)))?;
        } else {
            states.try_for_each(|state| state.map(|(key, bytes)| update.current(key, &bytes)))?;
        }
        for (key, opener) in &plan.closed_gone {
            update.remove_closed(*key, opener);
        }
        for (row, place) in plan.rows.iter().zip(places) {
            if row.closed_at.is_some() {
                let meta = meta(row.origin, planned, names, batch_id);
                update.closed(row.key, &entry(row, *place, meta, &[]));
            }
        }
        for (key, event) in hidden {
            update.hidden(*key, &event.entry());
        }
        for (key, entry) in &plan.hidden_gone {
            update.remove_hidden(*key, entry);
        }
        if planned.closings_changed {
            update.whole(&planned.closings.write());
        }
        for (number, name) in names.new_names() {
            update.name(*number, name);
        }
        update.finish(version, &self.shape.columns).map_err(index_error)
    }
}

/// A hidden event with its values in bytes.
struct OwnedHidden<'a> {
    sequence: &'a [u8],
    event: &'a PlannedHidden<'a>,
    meta: EventMeta,
    values: Option<Vec<u8>>,
}

impl OwnedHidden<'_> {
    fn entry(&self) -> HiddenEntry<'_> {
        HiddenEntry {
            sequence: self.sequence,
            at: self.event.at,
            hashes: self.event.hashes,
            unset: self.event.unset,
            meta: self.meta,
            values: self.values.as_deref(),
        }
    }
}

fn no_values() -> StageError {
    StageError::Bug("a planned row has no values".to_owned())
}

/// The rows of the table that a plan replaces, by file.
fn replaced(
    plan: &BatchPlan<'_>,
    open: &Open,
) -> Result<BTreeMap<FileId, roaring::RoaringTreemap>, StageError> {
    let named = plan.replaced.iter().flat_map(|(file, rows)| rows.iter().map(|row| (*file, *row)));
    let places = open.numbers.by_file(&open.table, named)?.into_iter();
    Ok(places.map(|(id, rows)| (id, rows.into_iter().map(|(row, _)| row).collect())).collect())
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

fn meta(origin: Origin, planned: &Planned<'_>, names: &mut Names<'_>, batch_id: &str) -> EventMeta {
    match origin {
        Origin::Known(meta) => meta,
        Origin::Closing(n) => planned.closings.all()[n as usize].meta(names),
        Origin::Incoming(m, r) | Origin::Moved(m, r) => {
            let (message, _, row) = planned.incoming.row(m, r);
            let moved = matches!(origin, Origin::Moved(..));
            EventMeta {
                op: if moved { Op::Delete } else { row.op },
                position: message.position(row.index),
                changed_at: row.changed_at,
                ingested_at: message.published_at_us,
                run: names.number(run_of(message)),
                batch: names.number(batch_id),
            }
        }
    }
}

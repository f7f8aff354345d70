//! From a plan to the table: files, side file, one commit, and then the index.

use std::collections::BTreeMap;

use alluvium_lake::index::{EventMeta, HiddenEntry, RowCodec};
use alluvium_lake::{Commit, CommitOutcome, FileId, StagedFile, Table};
use alluvium_model::outcome::Progress;
use alluvium_model::{Applied, StageError};
use arrow::record_batch::RecordBatch;

use super::batch::{BatchPlan, PlannedHidden, PlannedRow};
use super::closing::Closings;
use super::deliveries::Deliveries;
use super::files::Names;
use super::gather::Incoming;
use super::hidden::{self, SideFile};
use super::indexing::{Metas, Prepared, Writing};
use super::rows::RowWriter;
use super::values::{ValueSources, lake_error};
use super::{Open, SilverStage, index_error};
use crate::ledger_note::LayerNote;

/// Where the rows of a batch have come to stand: per planned row, the file's number and the row.
pub(super) type Places = Vec<(u32, u32)>;

/// All that a batch has come to, ready to be committed.
pub(super) struct Planned<'p> {
    pub(super) incoming: &'p Incoming,
    pub(super) plan: &'p BatchPlan<'p>,
    pub(super) sources: &'p ValueSources,
    pub(super) codec: &'p RowCodec,
    /// The closings after the batch, and whether they differ from those before.
    pub(super) closings: &'p Closings,
    pub(super) closings_changed: bool,
    /// The time of the entity's newest record after the batch.
    pub(super) newest: Option<i64>,
}

/// All of a batch that is written before its commit, and what the commit brings with it.
struct Beside {
    drafts: Vec<Draft>,
    files: Vec<StagedFile>,
    side: Option<(String, i64)>,
    bytes: u64,
    prepared: Prepared,
}

impl SilverStage {
    /// Makes a planned batch part of the table. `applied` is filled in.
    pub(super) async fn commit(
        &mut self,
        planned: &Planned<'_>,
        before: Option<Progress>,
        applied: &mut Applied,
    ) -> Result<(), StageError> {
        let index = self.index.clone();
        let mut names = Names::new(&index).map_err(index_error)?;
        let beside = self.write_beside(planned, &mut names, &applied.batch.0).await?;
        let note = LayerNote::following(before.as_ref(), applied).knowing(planned.newest);
        applied.bytes = beside.bytes;
        let Some(open) = self.open.as_mut() else { return Err(not_open()) };
        let commit = Commit {
            add: beside.files,
            delete: replaced(planned.plan, open)?,
            txns: [note.txn(&self.shape.entity.id())].into_iter().chain(beside.side).collect(),
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
        for draft in beside.drafts {
            open.numbers.add(draft.number, draft.path);
        }
        open.numbers.keep_only(&open.table);
        open.numbers.uses(&names);
        open.progress = Some(note.progress());
        open.newest = planned.newest;
        if planned.closings_changed {
            open.closings = planned.closings.clone();
        }
        let (mark, fingerprint) = (open.table.mark(), self.shape.fingerprint.clone());
        match Writing::begin(self.index.clone(), beside.prepared, mark, fingerprint) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => {
                // The batch is durable all the same; the index is rebuilt when the stage opens.
                tracing::warn!(%error, "the key index could not be written");
                self.open = None;
            }
        }
        Ok(())
    }

    async fn write_beside(
        &self,
        planned: &Planned<'_>,
        names: &mut Names<'_>,
        batch_id: &str,
    ) -> Result<Beside, StageError> {
        let Planned { incoming, plan, sources: values, closings, .. } = *planned;
        let Some(Open { table, .. }) = self.open.as_ref() else { return Err(not_open()) };
        let writer = RowWriter { schema: &self.shape.schema, incoming, values, closings, batch_id };
        let (mut drafts, mut places) = (Vec::new(), vec![(0, 0); plan.rows.len()]);
        for current in [true, false] {
            drafts.extend(tokio::task::block_in_place(|| {
                draft(plan, current, table, &writer, names, &mut places)
            })?);
        }
        let metas = Metas::new(planned, names, batch_id);
        let hidden = self.prepare_hidden(&plan.hidden, &metas, names)?;
        let told = self.prepare_hidden(&plan.told, &metas, names)?;
        // Packing the files and making the index's entries are most of the work left.
        let stage = async |nth: usize| match drafts.get(nth) {
            None => Ok(None),
            Some(Draft { path, rows, current, .. }) => {
                let staged = table.stage_file_as(path.clone(), rows, Some(*current)).await;
                staged.map(Some).map_err(lake_error)
            }
        };
        let prepared = async {
            tokio::task::block_in_place(|| {
                let deliveries = Deliveries::of_batch(&self.shape, incoming);
                Prepared::new(&self.index, &metas, &places, &hidden, deliveries, names)
            })
        };
        let (first, second, prepared) = tokio::join!(stage(0), stage(1), prepared);
        let prepared = prepared?;
        let files: Vec<StagedFile> = [first?, second?].into_iter().flatten().collect();
        let bytes = files.iter().map(|file| file.size).sum::<u64>();
        let side = match self.side_file(&hidden, &told, planned, names)? {
            Some(file) => Some(file.write(&self.lake, table.path()).await.map_err(lake_error)?),
            None => None,
        };
        Ok(Beside {
            bytes: bytes + side.map_or(0, |(_, size)| size),
            side: side.map(|(name, _)| (hidden::TXN.to_owned(), name)),
            prepared,
            drafts,
            files,
        })
    }

    /// Hidden events with their values in bytes.
    fn prepare_hidden<'a>(
        &self,
        events: &'a [PlannedHidden<'a>],
        metas: &Metas<'_>,
        names: &mut Names<'_>,
    ) -> Result<Vec<(u128, OwnedHidden<'a>)>, StageError> {
        let mut out = Vec::with_capacity(events.len());
        let sources = metas.planned.sources;
        let typed = sources.typed()?;
        for event in events {
            let values = match event.values {
                None => None,
                Some(values) => {
                    let place = sources.place(values).ok_or_else(no_values)?;
                    let mut bytes = Vec::new();
                    self.shape.codec.put(&typed[place.0], place.1, &mut bytes);
                    Some(bytes)
                }
            };
            let meta = EventMeta { op: event.op, ..metas.of(event.origin, names) };
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
}

/// Rows that become a file.
struct Draft {
    number: u32,
    path: String,
    current: bool,
    rows: RecordBatch,
}

/// The open or the closed rows of a plan as a file; `None` if there are none. `places` is filled in.
fn draft(
    plan: &BatchPlan<'_>,
    current: bool,
    table: &Table,
    writer: &RowWriter<'_>,
    names: &mut Names<'_>,
    places: &mut Places,
) -> Result<Option<Draft>, StageError> {
    let is_chosen = |at: &usize| plan.rows[*at].closed_at.is_none() == current;
    let mut chosen: Vec<usize> = (0..plan.rows.len()).filter(is_chosen).collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    // As they came, not by key: values that came together are alike, pack better, and keep the
    // ranges of a file's columns narrow.
    chosen.sort_unstable_by_key(|at| plan.rows[*at].position);
    let rows: Vec<&PlannedRow<'_>> = chosen.iter().map(|at| &plan.rows[*at]).collect();
    let rows = writer.write(&rows, names)?;
    let path = table.new_file_name(Some(current));
    let number = names.number(&path);
    for (row, at) in (0u32..).zip(&chosen) {
        places[*at] = (number, row);
    }
    Ok(Some(Draft { number, path, current, rows }))
}

/// A hidden event with its values in bytes.
pub(super) struct OwnedHidden<'a> {
    sequence: &'a [u8],
    event: &'a PlannedHidden<'a>,
    meta: EventMeta,
    values: Option<Vec<u8>>,
}

impl OwnedHidden<'_> {
    pub(super) fn entry(&self) -> HiddenEntry<'_> {
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

pub(super) fn not_open() -> StageError {
    StageError::Bug("the table is not open".to_owned())
}

pub(super) fn no_values() -> StageError {
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

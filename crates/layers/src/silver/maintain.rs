//! Upkeep of silver: of the table, and of the index that names its rows.

use std::collections::BTreeSet;

use alluvium_lake::table::CompactionOutcome;
use alluvium_lake::upkeep::{TableUpkeep, UpkeepPolicy};
use alluvium_lake::{Lake, LakeError, Table};
use alluvium_model::{Maintained, StageError, Upkeep};
use object_store::path::Path;
use serde::Deserialize;

use super::expire::Expiry;
use super::shadow::SIDE_FILES;
use super::{SilverStage, hidden, index_error, lake_error, reading_error};
use crate::upkeep;

/// From so many moved files on, the index is swept.
const MOVES: usize = 200;
/// So many entries are looked at in one step.
const STEP: usize = 5_000;

/// The upkeep of a silver table.
pub(super) struct SilverUpkeep {
    table: TableUpkeep,
    /// Side files that the table's chain of them holds. Each file before one that is among them is
    /// too.
    side: BTreeSet<Path>,
    pub(super) expiry: Expiry,
}

impl SilverUpkeep {
    pub(super) fn new(policy: UpkeepPolicy) -> Self {
        let (table, expiry) = (TableUpkeep::new(policy), Expiry::default());
        Self { table, side: BTreeSet::new(), expiry }
    }
}

impl SilverStage {
    pub(super) async fn maintain_open(&mut self, upkeep: Upkeep) -> Result<Maintained, StageError> {
        let all = upkeep == Upkeep::All;
        let mut done = Maintained::default();
        // What goes need not be put together first.
        while self.expire(all, &mut done).await? && all {}
        while self.compact(all, &mut done).await? && all {}
        while self.sweep(all, &mut done).await? && all {}
        self.open().await?;
        let Some(open) = self.open.as_mut() else { return Ok(done) };
        let (of_table, table) = (&mut self.upkeep.table, &mut open.table);
        upkeep::keep_log(of_table, table, all, &mut done).await.map_err(lake_error)?;
        if of_table.is_garbage_due(table, all) {
            let side = &mut self.upkeep.side;
            chain(&self.lake, table, side).await.map_err(lake_error)?;
            let collected = upkeep::collect(of_table, table, (SIDE_FILES, side), all, &mut done);
            collected.await.map_err(lake_error)?;
        }
        if all {
            tokio::task::block_in_place(|| self.index.merge()).map_err(index_error)?;
        }
        // The next one is prepared while batches come.
        of_table.begin_compaction(table).map_err(lake_error)?;
        Ok(done)
    }

    /// Brings in a compaction if one is ready. False if there is nothing to put together now.
    async fn compact(&mut self, wait: bool, done: &mut Maintained) -> Result<bool, StageError> {
        self.open().await?;
        let Some(open) = self.open.as_mut() else { return Ok(false) };
        let compacted = self.upkeep.table.compacted(&open.table, wait).await;
        let Some(compacted) = compacted.map_err(lake_error)? else { return Ok(false) };
        let outcome = upkeep::commit(&mut open.table, compacted, done).await.map_err(lake_error)?;
        let CompactionOutcome::Done { to, moved, .. } = outcome else {
            // Somebody else committed: what stands in memory is behind the table.
            self.open = None;
            return Ok(true);
        };
        let (mark, fingerprint) = (open.table.mark(), &self.shape.fingerprint);
        let moved = tokio::task::block_in_place(|| {
            open.numbers.move_rows(&self.index, to.as_deref(), moved, &mark, fingerprint)
        });
        if let Err(error) = moved {
            // The table is as it is to be; the index is rebuilt when the stage opens again.
            tracing::warn!(%error, "the key index could not be written");
            self.open = None;
        }
        Ok(true)
    }

    /// A step of the sweep through the index. False if none is under way.
    async fn sweep(&mut self, all: bool, done: &mut Maintained) -> Result<bool, StageError> {
        self.open().await?;
        let Some(open) = self.open.as_mut() else { return Ok(false) };
        let moves = open.numbers.moves();
        let begin = moves >= MOVES || (all && moves > 0 && done.entries_swept == 0);
        let swept = tokio::task::block_in_place(|| open.numbers.sweep(&self.index, begin, STEP));
        let swept = swept.map_err(|error| reading_error(&self.index, error))?;
        done.entries_swept += swept.as_ref().map_or(0, |swept| swept.looked_at);
        Ok(swept.is_some_and(|swept| !swept.is_done))
    }
}

/// The line that a side file begins with, as far as it tells of the one before it.
#[derive(Deserialize)]
struct Header {
    previous: Option<i64>,
}

/// Adds the side files of the table's chain to `known`.
async fn chain(lake: &Lake, table: &Table, known: &mut BTreeSet<Path>) -> Result<(), LakeError> {
    let mut next = table.txn(hidden::TXN);
    let mut new = Vec::new();
    while let Some(name) = next {
        let path = hidden::path(table.path(), name);
        if known.contains(&path) {
            break;
        }
        let damaged = |what: &str| LakeError::Corrupt(format!("side file {path}: {what}"));
        let bytes = lake.get(&path).await?.ok_or_else(|| damaged("it is not there"))?;
        next = header(&bytes).ok_or_else(|| damaged("it has no header"))?.previous;
        new.push(path);
    }
    known.extend(new);
    Ok(())
}

fn header(bytes: &[u8]) -> Option<Header> {
    use std::io::{BufRead, BufReader};
    let decoder = zstd::stream::read::Decoder::new(bytes).ok()?;
    let mut line = String::new();
    BufReader::new(decoder).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

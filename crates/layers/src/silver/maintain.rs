//! Upkeep of silver: of the table, and of the index that names its rows.

use alluvium_lake::table::CompactionOutcome;
use alluvium_lake::upkeep::{TableUpkeep, UpkeepPolicy};
use alluvium_model::{Maintained, StageError, Upkeep};
use object_store::path::Path;

use super::chain::Chain;
use super::expire::Expiry;
use super::shadow::SIDE_FILES;
use super::{SilverStage, index_error, lake_error, reading_error};
use crate::upkeep;

/// From so many moved files on, the index is swept.
const MOVES: usize = 200;
/// So many entries are looked at in one step.
const STEP: usize = 5_000;

/// The upkeep of a silver table.
pub(super) struct SilverUpkeep {
    table: TableUpkeep,
    side: Chain,
    pub(super) expiry: Expiry,
}

impl SilverUpkeep {
    pub(super) fn new(policy: UpkeepPolicy) -> Self {
        Self { table: TableUpkeep::new(policy), side: Chain::default(), expiry: Expiry::default() }
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
        let SilverUpkeep { table: of_table, side, .. } = &mut self.upkeep;
        let table = &mut open.table;
        upkeep::keep_log(of_table, table, all, &mut done).await.map_err(lake_error)?;
        if of_table.is_garbage_due(table, all)
            && side.look(&self.lake, table, all).await.map_err(lake_error)?
        {
            let (side, place) = (&*side, table.path().clone());
            let keep: &(dyn Fn(&Path) -> bool + Sync) = &|path: &Path| side.has(&place, path);
            let collected = upkeep::collect(of_table, table, (SIDE_FILES, keep), all, &mut done);
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

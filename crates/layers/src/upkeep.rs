//! What bronze and silver have in common as the writers of their tables: taking them over, and
//! upkeep, told in the words of the port.

use alluvium_lake::table::{Compacted, CompactionOutcome, Standing};
use alluvium_lake::upkeep::TableUpkeep;
use alluvium_lake::{CommitOutcome, LakeError, Table};
use alluvium_model::{Maintained, StageError};
use object_store::path::Path;

use crate::silver::lake_error;

/// Makes us the table's owner, before anything else is written.
pub(crate) async fn claim(table: &mut Table) -> Result<(), StageError> {
    match table.claim().await.map_err(lake_error)? {
        CommitOutcome::Written { .. } => Ok(()),
        CommitOutcome::Conflict => {
            let text = "another writer committed meanwhile; looking at the table anew".to_owned();
            Err(StageError::Unavailable(text))
        }
    }
}

/// What is said of an error met while `table` was open. A file that is missing is no damage where
/// another program wrote the table meanwhile: it may have replaced and removed it.
pub(crate) async fn told_of(table: Option<&Table>, error: StageError) -> StageError {
    let (Some(table), StageError::Corrupt(what)) = (table, &error) else { return error };
    match table.look().await {
        Ok(standing) if standing != Standing::Same => StageError::Unavailable(format!(
            "{what}; another writer committed meanwhile, planning anew"
        )),
        _ => error,
    }
}

/// Commits a compaction, and tells of it.
pub(crate) async fn commit(
    table: &mut Table,
    compacted: Compacted,
    done: &mut Maintained,
) -> Result<CompactionOutcome, LakeError> {
    let (files, rows, read) = (compacted.files(), compacted.rows(), compacted.bytes_read);
    let outcome = table.commit_compaction(compacted).await?;
    done.bytes_read += read;
    match &outcome {
        CompactionOutcome::Dropped => done.dropped += 1,
        CompactionOutcome::Done { to, bytes, .. } => {
            done.compactions += 1;
            done.files_read += files as u64;
            done.files_written += u64::from(to.is_some());
            done.rows_moved += rows;
            done.bytes_written += bytes;
        }
    }
    Ok(outcome)
}

/// Removes files that nothing refers to; `keep` tells which objects in the folder `beside` stay. Some
/// of them, or `all`.
pub(crate) async fn collect(
    upkeep: &mut TableUpkeep,
    table: &mut Table,
    (beside, keep): (&str, &(dyn Fn(&Path) -> bool + Sync)),
    all: bool,
    done: &mut Maintained,
) -> Result<(), LakeError> {
    loop {
        let (removed, more) = upkeep.collect(table, beside, keep).await?;
        done.objects_removed += removed;
        if !(all && more) {
            return Ok(());
        }
    }
}

/// Looks after the log, and tells of it.
pub(crate) async fn keep_log(
    upkeep: &mut TableUpkeep,
    table: &mut Table,
    all: bool,
    done: &mut Maintained,
) -> Result<(), LakeError> {
    let kept = upkeep.keep_log(table, all).await?;
    done.checkpoints += kept.checkpoints;
    done.bytes_written += kept.bytes;
    done.objects_removed += kept.removed;
    Ok(())
}

//! A shadow takes the place of the table, in one commit.

use alluvium_lake::index::KeyIndex;
use alluvium_lake::{Replacement, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{Stage, StageError};

use super::Shadow;
use crate::silver::{SIDE_FILES, SilverStage, distrust, lake_error};

/// A shadow whose files stand beside those of the table already, and are part of nothing yet. Given
/// up, it leaves orphans behind, which do no harm.
pub struct Swap<'s> {
    shadow: &'s Shadow,
    replacement: Replacement,
    txns: Vec<(String, i64)>,
    rows: u64,
}

/// What became of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// The version of the table.
    pub version: i64,
    /// How far silver is with it.
    pub progress: Progress,
    /// How many rows it has.
    pub rows: u64,
}

impl<'s> Swap<'s> {
    /// Copies all that the shadow consists of into the folder of the entity's silver table, durably.
    /// May be done again, however far it came before. History that the table has removed is not
    /// brought back. `progress` is told how many of how many files are there.
    pub async fn prepare(
        shadow: &'s mut Shadow,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Self, StageError> {
        let id = shadow.entity.id();
        if shadow.records().0 == 0 {
            let text = format!("raw has nothing of {id} that its table could be made from");
            return Err(StageError::Mismatch(text));
        }
        Box::pin(shadow.stage.expire_known()).await?;
        let target = path::silver(&id);
        let table = shadow.table().await?;
        let rows = table.rows();
        let txns = Box::pin(shadow.stage.succeed(&table, &target)).await?;
        let replacement = Replacement::prepare(table, &target, &[SIDE_FILES], progress)
            .await
            .map_err(lake_error)?;
        Ok(Self { shadow, replacement, txns, rows })
    }

    /// Makes the shadow the table, and `index`, which is the table's, fit it. Nobody else may write
    /// the table. Where this is broken off, the table is the old one or the new one, and whatever
    /// the index holds is not believed.
    pub async fn commit(self, index: &KeyIndex) -> Result<Swapped, StageError> {
        let Self { shadow, replacement, txns, rows } = self;
        // Before the commit: two tables may have a version of the same number.
        distrust(index)?;
        let version = replacement.commit(&txns).await.map_err(lake_error)?;
        let (lake, index) = (shadow.lake.clone(), index.clone());
        let mut stage = SilverStage::new(lake, index, &shadow.entity, &shadow.timezone)?;
        let progress = stage.progress().await?;
        let progress = progress.ok_or_else(|| {
            StageError::Bug("a table that was swapped has no progress".to_owned())
        })?;
        Ok(Swapped { version, progress, rows })
    }
}

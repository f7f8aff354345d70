//! What a rebuild needs to know of silver: its stage on another table, and its side files.

use alluvium_lake::index::KeyIndex;
use alluvium_lake::{Lake, Table};
use alluvium_model::StageError;
use object_store::path::Path;

use super::border::{self, Borders};
use super::closing::Closings;
use super::hidden::{self, SideFile};
use super::{SilverStage, index_error, lake_error};

/// The folder of a silver table, relative to it, that holds what is remembered beside its rows.
pub(crate) const SIDE_FILES: &str = "_alluvium/hidden";

impl SilverStage {
    /// The same stage on the table at `table`.
    pub(crate) fn at(mut self, table: Path) -> Self {
        self.shape.path = table;
        self
    }

    /// The transactions with which `table`, which this stage filled, takes the place of the one at
    /// `target`: where it remembers nothing beside its rows, an empty side file says so, for what
    /// its predecessor remembered must be forgotten. That file stands at `target` then.
    pub(crate) async fn succeed(
        &self,
        table: &Table,
        target: &Path,
    ) -> Result<Vec<(String, i64)>, StageError> {
        let last = table.txn(hidden::TXN);
        if let Some(last) = last.filter(|_| self.inherited.is_empty()) {
            return Ok(vec![(hidden::TXN.to_owned(), last)]);
        }
        let mut side = SideFile::new(&self.shape.columns, last);
        let mut txns = Vec::new();
        if !self.inherited.is_empty() {
            let open = self.open.as_ref().ok_or_else(|| {
                StageError::Unavailable("the table that was made is not open; try again".to_owned())
            })?;
            side.whole(&open.closings.write());
            let newest = self.inherited.newest().unwrap_or_default();
            txns.push((border::TXN.to_owned(), newest));
        }
        let written = side.write(&self.lake, target).await.map_err(lake_error)?;
        txns.push((hidden::TXN.to_owned(), written.0));
        Ok(txns)
    }

    /// The same stage, on a table that is to be as if `borders` had been drawn in their places.
    pub(crate) fn within(mut self, borders: Borders) -> Self {
        self.inherited = borders;
        self
    }
}

/// The borders that a table remembers; none where what it remembers does not read.
pub(crate) async fn borders_of(lake: &Lake, table: &Table) -> Borders {
    if table.txn(border::TXN).is_none() {
        return Borders::default();
    }
    let borders = match hidden::read_whole(lake, table.path(), table.txn(hidden::TXN)).await {
        Ok(whole) => whole.and_then(|whole| Closings::borders_in(&whole)),
        Err(error) => {
            tracing::warn!(table = %table.path(), %error, "what the table remembers does not read");
            None
        }
    };
    borders.unwrap_or_default()
}

/// Makes the index fit no version of the table: it is rebuilt when the stage opens.
pub(crate) fn distrust(index: &KeyIndex) -> Result<(), StageError> {
    index.distrust().map_err(index_error)
}

//! What a rebuild needs to know of silver: its stage on another table, and its side files.

use alluvium_lake::Table;
use alluvium_lake::index::KeyIndex;
use alluvium_model::StageError;
use object_store::path::Path;

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
        let last = match table.txn(hidden::TXN) {
            Some(last) => last,
            None => {
                let nothing = SideFile::new(&self.shape.columns, None);
                nothing.write(&self.lake, target).await.map_err(lake_error)?.0
            }
        };
        Ok(vec![(hidden::TXN.to_owned(), last)])
    }
}

/// Makes the index fit no version of the table: it is rebuilt when the stage opens.
pub(crate) fn distrust(index: &KeyIndex) -> Result<(), StageError> {
    index.distrust().map_err(index_error)
}

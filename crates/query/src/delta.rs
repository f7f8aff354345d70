//! Delta tables, at their newest version or an earlier one, deletion vectors honoured.

use std::sync::Arc;

use alluvium_lake::{Lake, Versions};
use deltalake::datafusion::catalog::TableProvider;
use object_store::path::Path;

use crate::moment::TableTime;
use crate::{QueryError, TableName};

/// The table at `path`, as of `time` if that is given; `None` if there is none.
pub(crate) async fn open(
    lake: &Lake,
    path: &Path,
    name: &TableName,
    time: Option<TableTime>,
) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
    let failed = |error| QueryError::Unavailable(Box::new(error));
    let mut builder = alluvium_lake::reader(lake, path).map_err(failed)?;
    if let Some(time) = time {
        let Some(versions) = Versions::of(lake, path).await? else { return Ok(None) };
        builder = builder.with_version(time.choose(&versions, name).await?);
    } else if !lake.is_any_below(&path.clone().join("_delta_log")).await? {
        // The engine says of a missing table what it says of a damaged one.
        return Ok(None);
    }
    let table = builder.load().await.map_err(failed)?;
    Ok(Some(table.table_provider().await?))
}

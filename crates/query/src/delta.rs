//! Delta tables, at their newest version, deletion vectors honoured.

use std::sync::Arc;

use alluvium_lake::{Lake, LakeError};
use deltalake::DeltaTableBuilder;
use deltalake::datafusion::catalog::TableProvider;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::QueryError;

/// The table at `path`; `None` if there is none.
pub(crate) async fn open(
    lake: &Lake,
    path: &Path,
) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
    if !is_there(lake, path).await? {
        return Ok(None);
    }
    let failed = |error| QueryError::Unavailable(Box::new(error));
    let builder = DeltaTableBuilder::from_url(lake.url_of(path)).map_err(failed)?;
    let table = builder.load().await.map_err(failed)?;
    Ok(Some(table.table_provider().await?))
}

/// Whether there is a log. The engine says of a missing table what it says of a damaged one.
async fn is_there(lake: &Lake, path: &Path) -> Result<bool, LakeError> {
    let log = path.clone().join("_delta_log");
    match lake.store().list(Some(&log)).next().await {
        None | Some(Err(object_store::Error::NotFound { .. })) => Ok(false),
        Some(Ok(_)) => Ok(true),
        Some(Err(source)) => {
            Err(LakeError::Unavailable { what: format!("listing {log}"), source: Box::new(source) })
        }
    }
}

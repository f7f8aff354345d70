//! Delta tables, at their newest version or an earlier one, deletion vectors honoured.

use std::sync::Arc;

use alluvium_lake::{Lake, LakeError, Versions};
use deltalake::DeltaTableBuilder;
use deltalake::datafusion::catalog::TableProvider;
use futures::StreamExt;
use object_store::ObjectStore;
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
    let mut builder = DeltaTableBuilder::from_url(lake.url_of(path)).map_err(failed)?;
    if let Some(time) = time {
        let Some(versions) = Versions::of(lake, path).await? else { return Ok(None) };
        builder = builder.with_version(time.choose(&versions, name).await?);
    } else if !is_there(lake, path).await? {
        return Ok(None);
    }
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

//! The lake's tables as the Delta library opens them: to be read by others than their writer.

use std::sync::Arc;

use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
};
use deltalake::{DeltaResult, DeltaTableBuilder};
use object_store::path::Path;
use url::Url;

use crate::Lake;

/// Opens the table at `path` by the Delta library, on the lake's own store.
pub fn reader(lake: &Lake, path: &Path) -> DeltaResult<DeltaTableBuilder> {
    let url = lake.url_of(path);
    let builder = DeltaTableBuilder::from_url(url.clone())?;
    let Some((store, _)) = lake.root() else { return Ok(builder) };
    know(&url);
    Ok(builder.with_storage_backend(store, url))
}

/// The library asks for a log store by the scheme of an address, and knows none for buckets.
fn know(url: &Url) {
    if let Ok(scheme) = Url::parse(&format!("{}://", url.scheme())) {
        logstore_factories().entry(scheme).or_insert_with(|| Arc::new(Plain));
    }
}

/// The log store that needs nothing but the object store.
struct Plain;

impl LogStoreFactory for Plain {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}

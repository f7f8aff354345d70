//! An upload in parts. It is given up where it is dropped unfinished, for its parts are paid for
//! and seen by nobody.

use std::sync::Arc;

use alluvium_model::Secret;
use async_trait::async_trait;
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, PutResult, Result, UploadPart,
};
use tokio::runtime::Handle;

use super::answer::cleaned;

/// An upload under a name that nobody else uses.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    secrets: Arc<[Secret]>,
    location: Path,
    size: u64,
    /// Gone once it is complete or given up.
    inner: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        secrets: Arc<[Secret]>,
        location: Path,
        inner: Box<dyn MultipartUpload>,
    ) -> Self {
        Self { store, secrets, location, size: 0, inner: Some(inner) }
    }

    fn over(&self) -> Error {
        let source = format!("the upload of {} is over", self.location).into();
        Error::Generic { store: "S3", source }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.size += data.content_length() as u64;
        match &mut self.inner {
            Some(inner) => {
                let (part, secrets) = (inner.put_part(data), Arc::clone(&self.secrets));
                Box::pin(async move { part.await.map_err(|e| cleaned(e, &secrets)) })
            }
            None => Box::pin(std::future::ready(Err(self.over()))),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(inner) = &mut self.inner else { return Err(self.over()) };
        let result = match inner.complete().await {
            // An answer that was lost: asked again, the store knows no such upload any more.
            Err(error @ Error::NotFound { .. }) => match self.store.head(&self.location).await {
                Ok(meta) if meta.size == self.size => {
                    Ok(PutResult { e_tag: meta.e_tag, version: meta.version })
                }
                _ => Err(error),
            },
            result => result,
        };
        if result.is_ok() {
            self.inner = None;
        }
        result.map_err(|e| cleaned(e, &self.secrets))
    }

    async fn abort(&mut self) -> Result<()> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let aborted = inner.abort().await;
        if is_left(&aborted) {
            // Tried once more when this is dropped, as if it is interrupted.
            return aborted.map_err(|e| cleaned(e, &self.secrets));
        }
        self.inner = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut inner), Ok(runtime)) = (self.inner.take(), Handle::try_current()) else {
            return;
        };
        let location = self.location.clone();
        runtime.spawn(async move {
            if is_left(&inner.abort().await) {
                tracing::warn!(%location, "the parts of an unfinished upload could not be removed");
            }
        });
    }
}

/// Whether there may still be parts after this. An upload that the store does not know is complete,
/// or was given up before.
fn is_left(aborted: &Result<()>) -> bool {
    matches!(aborted, Err(error) if !matches!(error, Error::NotFound { .. }))
}

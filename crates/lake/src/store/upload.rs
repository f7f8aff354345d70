//! Uploads in parts: they appear under their name once they are complete and durable.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::disk::{failed, put_in_place};
use super::durable::blocking;

/// An upload in parts, durable once complete.
#[derive(Debug)]
pub(super) struct Upload {
    file: Arc<Mutex<File>>,
    offset: u64,
    aside: PathBuf,
    target: PathBuf,
}

impl Upload {
    /// An upload to `target` by way of `file`, which is `aside`.
    pub(super) fn new(file: File, aside: PathBuf, target: PathBuf) -> Self {
        Self { file: Arc::new(Mutex::new(file)), offset: 0, aside, target }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.offset;
        self.offset += data.content_length() as u64;
        let file = Arc::clone(&self.file);
        let target = self.target.clone();
        blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset))
                .and_then(|_| data.iter().try_for_each(|chunk| file.write_all(chunk)))
                .map_err(|e| failed("writing", &target, e))
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let file = Arc::clone(&self.file);
        let (aside, target) = (self.aside.clone(), self.target.clone());
        blocking(move || {
            let synced = file.lock().unwrap_or_else(PoisonError::into_inner).sync_data();
            synced
                .and_then(|()| put_in_place(&aside, &target, false))
                .map_err(|e| failed("writing", &target, e))
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let aside = self.aside.clone();
        blocking(move || fs::remove_file(&aside).map_err(|e| failed("removing", &aside, e))).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Not there any more once complete; what cannot be removed is collected as a leftover.
        fs::remove_file(&self.aside).ok();
    }
}

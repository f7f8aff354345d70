//! A local store whose puts are durable when they return.
//!
//! `LocalFileSystem` renames into place what the disk may not hold yet. Here an object is written
//! aside, synced, and only then linked to its name, whose folder is synced too: after a power cut
//! an object is there whole, or not at all.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path as FsPath, PathBuf};
use std::time::SystemTime;

use alluvium_model::Clock;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use uuid::Uuid;

use super::disk::{
    collect_leftovers, create_folders, failed, put_in_place, sync, write_aside, write_unsynced,
};
use super::upload::Upload;

/// Where unfinished writes stand, below the root.
const STAGING: &str = ".staging";
/// How many files are synced at once.
const PARALLEL_SYNCS: usize = 16;

/// A folder on the local disk as an object store. Every put is durable when it returns, and
/// `PutMode::Create` fails with `AlreadyExists` if the object is there.
#[derive(Debug)]
pub struct DurableLocal {
    inner: LocalFileSystem,
    staging: PathBuf,
}

impl DurableLocal {
    /// The store in `root`, which must be there. Removes what writes left behind that broke off
    /// more than a day ago.
    pub fn open(root: &FsPath, clock: &dyn Clock) -> Result<Self> {
        let staging = root.join(STAGING);
        create_folders(&staging).map_err(|e| failed("making", &staging, e))?;
        collect_leftovers(&staging, SystemTime::from(clock.now()))
            .map_err(|e| failed("clearing", &staging, e))?;
        Ok(Self { inner: LocalFileSystem::new_with_prefix(root)?, staging })
    }

    /// Writes an object under a name that is not taken, without waiting for the disk: it is durable
    /// only after [`sync_all`](Self::sync_all).
    pub async fn put_unsynced(&self, location: &Path, payload: PutPayload) -> Result<()> {
        let target = self.inner.path_to_filesystem(location)?;
        blocking(move || {
            write_unsynced(&target, &payload).map_err(|e| failed("writing", &target, e))
        })
        .await
    }

    /// Makes objects durable that were put unsynced: the files in parallel, then their folders.
    pub async fn sync_all(&self, locations: &[Path]) -> Result<()> {
        let files: Result<Vec<PathBuf>> =
            locations.iter().map(|l| self.inner.path_to_filesystem(l)).collect();
        let files = files?;
        let folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|f| f.parent()).map(FsPath::to_path_buf).collect();
        sync_each(files).await?;
        sync_each(folders).await
    }

    /// A place aside, invisible to listings: the inner store skips names that end in `#` and digits.
    fn aside(&self) -> PathBuf {
        self.staging.join(format!("{}#0", Uuid::new_v4().simple()))
    }

    /// Makes the folder that an object is to stand in, if it is not there, durably.
    async fn make_folder_of(&self, location: &Path) -> Result<()> {
        let target = self.inner.path_to_filesystem(location)?;
        let Some(folder) = target.parent().map(FsPath::to_path_buf) else { return Ok(()) };
        blocking(move || create_folders(&folder).map_err(|e| failed("making", &folder, e))).await
    }

    /// Syncs the folder of an object after something was linked into it.
    async fn sync_folder_of(&self, location: &Path) -> Result<()> {
        let target = self.inner.path_to_filesystem(location)?;
        let Some(folder) = target.parent().map(FsPath::to_path_buf) else { return Ok(()) };
        blocking(move || sync(&folder).map_err(|e| failed("syncing", &folder, e))).await
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "durable {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let only_if_absent = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_implemented("put with PutMode::Update")),
        };
        let target = self.inner.path_to_filesystem(location)?;
        let aside = self.aside();
        blocking(move || {
            let written = write_aside(&aside, &payload)
                .and_then(|()| put_in_place(&aside, &target, only_if_absent));
            // After a link or a failure the file aside is of no use; if it cannot be removed, it
            // is collected as a leftover.
            if written.is_err() || only_if_absent {
                fs::remove_file(&aside).ok();
            }
            written.map_err(|e| failed("writing", &target, e))
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        let aside = self.aside();
        let created = aside.clone();
        let file = blocking(move || {
            File::create_new(&created).map_err(|e| failed("writing", &created, e))
        })
        .await?;
        Ok(Box::new(Upload::new(file, aside, target)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.common_prefixes.retain(|folder| folder.as_ref() != STAGING);
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.make_folder_of(to).await?;
        self.inner.copy_opts(from, to, options).await?;
        self.sync_folder_of(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.make_folder_of(to).await?;
        self.inner.rename_opts(from, to, options).await?;
        self.sync_folder_of(to).await?;
        self.sync_folder_of(from).await
    }
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

async fn sync_each(paths: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    stream::iter(
        paths
            .into_iter()
            .map(|path| blocking(move || sync(&path).map_err(|e| failed("syncing", &path, e)))),
    )
    .buffer_unordered(PARALLEL_SYNCS)
    .try_collect()
    .await
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "DurableLocal".to_owned(),
    }
}

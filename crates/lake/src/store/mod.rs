//! The store beneath the lake.

mod blob;
mod disk;
mod durable;
mod probe;
mod s3;
mod upload;

use std::future::ready;
use std::path::Path as FsPath;
use std::sync::Arc;

use alluvium_model::{Clock, Ownership};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload,
};
use url::Url;

pub(crate) use blob::{Blob, Pages, Remote};
pub use durable::DurableLocal;
pub(crate) use s3::{Answer, Blame};
pub use s3::{Credentials, S3Settings};

use crate::LakeError;

/// The lake: an object store, where it stands, and the clock. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    place: Place,
    url: Url,
    clock: Arc<dyn Clock>,
    owner: Option<Ownership>,
}

/// What the lake's store is.
#[derive(Debug, Clone)]
enum Place {
    Folder(Arc<DurableLocal>),
    Bucket {
        /// The whole bucket, of which the lake may be a part.
        root: Arc<dyn ObjectStore>,
        /// So far the store's clock was found to be behind ours.
        behind: TimeDelta,
    },
}

/// What became of putting an object where none may be yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was written, and is durable.
    Written,
    /// There was one; it is untouched.
    AlreadyThere,
}

impl Lake {
    /// The lake in the folder `root`, which is made if it is not there. Removes what writes that
    /// broke off more than a day ago left behind.
    pub fn local(root: &FsPath, clock: Arc<dyn Clock>) -> Result<Lake, LakeError> {
        let failed = |e| LakeError::io(format!("opening the lake at {}", root.display()), e);
        let root = std::path::absolute(root).map_err(failed)?;
        disk::create_folders(&root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let url = Url::from_directory_path(&root)
            .map_err(|()| LakeError::Mismatch(format!("{} is no folder", root.display())))?;
        let local = DurableLocal::open(&root, clock.as_ref())
            .map_err(|e| LakeError::store(format!("opening the lake at {}", root.display()), e))?;
        let local = Arc::new(local);
        Ok(Lake {
            store: Arc::clone(&local) as Arc<dyn ObjectStore>,
            place: Place::Folder(local),
            url,
            clock,
            owner: None,
        })
    }

    /// The lake in a bucket. Nothing is asked of the store yet: who is going to write asks
    /// [`fit_to_write`](Self::fit_to_write) first.
    pub fn s3(settings: &S3Settings, clock: Arc<dyn Clock>) -> Result<Lake, LakeError> {
        let root: Arc<dyn ObjectStore> = Arc::new(settings.open()?);
        let store = PrefixStore::new(Arc::clone(&root), settings.folder()?);
        Ok(Lake {
            store: Arc::new(store),
            place: Place::Bucket { root, behind: TimeDelta::zero() },
            url: settings.url()?,
            clock,
            owner: None,
        })
    }

    /// The lake, once its store has shown that it refuses to write what is there already: all that
    /// is exactly once rests on that. The folder of a local lake needs no proof.
    ///
    /// # Errors
    /// [`LakeError::Unfit`] if the store does not, which says what was seen.
    pub async fn fit_to_write(self) -> Result<Lake, LakeError> {
        let Place::Bucket { root, .. } = &self.place else { return Ok(self) };
        let behind = probe::prove(&self).await?;
        let place = Place::Bucket { root: Arc::clone(root), behind };
        Ok(Lake { place, ..self })
    }

    /// The whole store that the lake is a part of, and its address, where readers of Delta tables
    /// must be given it; `None` for a folder, which they find by its URL.
    pub fn root(&self) -> Option<(Arc<dyn ObjectStore>, Url)> {
        let Place::Bucket { root, .. } = &self.place else { return None };
        let mut url = self.url.clone();
        url.set_path("/");
        Some((Arc::clone(root), url))
    }

    /// The same lake in the hands of an owner: what is written through it is written only as long as
    /// the owner's lease can be relied upon, and tables are written only by their latest owner.
    #[must_use]
    pub fn held_by(&self, owner: Ownership) -> Lake {
        Lake { owner: Some(owner), ..self.clone() }
    }

    /// Whose hands it is in; `None` where nobody else can write.
    pub fn owner(&self) -> Option<&Ownership> {
        self.owner.as_ref()
    }

    /// That the lease holds now. Asked just before whatever others may build upon.
    pub(crate) fn guard(&self, doing: impl FnOnce() -> String) -> Result<(), LakeError> {
        match &self.owner {
            Some(owner) if !owner.holds() => {
                let token = owner.token().0;
                Err(LakeError::Fenced(format!("{}: lease {token} is over", doing())))
            }
            _ => Ok(()),
        }
    }

    /// The store, its root being the lake's. A put is durable when it returns.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Where the lake stands. Ends in a slash.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where `path` stands. Ends in a slash, so that it can be a table's.
    pub fn url_of(&self, path: &Path) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.parts()).push("");
        }
        url
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Writes an object where none is yet; durable when it returns. [`LakeError::Fenced`] where the
    /// owner's lease is over.
    pub async fn create(&self, path: &Path, payload: PutPayload) -> Result<Created, LakeError> {
        self.guard(|| format!("writing {path}"))?;
        match self.store.put_opts(path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Written),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                Ok(Created::AlreadyThere)
            }
            Err(error) => Err(LakeError::store(format!("writing {path}"), error)),
        }
    }

    /// Writes an object, or replaces it as a whole; durable when it returns.
    pub async fn put(&self, path: &Path, payload: PutPayload) -> Result<(), LakeError> {
        let put = self.store.put(path, payload).await;
        put.map(drop).map_err(|e| LakeError::store(format!("writing {path}"), e))
    }

    /// Writes an object under a name that nobody else uses; durable only after
    /// [`sync_all`](Self::sync_all). For the several files of one commit.
    pub async fn put_unsynced(&self, path: &Path, payload: PutPayload) -> Result<(), LakeError> {
        let put = match &self.place {
            Place::Folder(local) => local.put_unsynced(path, payload).await,
            Place::Bucket { .. } => self.store.put(path, payload).await.map(drop),
        };
        put.map_err(|e| LakeError::store(format!("writing {path}"), e))
    }

    /// Makes objects durable that were written unsynced, all at once.
    pub async fn sync_all(&self, paths: &[Path]) -> Result<(), LakeError> {
        match &self.place {
            Place::Folder(local) => {
                let what = || format!("syncing {} files", paths.len());
                local.sync_all(paths).await.map_err(|error| match error {
                    // No commit has named it yet: nothing is damaged, and it can be written anew.
                    StoreError::NotFound { path, .. } => LakeError::Unavailable {
                        what: what(),
                        source: format!("another program has removed {path}").into(),
                    },
                    error => LakeError::store(what(), error),
                })
            }
            // Its puts are durable when they return.
            Place::Bucket { .. } => Ok(()),
        }
    }

    /// The whole object; `None` if it is not there.
    pub async fn get(&self, path: &Path) -> Result<Option<Bytes>, LakeError> {
        let got = match self.store.get(path).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(LakeError::store(format!("reading {path}"), error)),
        }
    }

    /// Removes an object; none being there is fine.
    pub async fn delete(&self, path: &Path) -> Result<(), LakeError> {
        match self.store.delete(path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(LakeError::store(format!("deleting {path}"), error)),
        }
    }

    /// Removes objects, several at once, as long as the owner's lease holds; none being there is
    /// fine.
    pub async fn delete_all(&self, paths: Vec<Path>) -> Result<(), LakeError> {
        let owner = self.owner.clone();
        let holds = move |_: &Path| ready(owner.as_ref().is_none_or(Ownership::holds));
        let doomed = stream::iter(paths).take_while(holds).map(Ok).boxed();
        let mut deleted = self.store.delete_stream(doomed);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(LakeError::store("deleting objects", error)),
            }
        }
        self.guard(|| "deleting objects".to_owned())
    }

    /// Before which time of the store's own clock something was written that was written before
    /// `before_ms` by ours, in milliseconds since 1970. Where the two differ, the earlier counts.
    pub(crate) fn written_before(&self, before_ms: i64) -> DateTime<Utc> {
        let behind = match &self.place {
            Place::Folder(_) => TimeDelta::zero(),
            Place::Bucket { behind, .. } => *behind,
        };
        let before = DateTime::from_timestamp_millis(before_ms).unwrap_or(DateTime::UNIX_EPOCH);
        before.checked_sub_signed(behind).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// All objects below `prefix`, ordered by path.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, LakeError> {
        let listed: Result<Vec<_>, _> = self.store.list(Some(prefix)).try_collect().await;
        let mut listed = listed.map_err(|e| LakeError::store(format!("listing {prefix}"), e))?;
        listed.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(listed)
    }

    /// The first `bytes` of an object, or all of it if it is shorter; `None` if it is not there.
    pub(crate) async fn head(&self, path: &Path, bytes: u64) -> Result<Option<Bytes>, LakeError> {
        let range = GetOptions { range: Some(GetRange::Bounded(0..bytes)), ..Default::default() };
        let got = match self.store.get_opts(path, range).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => match self.store.head(path).await {
                // A range of nothing is refused, though there is nothing wrong with asking.
                Ok(meta) if meta.size == 0 => Ok(Some(Bytes::new())),
                _ => Err(LakeError::store(format!("reading {path}"), error)),
            },
        }
    }

    /// The object, to be read from another thread; not loaded where it is a local file.
    pub(crate) async fn open(&self, path: &Path) -> Result<Blob, LakeError> {
        let got = self.store.get(path).await;
        let got = got.map_err(|e| LakeError::store(format!("reading {path}"), e))?;
        Blob::of(got).await.map_err(|e| LakeError::store(format!("reading {path}"), e))
    }

    /// A Parquet file of `size` bytes, to be read from another thread: only what is asked for.
    pub(crate) async fn open_pages(&self, path: &Path, size: u64) -> Result<Pages, LakeError> {
        match &self.place {
            Place::Folder(_) => self.open(path).await.map(Pages::At),
            Place::Bucket { .. } => Ok(Pages::remote(Arc::clone(&self.store), path.clone(), size)),
        }
    }

    /// The folders directly below `prefix`, in order.
    pub async fn folders(&self, prefix: &Path) -> Result<Vec<Path>, LakeError> {
        match self.store.list_with_delimiter(Some(prefix)).await {
            Ok(mut listed) => {
                listed.common_prefixes.sort_unstable();
                Ok(listed.common_prefixes)
            }
            Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(LakeError::store(format!("listing {prefix}"), error)),
        }
    }

    /// Whether anything stands below `prefix`.
    pub async fn is_any_below(&self, prefix: &Path) -> Result<bool, LakeError> {
        match self.store.list(Some(prefix)).next().await {
            None | Some(Err(StoreError::NotFound { .. })) => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => Err(LakeError::store(format!("listing {prefix}"), error)),
        }
    }
}

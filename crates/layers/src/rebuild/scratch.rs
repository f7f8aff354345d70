//! The place where one shadow of an entity is made at a time, whoever makes it.
//!
//! A file that stays is locked for as long as somebody works there; the index stands in a folder
//! beside it, the table in the lake. What a process that was killed left behind is known by the
//! lock that nobody holds any more.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use alluvium_lake::{Lake, LakeError, path};
use alluvium_model::{EntityId, StageError};

use crate::silver::lake_error;

/// The claim to an entity's shadow; given up when dropped.
pub(super) struct Scratch {
    lake: Lake,
    entity: EntityId,
    folder: PathBuf,
    claim: File,
}

impl Scratch {
    /// Claims the shadow of `entity` below `scratch`, and removes what was left behind there.
    /// `None` while another process works there.
    pub(super) async fn claim(
        lake: &Lake,
        entity: &EntityId,
        scratch: &Path,
    ) -> Result<Option<Self>, StageError> {
        fs::create_dir_all(scratch).map_err(|e| local(scratch, &e))?;
        let file = scratch.join(format!("{entity}.lock"));
        let claim = File::create(&file).map_err(|e| local(&file, &e))?;
        match claim.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(local(&file, &error)),
        }
        let folder = scratch.join(entity.to_string());
        let claimed = Self { lake: lake.clone(), entity: entity.clone(), folder, claim };
        claimed.clear().await?;
        Ok(Some(claimed))
    }

    /// Where the index stands.
    pub(super) fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// Removes all that was made, and gives the claim up.
    pub(super) async fn remove(self) -> Result<(), StageError> {
        self.clear().await?;
        self.claim.unlock().map_err(|e| local(&self.folder, &e))
    }

    async fn clear(&self) -> Result<(), StageError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(local(&self.folder, &error));
            }
            _ => {}
        }
        let table = path::shadow_of_silver(&self.entity);
        remove_below(&self.lake, &table).await.map_err(lake_error)
    }
}

/// Removes the shadows that processes left behind which were killed. `scratch` is the folder that
/// they were made in.
pub async fn remove_leftovers(lake: &Lake, scratch: &Path) -> Result<(), StageError> {
    let entries = match fs::read_dir(scratch) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| local(scratch, &e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| local(scratch, &e))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let entity = entry.file_name().to_string_lossy().parse();
        let (true, Ok(entity)) = (is_folder, entity) else { continue };
        // Claiming clears.
        if let Some(leftover) = Scratch::claim(lake, &entity, scratch).await? {
            leftover.remove().await?;
        }
    }
    Ok(())
}

async fn remove_below(lake: &Lake, folder: &object_store::path::Path) -> Result<(), LakeError> {
    let objects = lake.list(folder).await?.into_iter();
    lake.delete_all(objects.map(|object| object.location).collect()).await
}

fn local(path: &Path, error: &io::Error) -> StageError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull => StageError::Full(text),
        _ => StageError::Unavailable(text),
    }
}

//! The place where a shadow of an entity is made: one at a time from each data folder, and each in a
//! folder of the lake that nobody else has.
//!
//! A file that stays is locked for as long as somebody works there; beside it stands a folder for
//! the index, named as the table's in the lake. So what a process that was killed left behind is
//! known by the lock that nobody holds any more. What was left by a data folder that is lost is
//! collected by age.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_lake::{Lake, path};
use alluvium_model::{EntityId, StageError};
use object_store::ObjectMeta;
use object_store::path::Path as LakePath;
use uuid::Uuid;

use crate::silver::lake_error;

/// Nobody works any more where nothing was written for so long.
const LEFTOVER_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The claim to an entity's shadow; given up when dropped.
pub(super) struct Scratch {
    lake: Lake,
    entity: EntityId,
    /// Of this entity, below which each shadow has a folder.
    folder: PathBuf,
    name: String,
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
        let name = Uuid::new_v4().simple().to_string();
        let claimed = Self { lake: lake.clone(), entity: entity.clone(), folder, name, claim };
        claimed.clear().await?;
        let index = claimed.index();
        fs::create_dir_all(&index).map_err(|e| local(&index, &e))?;
        Ok(Some(claimed))
    }

    /// Where the index stands.
    pub(super) fn index(&self) -> PathBuf {
        self.folder.join(&self.name).join("index")
    }

    /// Where the table stands.
    pub(super) fn table(&self) -> LakePath {
        path::shadows_of_silver(&self.entity).join(self.name.as_str())
    }

    /// Removes all that was made, and gives the claim up.
    pub(super) async fn remove(self) -> Result<(), StageError> {
        self.clear().await?;
        self.claim.unlock().map_err(|e| local(&self.folder, &e))
    }

    /// Removes the shadows that were begun from here, and those of nobody.
    async fn clear(&self) -> Result<(), StageError> {
        let ours = names_in(&self.folder).map_err(|e| local(&self.folder, &e))?;
        let shadows = path::shadows_of_silver(&self.entity);
        let listed = self.lake.list(&shadows).await.map_err(lake_error)?;
        let now = self.lake.clock().now().as_millisecond();
        let mut doomed = Vec::new();
        for (name, objects) in by_folder(&shadows, listed) {
            let is_old = |object: &ObjectMeta| {
                now - object.last_modified.timestamp_millis() > LEFTOVER_AGE.as_millis() as i64
            };
            if ours.contains(&name) || objects.iter().all(is_old) {
                doomed.extend(objects.into_iter().map(|object| object.location));
            }
        }
        self.lake.delete_all(doomed).await.map_err(lake_error)?;
        // Last, for it is what tells that the others are ours.
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(local(&self.folder, &error)),
            _ => Ok(()),
        }
    }
}

/// Removes the shadows that processes left behind which were killed. `scratch` is the folder that
/// they were made in.
pub async fn remove_leftovers(lake: &Lake, scratch: &Path) -> Result<(), StageError> {
    for name in names_in(scratch).map_err(|e| local(scratch, &e))? {
        let Ok(entity) = name.parse() else { continue };
        // Claiming clears.
        if let Some(leftover) = Scratch::claim(lake, &entity, scratch).await? {
            leftover.remove().await?;
        }
    }
    Ok(())
}

/// The folders in a folder, if it is there.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Objects below `place` by the folder there that they are in.
fn by_folder(place: &LakePath, listed: Vec<ObjectMeta>) -> BTreeMap<String, Vec<ObjectMeta>> {
    let mut folders: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
    for object in listed {
        let first = object.location.prefix_match(place).and_then(|mut parts| parts.next());
        if let Some(name) = first.map(|part| part.as_ref().to_owned()) {
            folders.entry(name).or_default().push(object);
        }
    }
    folders
}

fn local(path: &Path, error: &io::Error) -> StageError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull => StageError::Full(text),
        _ => StageError::Unavailable(text),
    }
}

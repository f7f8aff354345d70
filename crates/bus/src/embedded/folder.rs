//! The bus's folder: that its names are on the disk, and what a kill or a power cut left in it,
//! mended before the engine opens it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use alluvium_model::BusError;

use super::journal::{self, Tail};
use super::mishap::explain;
use super::record::is_end;

/// How long the engine's mark of its version is. It is written last when a database is made.
const VERSION_BYTES: u64 = 4;

/// Mends what a kill or a power cut left, unless another process has the folder open.
pub(super) fn mend(path: &Path) -> Result<(), BusError> {
    let failed = |e| explain(&fjall::Error::Io(e), path);
    let lock = match OpenOptions::new().read(true).write(true).open(path.join("lock")) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let done = drop_unfinished(path)
        .map_err(failed)
        .and_then(|()| check_full_journals(path))
        .and_then(|()| cut_tail(path));
    lock.unlock().map_err(failed)?;
    done
}

/// Waits until the disk has the names of the open database's folders, and of those above it. The
/// engine sees to the names of its journals alone, and not where it was killed between making one
/// and its sync.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    sync_below(path)?;
    for folder in std::path::absolute(path)?.ancestors().skip(1) {
        match sync_folder(folder) {
            // What may not be read or written, or cannot be synced, had its names before.
            Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem) => {}
            Err(e) if matches!(e.kind(), InvalidInput | Unsupported) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Waits until the disk has the names in a folder.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_below(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The engine may be at work already, and remove files.
        if if_there(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
            sync_below(&entry.path())?;
        }
    }
    sync_folder(path)
}

/// Takes away what is left of a database that was not made to the end: the engine does not begin
/// anew over its files. Nothing stands in them yet.
fn drop_unfinished(path: &Path) -> io::Result<()> {
    let (version, first) = (path.join("version"), path.join("0.jnl"));
    let written = if_there(fs::metadata(&version))?.map_or(0, |file| file.len());
    let keyspaces = if_there(fs::read_dir(path.join("keyspaces")))?;
    if written >= VERSION_BYTES || keyspaces.is_some_and(|mut folders| folders.next().is_some()) {
        return Ok(());
    }
    if if_there(journal::is_blank(&first))? == Some(false) {
        return Ok(());
    }
    for file in [version, first] {
        if_there(fs::remove_file(file))?;
    }
    Ok(())
}

fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// The engine would drop what stands behind damage in a full journal without a word.
fn check_full_journals(path: &Path) -> Result<(), BusError> {
    let found = journal::damage(path).map_err(|e| explain(&fjall::Error::Io(e), path))?;
    found.map_or(Ok(()), |(journal, at)| Err(damaged(&journal, at)))
}

/// Cuts off a torn tail.
fn cut_tail(path: &Path) -> Result<(), BusError> {
    let failed = |e| explain(&fjall::Error::Io(e), path);
    let Some(tail) = Tail::of(path, is_end).map_err(failed)? else { return Ok(()) };
    let (place, bytes, at) = (path.display(), tail.len(), tail.at);
    if tail.was_acknowledged() {
        return Err(damaged(&tail.path, at));
    }
    match tail.cut().map_err(failed)? {
        None => {
            tracing::warn!(bytes, path = %place, "the bus was not closed properly; dropped a torn tail");
        }
        Some(aside) => tracing::error!(
            bytes, path = %place, kept = %aside.display(),
            "the bus was not closed properly; a page whose publisher was not told that it stands was \
             dropped with a torn tail"
        ),
    }
    Ok(())
}

fn damaged(journal: &Path, at: u64) -> BusError {
    BusError::Corrupt(format!(
        "the journal {} is damaged at byte {at}, and pages that were acknowledged stand behind \
         that: put back a copy of the folder, or remove it and go on as after a lost bus",
        journal.display()
    ))
}

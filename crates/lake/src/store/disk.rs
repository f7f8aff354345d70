//! What is done to the disk, on a thread that may block: files written whole, names made durable.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path as FsPath;
use std::time::{Duration, SystemTime};

use object_store::{Error, PutPayload};

/// After so long, an unfinished write is one that broke off.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes a file where none is, without waiting for the disk.
pub(super) fn write_unsynced(target: &FsPath, payload: &PutPayload) -> io::Result<()> {
    let mut file = match File::create_new(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_folder_of(target)?;
            File::create_new(target)?
        }
        other => other?,
    };
    let written = payload.iter().try_for_each(|chunk| file.write_all(chunk));
    if written.is_err() {
        // Half a file that nothing refers to: harmless, but it takes space that just ran out.
        fs::remove_file(target).ok();
    }
    written
}

/// Writes a file aside, and waits until the disk has it.
pub(super) fn write_aside(aside: &FsPath, payload: &PutPayload) -> io::Result<()> {
    let mut file = File::create_new(aside)?;
    payload.iter().try_for_each(|chunk| file.write_all(chunk))?;
    file.sync_data()
}

/// Gives what stands aside its name, and makes the name durable.
pub(super) fn put_in_place(
    aside: &FsPath,
    target: &FsPath,
    only_if_absent: bool,
) -> io::Result<()> {
    let place = || match only_if_absent {
        true => fs::hard_link(aside, target),
        false => fs::rename(aside, target),
    };
    match place() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_folder_of(target)?;
            place()?;
        }
        other => other?,
    }
    target.parent().map_or(Ok(()), sync)
}

fn create_folder_of(target: &FsPath) -> io::Result<()> {
    target.parent().map_or(Ok(()), create_folders)
}

/// Makes a folder and those above it; each is durable in the one above.
pub(super) fn create_folders(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(above) = folder.parent() else { return Ok(()) };
    create_folders(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync(above),
    }
}

/// Waits until the disk has a file, or the names in a folder.
pub(super) fn sync(path: &FsPath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes what was written so long ago that nobody is at it any more.
pub(super) fn collect_leftovers(staging: &FsPath, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        collect_leftover(&entry?.path(), now)?;
    }
    Ok(())
}

/// Another process may be at it: what it puts in place or removes is not there any more.
fn collect_leftover(aside: &FsPath, now: SystemTime) -> io::Result<()> {
    let is_leftover = |written| now.duration_since(written).is_ok_and(|age| age > LEFTOVER_AGE);
    let collected = match fs::symlink_metadata(aside).and_then(|meta| meta.modified()) {
        Ok(written) if is_leftover(written) => fs::remove_file(aside),
        other => other.map(drop),
    };
    match collected {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The store's error for what the disk said. Keeps the kind, by which a full disk is known.
pub(super) fn failed(doing: &str, path: &FsPath, source: io::Error) -> Error {
    let kind = source.kind();
    let path = path.display().to_string();
    match kind {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: Box::new(source) },
        ErrorKind::NotFound => Error::NotFound { path, source: Box::new(source) },
        ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: Box::new(source) },
        _ => {
            let source = io::Error::new(kind, format!("{doing} {path}: {source}"));
            Error::Generic { store: "durable local", source: Box::new(source) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_puts_in_place_meanwhile_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let aside = folder.path().join("x#0");
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        collect_leftover(&aside, later).unwrap();
        fs::write(&aside, "x").unwrap();
        collect_leftover(&aside, SystemTime::UNIX_EPOCH).unwrap();
        assert!(aside.exists());
        collect_leftover(&aside, later).unwrap();
        assert!(!aside.exists());
    }
}

//! What an error of the storage engine means.

use std::io;
use std::path::Path;

use alluvium_model::BusError;
use fjall::LsmError;

/// Says what happened to the bus in the folder at `path`.
pub(super) fn explain(error: &fjall::Error, path: &Path) -> BusError {
    let place = path.display();
    match error {
        fjall::Error::Locked => BusError::Unavailable(format!(
            "another alluvium process uses this data folder: {place}"
        )),
        fjall::Error::Io(e) | fjall::Error::Storage(LsmError::Io(e)) => explain_io(e, path),
        fjall::Error::Poisoned if disk_is_full(path) => {
            BusError::Full(format!("no space is left on the disk of {place}"))
        }
        fjall::Error::Poisoned => BusError::Unavailable(format!(
            "an earlier write to {place} failed; nothing more is taken until it is opened anew"
        )),
        other => BusError::Corrupt(format!("{place}: {other}")),
    }
}

fn explain_io(error: &io::Error, path: &Path) -> BusError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BusError::Full(text),
        _ => BusError::Unavailable(text),
    }
}

/// The engine does not say why a write in the background failed, so we try one.
fn disk_is_full(path: &Path) -> bool {
    let probe = path.join("probe");
    let written = std::fs::write(&probe, vec![0; 1 << 16]);
    let full = |e: &io::Error| {
        matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    };
    if let Err(e) = std::fs::remove_file(&probe)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(error = %e, "a probe file stays behind");
    }
    written.is_err_and(|e| full(&e))
}

/// Something that stands in the database and cannot be read.
pub(super) fn damaged(what: &str) -> BusError {
    BusError::Corrupt(format!("{what}; it cannot be read"))
}

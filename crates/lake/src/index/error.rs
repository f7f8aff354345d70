//! Why the index could not be used, and whether it is to blame itself.

use std::io::ErrorKind;
use std::path::PathBuf;

/// Why the index could not be used. It is a cache: the mend is always to rebuild it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has it open.
    #[error("the key index at {0} is in use by another process")]
    Locked(PathBuf),
    /// It could not be read or written.
    #[error("the key index failed")]
    Store(#[from] fjall::Error),
    /// An entry is not as it was written.
    #[error("the key index is damaged")]
    Damaged,
}

impl IndexError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        io_kind(self) == Some(ErrorKind::StorageFull)
    }

    /// Whether the index is not as it was written. Anything else may be gone at the next attempt.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Locked(_) => false,
            Self::Store(error) => io_kind(error).is_none_or(|kind| DAMAGED.contains(&kind)),
            Self::Damaged => true,
        }
    }
}

/// What the system says of a file that is not as it was written.
const DAMAGED: [ErrorKind; 4] = [
    ErrorKind::UnexpectedEof,
    ErrorKind::InvalidData,
    ErrorKind::InvalidInput,
    ErrorKind::NotFound,
];

/// Whether the system would not let us open it, which setting up anew does not mend.
pub(super) fn is_of_the_system(error: &fjall::Error) -> bool {
    matches!(error, fjall::Error::Io(io) if !DAMAGED.contains(&io.kind()))
}

/// The kind of the first I/O error in the chain.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut error = Some(error);
    while let Some(cause) = error {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        error = cause.source();
    }
    None
}

//! What can go wrong with the lake, grouped by what mends it.

use std::error::Error;
use std::fmt::Display;
use std::io;

use alluvium_model::{Remedy, error};

use crate::store::{Answer, Blame};

/// The cause of an error, as the library beneath gave it.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why the lake did not do what was asked. The texts carry paths and numbers, no row values.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The store did not answer as it should; it may mend itself.
    #[error("the lake is not available: {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Cause,
    },
    /// Another process owns what was to be written. Nothing was.
    #[error("another process owns what was to be written: {0}")]
    Fenced(String),
    /// The disk is full. What was being written is not there.
    #[error("no space is left in the lake: {what}")]
    Full {
        /// What was tried.
        what: String,
        /// The system's own words.
        #[source]
        source: Cause,
    },
    /// The store refused us.
    #[error("the lake refused access: {what}")]
    Refused {
        /// What was tried.
        what: String,
        /// The store's own words.
        #[source]
        source: Cause,
    },
    /// The store of a bucket does not let us do what a lake needs.
    #[error("the lake's store refused: {what}")]
    Denied {
        /// What was tried.
        what: String,
        /// The store's own words.
        #[source]
        source: Cause,
    },
    /// The store of a bucket cannot hold a lake that is written to.
    #[error(
        "the lake's store cannot hold a lake: {0}. Its conditional puts must work (`PutObject` \
         with `If-None-Match: *`), as those of Amazon S3, MinIO, Cloudflare R2 and Ceph do in their \
         present releases"
    )]
    Unfit(String),
    /// What stands in the lake is damaged, or something is missing.
    #[error("the lake is damaged: {0}")]
    Corrupt(String),
    /// What stands in the lake is sound, but not what the metadata describe.
    #[error("the lake does not fit the metadata: {0}")]
    Mismatch(String),
    /// A defect of ours.
    #[error("defect: {0}")]
    Bug(String),
}

impl LakeError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable { .. } | Self::Fenced(_) => Remedy::Retry,
            Self::Full { .. } => Remedy::Operator(
                "free space on the lake's disk; nothing unfinished was acknowledged",
            ),
            Self::Refused { .. } => {
                Remedy::Operator("let this user read and write the lake's folder and all below it")
            }
            Self::Denied { .. } => Remedy::Operator(
                "check `lake.url`, the region and the credentials, whose rights must include to \
                 list the bucket and to read, write and delete objects below the lake's prefix, \
                 and this machine's clock",
            ),
            Self::Unfit(_) => Remedy::Operator(
                "let the lake stand on a store whose conditional puts work, or in a folder",
            ),
            Self::Corrupt(_) => Remedy::Operator(
                "restore the named file from a copy, or rebuild the table from raw",
            ),
            Self::Mismatch(_) => Remedy::Operator(
                "undo the change of the metadata, or move the table away and rebuild",
            ),
            Self::Bug(_) => Remedy::Bug,
        }
    }

    /// What happened, and why, but not of which kind it is: for an error elsewhere that says the
    /// same kind in the same words.
    pub fn detail(&self) -> String {
        match self {
            Self::Unavailable { what, source }
            | Self::Full { what, source }
            | Self::Refused { what, source }
            | Self::Denied { what, source } => format!("{what}: {}", error::chain(&**source)),
            Self::Unfit(what)
            | Self::Corrupt(what)
            | Self::Mismatch(what)
            | Self::Fenced(what)
            | Self::Bug(what) => what.clone(),
        }
    }

    /// What became of doing `what` to the store.
    pub(crate) fn store(what: impl Display, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let what = what.to_string();
        if let Some(answer) = Answer::in_chain(&error) {
            let denied = matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. });
            match answer.blame() {
                Some(Blame::Settings) => return Self::Denied { what, source: Box::new(error) },
                Some(Blame::Room) => return Self::Full { what, source: Box::new(error) },
                _ if denied => return Self::Denied { what, source: Box::new(error) },
                _ => {}
            }
        }
        match error {
            E::NotFound { path, .. } => Self::Corrupt(format!("{what}: {path} is not there")),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Self::Refused { what, source: Box::new(error) }
            }
            E::InvalidPath { source } => Self::Corrupt(format!("{what}: {source}")),
            other => match io_kind(&other) {
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    Self::Full { what, source: Box::new(other) }
                }
                Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                    Self::Refused { what, source: Box::new(other) }
                }
                _ => Self::Unavailable { what, source: Box::new(other) },
            },
        }
    }

    /// What became of doing `what` to the local disk.
    pub(crate) fn io(what: impl Display, error: io::Error) -> Self {
        Self::store(what, object_store::Error::Generic { store: "local", source: Box::new(error) })
    }

    /// Work that was handed to another thread did not come back.
    pub(crate) fn lost(error: tokio::task::JoinError) -> Self {
        Self::Bug(format!("work on another thread ended early: {error}"))
    }
}

/// The kind of the first I/O error in the chain.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_store_that_is_away() {
        let full = LakeError::io("writing x", io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, LakeError::Full { .. }), "{full:?}");
        assert!(matches!(full.remedy(), Remedy::Operator(_)));
        let away = LakeError::io("writing x", io::Error::from(io::ErrorKind::TimedOut));
        assert!(away.remedy().is_retry());
    }
}

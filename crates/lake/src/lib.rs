//! The lake: where data comes to rest, on an object store.
//!
//! Object paths, a local store that is durable when it says so, raw objects, Delta tables with
//! deletion vectors, written and kept by exactly one writer each, and the key index beside them.
//! Nothing here knows what a column means.

pub mod error;
pub mod index;
pub mod path;
pub mod raw;
pub mod store;
pub mod table;
pub mod upkeep;

pub use error::LakeError;
pub use store::Lake;
pub use table::{
    Commit, CommitOutcome, DataFile, FileId, Replacement, StagedFile, Table, TableSpec, Versions,
};

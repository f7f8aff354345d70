//! The lake: where data comes to rest, on an object store.
//!
//! Object paths, a local store that is durable when it says so, raw objects, and Delta tables with
//! deletion vectors, written by exactly one writer each. Nothing here knows what a column means.

pub mod error;
pub mod index;
pub mod path;
pub mod raw;
pub mod store;
pub mod table;

pub use error::LakeError;
pub use store::Lake;
pub use table::{Commit, CommitOutcome, DataFile, FileId, StagedFile, Table, TableSpec};

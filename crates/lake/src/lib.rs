//! The lake: where data comes to rest, on an object store.
//!
//! Object paths, stores that are durable when they say so, raw objects, Delta tables with
//! deletion vectors, written and kept by exactly one writer each, and the key index beside them.
//! Nothing here knows what a column means.

pub mod error;
pub mod index;
pub mod path;
pub mod raw;
mod reader;
pub mod store;
pub mod table;
pub mod upkeep;

pub use error::LakeError;
pub use reader::reader;
pub use store::{Credentials, Lake, S3Settings};
pub use table::{
    Commit, CommitOutcome, DataFile, FileId, Replacement, StagedFile, Table, TableSpec, Versions,
};

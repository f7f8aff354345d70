//! Reads REST APIs: JSON over HTTP, page by page, in full or what changed.
//!
//! The guarantee of a delta load: a record is read if, by the time of some run, its cursor value
//! is at or above the highest one read before, less the overlap. Equal values are never lost,
//! because the comparison is inclusive; records that the source shows late are not lost if they
//! come within the overlap. What is read again is absorbed by (key, sequence).

mod cursor;
mod discover;
mod mark;
mod pages;
mod request;
mod settings;
mod source;

pub use settings::{
    Format, Incremental, Pagination, RequestMethod, RestConnection, RestConnector, RestEntity,
};

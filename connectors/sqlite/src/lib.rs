//! Reads SQLite databases: single tables or all, in full or what changed by a cursor column.
//!
//! The database is opened read-only, for one page at a time: a writer never waits longer than one
//! page takes, and no lock outlives a poll. A snapshot is therefore right for each key and
//! consistent within a page; between pages, rows may have changed, and then the next snapshot or
//! run has the later state. Progress stands in the cursor alone, so a snapshot goes on after a
//! crash where it stopped, under the same id.

mod catalog;
mod cursor;
mod database;
mod discover;
mod query;
mod reach;
mod rows;
mod settings;
mod source;

pub use settings::{NullCursor, SqliteConnection, SqliteConnector, SqliteEntity, Tables};

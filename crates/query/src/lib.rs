//! SQL over raw, bronze, silver and the ledger.
//!
//! [`Query`] answers one read-only statement at a time. A table is opened when a statement names
//! it, at its newest version or at that of a [`Moment`], so that starting costs nothing however
//! many tables there are.
//! [`output`] writes the answer for people and for programs.

mod catalog;
mod delta;
mod error;
mod history;
mod key;
mod ledger;
mod moment;
mod nearest;
pub mod output;
mod query;
mod raw;
mod rows;
mod statement;
mod valid;

pub use catalog::TableName;
pub use error::QueryError;
pub use moment::{Moment, TableTime};
pub use query::{Query, QueryOptions};
pub use rows::Rows;

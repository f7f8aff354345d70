//! Takeover: how soon a large table is another worker's when its owner is killed, is stopped, or a
//! worker comes. Two workers on NATS and PostgreSQL, with one lake in a folder.

mod course;
mod options;
mod report;
mod rows;
mod site;

pub use course::run;
pub use options::Options;
pub use report::Report;

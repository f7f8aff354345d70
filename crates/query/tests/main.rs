//! Queries over a real lake and a real ledger.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "what a test does not expect ends it; it is told by the environment what is required"
)]

mod fixture;
mod history;
mod layers;
mod limits;
mod output;
mod readers;
mod statements;
mod travel;

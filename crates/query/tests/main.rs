//! Queries over a real lake and a real ledger.

mod fixture;
mod history;
mod layers;
mod limits;
mod output;
mod readers;
mod statements;

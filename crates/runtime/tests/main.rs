//! The runtime at work, on an embedded bus and an SQLite ledger, with scripted sources and layers.
#![allow(clippy::unwrap_used, reason = "what a test does not expect ends it")]

mod fleet;
mod late;
mod layers;
mod moving;
mod polling;
mod pushing;
mod schedule;
mod sharing;
mod stopping;
mod untold;

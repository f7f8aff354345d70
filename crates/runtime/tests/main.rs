//! The runtime at work, on an embedded bus and an SQLite ledger, with scripted sources and layers.

mod layers;
mod polling;
mod stopping;

//! The SQLite connector against real databases.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod contract;
mod delta;
mod discovery;
mod full;
mod shop;

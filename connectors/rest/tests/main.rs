//! The REST connector against a scripted server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod contract;
mod delta;
mod full;
mod paging;
mod world;

//! The SDK against a scripted server and a connector made for the test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod http;
mod registry;

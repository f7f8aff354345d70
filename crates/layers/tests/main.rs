//! The layers against a real lake in a folder: what they land, what they survive, and what they say
//! of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test does not expect ends it")]

mod bad;
mod crash;
mod documents;
mod kinds;
mod model;
mod platform;
mod replay;
mod streams;
mod writers;

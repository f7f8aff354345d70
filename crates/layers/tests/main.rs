//! The layers against a real lake in a folder: what they land, what they survive, and what they say
//! of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test does not expect ends it")]

mod again;
mod bad;
mod cases;
mod closings;
mod crash;
mod documents;
mod epochs;
mod evolution;
mod first_load;
mod follow;
mod foreign;
mod grown;
mod held;
mod histories;
mod kinds;
mod late;
mod model;
mod owners;
mod platform;
mod points;
mod rebuild;
mod reference;
mod replay;
mod retention;
mod streams;
mod tampered;
mod upkeep;
mod writers;

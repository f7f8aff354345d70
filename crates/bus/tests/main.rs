//! Each bus under the contract of all buses, and what is promised of it alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod contract;
mod embedded;
mod kafka;
mod kill;
mod log;
mod lost;
mod moving;
mod nats;
mod power_cut;
mod speed;
mod support;
mod torn;
mod waiting;

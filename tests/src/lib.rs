//! The platform under test, seen from outside: its binary in a folder of its own, a workload whose
//! outcome is known, and a server whose answers are ours.
//!
//! Nothing here links against Alluvium's crates: what a user cannot see is not tested here, and the
//! package compiles in seconds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "this package is tests: a failure is a panic that says what was seen"
)]

pub mod chaos;
pub mod http;
pub mod memory;
pub mod moments;
pub mod nats;
pub mod platform;
pub mod takeover;
pub mod wait;
pub mod workers;
pub mod workload;

pub use alluvium_testkit::{SmallDisk, required};
pub use moments::Moments;
pub use platform::{Finished, Running, TestPlatform, binary};
pub use wait::{timed, until};
pub use workload::{Random, Workload};

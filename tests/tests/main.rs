//! One binary for all scenarios: it links once, and nextest runs its tests side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bad_input;
mod bucket;
mod chaos;
mod crash;
mod docs;
mod full_disk;
mod gaps;
mod held;
mod layering;
mod lost_bus;
mod message;
mod moving;
mod moving_race;
mod outcome;
mod power_cut;
mod readers;
mod rebalance;
mod rebuild;
mod roles;
mod scale_out;
mod serve;
mod sources;
mod takeover;
mod tenancy;
mod thread;
mod travel;
mod woken;

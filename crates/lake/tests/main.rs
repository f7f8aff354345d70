//! The lake against a real disk, and against another reader of its tables.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test does not expect ends it")]

mod contract;
mod durability;
mod maintenance;
mod raw;
mod readers;
mod s3;
mod steps;
mod table;

use std::path::Path;
use std::sync::Arc;

use alluvium_lake::Lake;
use alluvium_model::SystemClock;

/// A lake in `folder`.
fn lake_in(folder: &Path) -> Lake {
    Lake::local(folder, Arc::new(SystemClock)).unwrap()
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

//! Chaos: a stream of several entities, and workers that are killed, stopped, starved and robbed
//! while they land it. At the end nothing may be lost, nothing be there twice, and every version be
//! the one that a model of its own finds.
//!
//! What is told and what is done follow from the seed; at which moment it meets a worker does not.

mod check;
mod compare;
mod drive;
mod faults;
mod findings;
mod finish;
mod fleet;
mod ground;
mod landed;
mod model;
mod options;
#[cfg(test)]
mod planted;
mod servers;
mod shapes;
mod sources;
mod stream;
mod strike;
mod tally;
mod watch;

pub use drive::run;
pub use options::{Bus, Ledger, Options};

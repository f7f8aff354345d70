//! Publisher and subscriber: the embedded log, and the contract suite of all buses.
//!
//! [`EmbeddedBus`] keeps every topic in one folder on local disk. Everything that changes it goes
//! through one writer thread, which makes many pages durable with one fsync; readers take messages
//! from a cache that all layers of the process share, or from disk.

mod block;
mod cache;
mod embedded;
mod journal;
mod mishap;
mod queue;
mod reclaim;
mod record;
mod settings;
mod stats;
mod store;
mod subscriber;
mod topic;
mod writer;

#[cfg(feature = "testkit")]
pub mod contract;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use embedded::EmbeddedBus;
pub use settings::BusSettings;
pub use stats::{BusStats, LayerStats, TopicStats};

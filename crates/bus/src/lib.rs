//! Publisher and subscriber on each engine, and the contract suite that all of them pass.
//!
//! [`EmbeddedBus`] keeps every topic in one folder on local disk, for one process. [`NatsBus`] keeps
//! them on NATS JetStream, for as many as wanted.

mod embedded;
mod nats;
mod port;
mod settings;
mod stats;

#[cfg(feature = "testkit")]
pub mod contract;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use embedded::EmbeddedBus;
pub use nats::{NatsAccess, NatsBus, NatsSettings, NatsTls};
pub use port::Bus;
pub use settings::BusSettings;
pub use stats::{BusStats, LayerStats, TopicStats};

//! Publisher and subscriber on each engine, and the contract suite that all of them pass.
//!
//! [`EmbeddedBus`] keeps every topic in one folder on local disk, for one process. [`NatsBus`] keeps
//! them on NATS JetStream and [`KafkaBus`] on a cluster of Kafka, for as many as wanted.

mod audit;
mod embedded;
mod kafka;
mod moving;
mod nats;
mod payload;
mod port;
mod prefetch;
mod settings;
mod stats;
mod tenant;
mod times;

#[cfg(feature = "testkit")]
pub mod contract;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use embedded::EmbeddedBus;
pub use kafka::{KafkaBus, KafkaSettings};
pub use moving::{Mark, Move, Standing, carry, fence, may_leave, standing};
pub use nats::{NatsAccess, NatsBus, NatsSettings, NatsTls};
pub use port::Bus;
pub use settings::BusSettings;
pub use stats::{BusStats, LayerStats, TopicStats};
pub use tenant::Tenant;

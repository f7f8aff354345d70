//! Real servers for tests: each is found on the machine, started in a folder of its own on a free
//! port of loopback, waited for, and ended on drop. They can be killed, stopped, woken and
//! restarted on the same folder and port. Beside them: a line on which things go wrong, and a disk
//! that is soon full.
//!
//! Where a program is missing, `start` says so and gives `None`: a visible skip, and a failure where
//! `ALLUVIUM_TEST_REQUIRE=all`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "this package serves tests: a failure is a panic that says what was seen"
)]

mod certificates;
mod gate;
#[cfg(feature = "kafka")]
mod kafka;
mod line;
mod machine;
mod nats;
mod postgres;
mod proxy;
mod s3;
mod server;
mod small_disk;
pub mod syscalls;

pub use certificates::Certificates;
pub use gate::Gate;
#[cfg(feature = "kafka")]
pub use kafka::{Entry, KafkaFront, KafkaLogin, KafkaMock, KafkaTls, Mechanism, Put};
pub use line::NatsLine;
pub use machine::{free_port, is_root, required, signal};
pub use nats::{NatsCluster, NatsServer};
pub use postgres::PostgresServer;
pub use proxy::{Fault, S3Proxy};
pub use s3::S3Server;
pub use server::{Server, http_get};
pub use small_disk::SmallDisk;

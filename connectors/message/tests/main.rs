//! The message connector against librdkafka's mock cluster and a real server of NATS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod contract;
mod examples;
mod gate;
mod kafka;
mod loss;
mod nats;
mod our_topics;
mod shapes;
mod world;

//! The Kafka bus, on librdkafka's mock cluster, and on real brokers where `ALLUVIUM_TEST_KAFKA` says
//! `host:port` of one.

mod access;
mod audit;
mod broker;
mod codecs;
mod contract;
mod gaps;
mod holes;
mod mishaps;
pub(crate) mod mock;
mod processes;
mod secrets;

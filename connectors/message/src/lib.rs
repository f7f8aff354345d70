//! Reads topics of Kafka and streams of NATS JetStream that other programs write: Debezium's events
//! and plain JSON.
//!
//! The guarantee: every message that the log still has when it is read becomes its changes once, in
//! the order of its partition. A change that has no version of its source's own is identified by its
//! place in the log: (topic, partition, offset, index in the message). Nothing is left to a consumer
//! group: the cursor holds the next offset of each partition, so that a page can be read again.

mod cursor;
mod event;
mod kafka;
mod key;
mod log;
mod nats;
mod order;
mod pieces;
mod settings;
mod shape;
mod source;

pub use settings::{
    Engine, Format, MessageConnection, MessageConnector, MessageEntity, OnLoss, Start,
};

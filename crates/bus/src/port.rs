//! A bus as a whole.

use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, EntityId, Publisher};
use async_trait::async_trait;

use crate::{Mark, Tenant, TopicStats};

/// Both ends of a bus, what it tells of its topics, and its end. Who wires a process knows a bus by
/// this alone.
#[async_trait]
pub trait Bus: Publisher + Subscribe {
    /// The topics as far as this process knows them, in the order of their names. Answers at once,
    /// from memory: a bus on another machine is asked beside, every few seconds.
    fn topic_stats(&self) -> Vec<TopicStats>;

    /// All topics that the bus has, in the order of their names, whoever made them: also those that
    /// this process has never asked for.
    async fn topics(&self) -> Result<Vec<EntityId>, BusError>;

    /// Whether several processes may have it open at the same time.
    fn is_shared(&self) -> bool;

    /// What stands on the bus of a move to it or from it.
    async fn mark(&self) -> Result<Option<Mark>, BusError>;

    /// Puts a mark in the place of `before`, or where none stood. `true` means that it is durable; it
    /// concerns who opens the bus from then on. `false`, and nothing is altered, where another mark
    /// stands than that one or this one. Kafka cannot be told to look: there it is asked just before.
    async fn put_mark(&self, mark: &Mark, before: Option<&Mark>) -> Result<bool, BusError>;

    /// Whose bus it is, as was said last. `None` of a bus that one process alone can have.
    async fn tenant(&self) -> Result<Option<Tenant>, BusError>;

    /// Says whose bus it is. If somebody else says something at the same time, either may count:
    /// whoever has to know asks then.
    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), BusError>;

    /// Lets go of what is kept for publishing pages with a cursor to a topic: there is none to come
    /// for now. On Kafka that is a client, with its connections.
    async fn rest(&self, topic: &EntityId);

    /// Puts an audit event, a CloudEvent in JSON, on the stream that the bus has for them. `about` is
    /// the system or the entity that it tells of. `true` means that it is durable there; the same `id`
    /// again may stand once or twice. `false` where there is no such stream, because nobody but this
    /// process could read it.
    async fn audit(&self, id: &str, about: &str, event: Vec<u8>) -> Result<bool, BusError>;

    /// Writes what waits, and takes nothing more.
    async fn close(&self);
}

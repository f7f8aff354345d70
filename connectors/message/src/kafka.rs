//! Kafka as a log: a consumer of its own for each entity, told where to read.

mod message;
mod options;
mod partition;
mod reader;
mod refusal;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use alluvium_model::{EntityId, SourceError};
use async_trait::async_trait;
use rdkafka::ClientConfig;

use self::reader::Reader;
use crate::log::{Brought, Log, Want};
use crate::settings::MessageConnection;

/// A cluster of Kafka.
pub(crate) struct KafkaLog {
    config: ClientConfig,
    group: String,
    timeout: Duration,
    readers: HashMap<EntityId, Reader>,
}

impl KafkaLog {
    /// Checks the settings. Nothing is connected before the first page.
    pub(crate) fn new(
        connection: &MessageConnection,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let config = options::config(connection, timeout)?;
        Ok(Self { config, group: connection.group.clone(), timeout, readers: HashMap::new() })
    }

    fn group(&self, entity: &EntityId) -> String {
        format!("{}.{entity}", self.group)
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn page(&mut self, want: Want) -> Result<Brought, SourceError> {
        let mut config = self.config.clone();
        config.set("group.id", self.group(&want.entity));
        let (timeout, entity) = (self.timeout, want.entity.clone());
        let known = self.readers.remove(&entity);
        // librdkafka's calls block. After an error the reader is dropped with all it read ahead.
        let read = move || {
            let known = known.filter(|reader| reader.stands_at(&want));
            let mut reader = match known {
                Some(reader) => reader,
                None => Reader::open(&config, timeout, &want)?,
            };
            let mut brought = reader.page(&want)?;
            if reader.is_spent() && want.from.as_ref() == Some(&brought.next) {
                reader = Reader::open(&config, timeout, &want)?;
                brought = reader.page(&want)?;
            }
            Ok::<_, SourceError>((reader, brought))
        };
        let (reader, brought) = blocking(read).await?;
        if !reader.is_spent() {
            self.readers.insert(entity, reader);
        }
        Ok(brought)
    }

    async fn note(
        &mut self,
        entity: &EntityId,
        topic: &str,
        next: BTreeMap<i32, i64>,
    ) -> Result<(), SourceError> {
        let Some(reader) = self.readers.remove(entity) else { return Ok(()) };
        let (topic, id) = (topic.to_owned(), entity.clone());
        let commit = move || {
            // The offsets in the group are for people: progress stands in the cursor.
            if let Err(error) = reader.commit(&topic, &next) {
                tracing::warn!(entity = %id, %error, "offsets were not noted in the consumer group");
            }
            Ok(reader)
        };
        let reader = blocking(commit).await?;
        self.readers.insert(entity.clone(), reader);
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SourceError::Unavailable(format!("the reader broke off: {error}"))),
    }
}

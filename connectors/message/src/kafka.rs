//! Kafka as a log: a consumer of its own for each entity, told where to read.

mod consumer;
mod heard;
mod message;
mod options;
mod partition;
mod reader;
mod refusal;
mod there;

use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// Whose reader has brought its last page.
    ended: HashSet<EntityId>,
}

impl KafkaLog {
    /// Checks the settings. Nothing is connected before the first page.
    pub(crate) fn new(
        connection: &MessageConnection,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let config = options::config(connection, timeout)?;
        let (readers, ended) = (HashMap::new(), HashSet::new());
        Ok(Self { config, group: connection.group.clone(), timeout, readers, ended })
    }

    fn group(&self, entity: &EntityId) -> String {
        format!("{}.{entity}", self.group)
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        if !self.readers.is_empty() {
            aside(std::mem::take(&mut self.readers));
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn page(&mut self, want: Want) -> Result<Brought, SourceError> {
        let mut config = self.config.clone();
        config.set("group.id", self.group(&want.entity));
        let (timeout, entity) = (self.timeout, want.entity.clone());
        let known = self.readers.remove(&entity);
        // librdkafka's calls block.
        let read = move || read(known, &config, timeout, &want);
        let (reader, brought) = blocking(read).await?;
        self.ended.remove(&entity);
        if let Some(reader) = reader {
            if !brought.more {
                self.ended.insert(entity.clone());
            }
            self.readers.insert(entity, reader);
        }
        Ok(brought)
    }

    async fn note(
        &mut self,
        entity: &EntityId,
        next: BTreeMap<i32, i64>,
    ) -> Result<(), SourceError> {
        let Some(reader) = self.readers.remove(entity) else { return Ok(()) };
        let id = entity.clone();
        let is_last = self.ended.remove(entity);
        let commit = move || {
            // The offsets in the group are for people: progress stands in the cursor.
            if let Err(error) = reader.commit(&next) {
                tracing::warn!(entity = %id, %error, "offsets were not noted in the consumer group");
            }
            if !is_last {
                return Ok(Some(reader));
            }
            // What it would read ahead from now on nobody asks for in this run.
            aside(reader);
            Ok(None)
        };
        if let Some(reader) = blocking(commit).await? {
            self.readers.insert(entity.clone(), reader);
        }
        Ok(())
    }
}

/// A page, and the reader that reads on. After an error a reader ends with all it read ahead, and so
/// does one that brought nothing new and has no more.
fn read(
    known: Option<Reader>,
    config: &ClientConfig,
    timeout: Duration,
    want: &Want,
) -> Result<(Option<Reader>, Brought), SourceError> {
    let mut reader = match known {
        Some(reader) if reader.stands_at(want) => reader,
        other => {
            other.into_iter().for_each(aside);
            Reader::open(config, timeout, want)?
        }
    };
    let mut brought = reader.page(want);
    if reader.is_spent() && brought.as_ref().is_ok_and(|page| is_nothing_new(want, page)) {
        aside(reader);
        reader = Reader::open(config, timeout, want)?;
        brought = reader.page(want);
    }
    let reads_on = brought
        .as_ref()
        .is_ok_and(|page| !reader.is_spent() && (page.more || !is_nothing_new(want, page)));
    if reads_on {
        return Ok((Some(reader), brought?));
    }
    aside(reader);
    Ok((None, brought?))
}

/// Whether a page leaves everything where it was.
fn is_nothing_new(want: &Want, page: &Brought) -> bool {
    want.from.as_ref() == Some(&page.next)
}

/// Drops a consumer on a thread of its own. Nobody waits for that: one whose commits the brokers
/// never answer does not end before they do.
fn aside<T: Send + 'static>(ending: T) {
    let named = std::thread::Builder::new().name("message-end".to_owned());
    drop(named.spawn(move || drop(ending)));
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SourceError::Unavailable(format!("the reader broke off: {error}"))),
    }
}

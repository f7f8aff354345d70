//! The topic of epochs and cursor records, of how far raw has landed, of whether the bus was moved to
//! or left, and of whose it is: compacted, so that retention never takes them.
//!
//! It is read to its end whenever somebody asks who does not own the answer already. A cursor record
//! counts for the epoch for which it was written alone: a topic that was lost has none.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alluvium_model::{BusError, CursorRecord, EntityId, Epoch};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use serde::{Deserialize, Serialize};

use super::look::Looker;
use crate::{Mark, Tenant};

/// What is known of the entities' epochs and cursors.
pub(super) struct Cursors {
    pub(super) topic: String,
    /// Held by who reads the topic, so that nobody takes an end that he asked for earlier for that of
    /// a shorter topic.
    reading: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Everything before this of Kafka's offsets was read.
    next: i64,
    epochs: HashMap<EntityId, Epoch>,
    cursors: HashMap<EntityId, Stored>,
    landed: HashMap<EntityId, StoredLanded>,
    mark: Option<Mark>,
    tenant: Option<Tenant>,
}

/// An entity's cursor record as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) epoch: Epoch,
    #[serde(flatten)]
    pub(super) record: CursorRecord,
    /// How many messages the epoch's polled pages have had, up to and with this one.
    #[serde(default)]
    pub(super) polled: u64,
    /// Where the last of them stands, if the brokers told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) polled_at: Option<u64>,
    /// When the page was published, in microseconds since 1970.
    #[serde(default)]
    pub(super) published_at_us: i64,
}

impl Stored {
    fn place(&self) -> (Epoch, u64) {
        (self.epoch, self.record.page)
    }
}

/// An entity's epoch as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredEpoch {
    epoch: Epoch,
}

/// How far raw has landed an entity: for publishers in other processes than raw's, whose room it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Landed {
    pub(super) landed: u64,
    /// No message stands behind it before this of Kafka's offsets: who has got as far misses nothing
    /// where brokers removed what is before it.
    #[serde(default)]
    pub(super) next: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct StoredLanded {
    epoch: Epoch,
    #[serde(flatten)]
    landed: Landed,
}

const EPOCH: &str = "/epoch";
const CURSOR: &str = "/cursor";
const LANDED: &str = "/landed";
/// The key of what stands on the bus of a move; no entity is called so.
const MOVE: &str = "move";
/// The key of whose bus it is.
const TENANT: &str = "tenant";

impl Cursors {
    pub(super) fn new(topic: String) -> Self {
        Self { topic, reading: tokio::sync::Mutex::default(), known: Mutex::default() }
    }

    /// Reads what was written since. What was read counts also where it fails on its way.
    pub(super) async fn refresh(&self, looker: &Looker) -> Result<(), BusError> {
        let _alone = self.reading.lock().await;
        let Some(marks) = looker.marks(&self.topic).await? else {
            return Err(BusError::Unavailable(format!("topic {} is not there", self.topic)));
        };
        let from = {
            let mut known = self.lock();
            if marks.high < known.next {
                tracing::warn!(topic = self.topic, "the topic of the cursor records was made anew");
                *known = Known::default();
            }
            known.next.max(marks.low)
        };
        if from >= marks.high {
            return Ok(());
        }
        let mut damaged = None;
        let visit = |record: &BorrowedMessage<'_>| match entry(record) {
            Ok(entry) => {
                self.take_up(entry, record.offset() + 1);
                ControlFlow::Continue(())
            }
            Err(error) => {
                damaged = Some(error);
                ControlFlow::Break(())
            }
        };
        looker.read(&self.topic, from, marks.high, visit).await?;
        if let Some(error) = damaged {
            return Err(error);
        }
        self.take_up(None, marks.high);
        Ok(())
    }

    /// The epoch that an entity's topic was last known to have.
    pub(super) fn epoch(&self, entity: &EntityId) -> Option<Epoch> {
        self.lock().epochs.get(entity).copied()
    }

    /// The cursor record of an entity whose topic has `epoch`.
    pub(super) fn cursor(&self, entity: &EntityId, epoch: Epoch) -> Option<Stored> {
        self.lock().cursors.get(entity).filter(|c| c.epoch == epoch).cloned()
    }

    /// How far raw has landed an entity whose topic has `epoch`, as it was told last.
    pub(super) fn landed(&self, entity: &EntityId, epoch: Epoch) -> Option<Landed> {
        self.lock().landed.get(entity).filter(|l| l.epoch == epoch).map(|l| l.landed)
    }

    /// What stands on the bus of a move.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.lock().mark.clone()
    }

    /// Whose bus it is.
    pub(super) fn tenant(&self) -> Option<Tenant> {
        self.lock().tenant.clone()
    }

    /// Takes up a record that this process has written.
    pub(super) fn wrote(&self, entity: &EntityId, stored: Stored) {
        self.lock().cursors.insert(entity.clone(), stored);
    }

    /// Takes up what a record says, with which everything before `next` was read.
    fn take_up(&self, entry: Option<Entry>, next: i64) {
        let mut known = self.lock();
        if next <= known.next {
            return;
        }
        known.next = next;
        match entry {
            None => {}
            Some(Entry::Mark(mark)) => known.mark = Some(mark),
            Some(Entry::Tenant(tenant)) => known.tenant = Some(tenant),
            Some(Entry::Epoch(entity, epoch)) => {
                known.epochs.insert(entity, epoch);
            }
            Some(Entry::Landed(entity, landed)) => {
                known.landed.insert(entity, landed);
            }
            // What this process wrote itself may be younger than what it reads.
            Some(Entry::Cursor(entity, stored)) => match known.cursors.get_mut(&entity) {
                Some(newer) if newer.place() > stored.place() => {}
                Some(older) => *older = stored,
                None => {
                    known.cursors.insert(entity, stored);
                }
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entry {
    Mark(Mark),
    Tenant(Tenant),
    Epoch(EntityId, Epoch),
    Cursor(EntityId, Stored),
    Landed(EntityId, StoredLanded),
}

/// The key and the value of an entity's epoch.
pub(super) fn epoch_entry(entity: &EntityId, epoch: Epoch) -> Result<(String, Vec<u8>), BusError> {
    Ok((format!("{entity}{EPOCH}"), json(&StoredEpoch { epoch })?))
}

/// The key and the value of an entity's cursor record.
pub(super) fn cursor_entry(
    entity: &EntityId,
    stored: &Stored,
) -> Result<(String, Vec<u8>), BusError> {
    Ok((format!("{entity}{CURSOR}"), json(stored)?))
}

/// The key and the value of how far raw has landed an entity.
pub(super) fn landed_entry(
    entity: &EntityId,
    epoch: Epoch,
    landed: Landed,
) -> Result<(String, Vec<u8>), BusError> {
    Ok((format!("{entity}{LANDED}"), json(&StoredLanded { epoch, landed })?))
}

/// The key and the value of what stands on the bus of a move.
pub(super) fn mark_entry(mark: &Mark) -> Result<(&'static str, Vec<u8>), BusError> {
    Ok((MOVE, json(mark)?))
}

/// The key and the value of whose bus it is.
pub(super) fn tenant_entry(tenant: &Tenant) -> Result<(&'static str, Vec<u8>), BusError> {
    Ok((TENANT, json(tenant)?))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, BusError> {
    serde_json::to_vec(value)
        .map_err(|e| BusError::Unavailable(format!("a record cannot be written: {e}")))
}

/// What a record says; `None` if it says nothing that is known.
fn entry(record: &BorrowedMessage<'_>) -> Result<Option<Entry>, BusError> {
    let (Some(key), Some(value)) = (record.key(), record.payload()) else { return Ok(None) };
    // Why it does not read might show a part of the cursor.
    let damaged = || {
        let (topic, offset) = (record.topic(), record.offset());
        BusError::Corrupt(format!("{topic}: the record at offset {offset} cannot be read"))
    };
    let key = std::str::from_utf8(key).map_err(|_| damaged())?;
    if key == MOVE {
        let mark = serde_json::from_slice(value).map_err(|_| damaged())?;
        return Ok(Some(Entry::Mark(mark)));
    }
    if key == TENANT {
        let tenant = serde_json::from_slice(value).map_err(|_| damaged())?;
        return Ok(Some(Entry::Tenant(tenant)));
    }
    if let Some(entity) = key.strip_suffix(EPOCH) {
        let entity = entity.parse().map_err(|_| damaged())?;
        let stored: StoredEpoch = serde_json::from_slice(value).map_err(|_| damaged())?;
        return Ok(Some(Entry::Epoch(entity, stored.epoch)));
    }
    if let Some(entity) = key.strip_suffix(CURSOR) {
        let entity = entity.parse().map_err(|_| damaged())?;
        let stored = serde_json::from_slice(value).map_err(|_| damaged())?;
        return Ok(Some(Entry::Cursor(entity, stored)));
    }
    if let Some(entity) = key.strip_suffix(LANDED) {
        let entity = entity.parse().map_err(|_| damaged())?;
        let stored = serde_json::from_slice(value).map_err(|_| damaged())?;
        return Ok(Some(Entry::Landed(entity, stored)));
    }
    Ok(None)
}

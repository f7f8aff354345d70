//! The bus on disk: keys, records, recovery, and what an error of the storage engine means.
//!
//! Three keyspaces. `blocks` holds the messages, with large values apart from the keys, so that
//! compaction does not copy them. `index` holds what each message weighs, so that opening reads no
//! block. `meta` holds a topic's record, end, cursor record and the layers' commits, one key each.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_model::{BusError, CursorRecord, EntityId, Epoch};
use bytes::Bytes;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode,
};

use super::folder;
use super::mishap::{damaged, explain};
use super::record::{
    END, TopicRecord, json, message_key, meta_key, read_end, read_weight, write_end, write_weight,
};
use super::topic::{Tip, Topic, Weight};
use crate::Mark;

const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";
/// What stands on the bus of a move.
const MARK_KEY: &[u8] = b"move";
/// Holds nothing, beside the keys of messages and topics; so that the engine sees a write.
const RECLAIM_KEY: &[u8] = b"reclaim";
/// Blocks that wait in memory to be written into tables, in bytes.
const MEMTABLE_BYTES: u64 = 32 << 20;
const SMALL_MEMTABLE_BYTES: u64 = 4 << 20;
/// Full journals beyond this make the engine empty its memory into tables and drop them.
const JOURNAL_BYTES: u64 = 64 << 20;
const ENGINE_CACHE_BYTES: u64 = 8 << 20;
/// Smaller blocks stand beside their keys.
const SEPARATE_FROM_BYTES: u32 = 4 << 10;
/// The engine does not tell when it has written its memory into tables, so we look.
const RECLAIM_PAUSE: Duration = Duration::from_millis(10);
const RECLAIM_LOOKS: u32 = 1000;

/// The open database.
pub(super) struct Store {
    db: Database,
    blocks: Keyspace,
    index: Keyspace,
    meta: Keyspace,
    path: PathBuf,
}

/// What is written together.
pub(super) struct Batch<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
}

impl Store {
    /// Opens the folder at `path`, creating it if it is not there, and reads its topics.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Topic>), BusError> {
        folder::mend(path)?;
        let failed = |e| explain(&e, path);
        let db = Database::builder(path)
            .cache_size(ENGINE_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(2)
            .open()
            .map_err(failed)?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(SMALL_MEMTABLE_BYTES);
        let apart = KvSeparationOptions::default().separation_threshold(SEPARATE_FROM_BYTES);
        let large = || {
            let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            options.with_kv_separation(Some(apart))
        };
        let blocks = db.keyspace("blocks", large).map_err(failed)?;
        let index = db.keyspace("index", small).map_err(failed)?;
        let meta = db.keyspace("meta", small).map_err(failed)?;
        folder::settle(path).map_err(|e| failed(fjall::Error::Io(e)))?;
        let store = Self { db, blocks, index, meta, path: path.to_owned() };
        store.check_format()?;
        let topics = store.topics()?;
        Ok((store, topics))
    }

    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { store: self, batch: self.db.batch() }
    }

    /// Makes a new topic durable.
    pub(super) fn create_topic(
        &self,
        topic: &EntityId,
        number: u32,
        epoch: Epoch,
    ) -> Result<(), BusError> {
        let mut batch = self.batch();
        let record = TopicRecord { topic: topic.clone(), epoch };
        batch.put(&self.meta, meta_key(b't', number), json(&record)?);
        batch.sync()
    }

    pub(super) fn mark(&self) -> Result<Option<Mark>, BusError> {
        let found = self.meta.get(MARK_KEY).map_err(|e| self.explain(&e))?;
        let read = |bytes: fjall::UserValue| serde_json::from_slice(&bytes);
        found.map(read).transpose().map_err(|_| damaged("the mark of a move"))
    }

    /// Makes a mark durable, unless another one stands there than `before`.
    pub(super) fn put_mark(&self, mark: &Mark, before: Option<&Mark>) -> Result<bool, BusError> {
        if !mark.may_replace(self.mark()?.as_ref(), before) {
            return Ok(false);
        }
        let mut batch = self.batch();
        batch.put(&self.meta, MARK_KEY, json(mark)?);
        batch.sync()?;
        Ok(true)
    }

    /// The block of a message.
    pub(super) fn block(&self, topic: u32, offset: u64) -> Result<Option<Bytes>, BusError> {
        let block = self.blocks.get(message_key(topic, offset)).map_err(|e| self.explain(&e))?;
        Ok(block.map(Bytes::from_owner))
    }

    /// Loses the block of a message, as a fault of the engine or of the disk would.
    #[cfg(feature = "testkit")]
    pub(super) fn lose_block(&self, topic: u32, offset: u64) -> Result<(), BusError> {
        let mut batch = self.batch();
        batch.batch.remove(&self.blocks, message_key(topic, offset));
        batch.sync()
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> Result<u64, BusError> {
        self.db.disk_space().map_err(|e| self.explain(&e))
    }

    /// Gives back the disk space of removed blocks. Takes its time, and may run beside everything
    /// else. What is still in memory after a while is left for the next time.
    ///
    /// The engine drops only what lies strictly before the last write that it knew of when it
    /// turned a memtable over, hence the writes. A compaction finds out which files hold nothing
    /// any more, and only the next one drops them, hence the two.
    pub(super) fn reclaim(&self, stopping: impl Fn() -> bool) -> Result<(), BusError> {
        let failed = |e| self.explain(&e);
        for keyspace in [&self.blocks, &self.index] {
            self.nudge(keyspace)?;
            keyspace.rotate_memtable().map_err(failed)?;
            for _ in 0..RECLAIM_LOOKS {
                if keyspace.sealed_memtable_count() == 0 || stopping() {
                    break;
                }
                std::thread::sleep(RECLAIM_PAUSE);
            }
            for _ in 0..2 {
                if stopping() {
                    return Ok(());
                }
                keyspace.major_compact().map_err(failed)?;
            }
        }
        self.nudge(&self.meta)?;
        self.meta.rotate_memtable().map_err(failed)?;
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<(), BusError> {
        self.db.persist(PersistMode::SyncAll).map_err(|e| self.explain(&e))
    }

    fn nudge(&self, keyspace: &Keyspace) -> Result<(), BusError> {
        for _ in 0..2 {
            let mut batch = self.batch();
            batch.put(keyspace, RECLAIM_KEY, Vec::new());
            batch.write()?;
        }
        Ok(())
    }

    fn explain(&self, error: &fjall::Error) -> BusError {
        explain(error, &self.path)
    }

    fn check_format(&self) -> Result<(), BusError> {
        match self.meta.get(FORMAT_KEY).map_err(|e| self.explain(&e))? {
            Some(found) if *found == FORMAT.to_be_bytes() => Ok(()),
            Some(_) => Err(BusError::Corrupt(format!(
                "{} was written in a format that this release does not know",
                self.path.display()
            ))),
            None => {
                let mut batch = self.batch();
                batch.put(&self.meta, FORMAT_KEY, FORMAT.to_be_bytes().to_vec());
                batch.sync()
            }
        }
    }

    fn topics(&self) -> Result<Vec<Topic>, BusError> {
        let mut topics = Vec::new();
        for entry in self.meta.prefix(b"t") {
            let (key, value) = entry.into_inner().map_err(|e| self.explain(&e))?;
            let number = key.get(1..).and_then(|k| k.try_into().ok()).map(u32::from_be_bytes);
            let number = number.ok_or_else(|| damaged("a topic's key"))?;
            let record: TopicRecord =
                serde_json::from_slice(&value).map_err(|_| damaged("a topic's record"))?;
            topics.push(self.topic(record, number)?);
        }
        Ok(topics)
    }

    fn topic(&self, record: TopicRecord, number: u32) -> Result<Topic, BusError> {
        let TopicRecord { topic, epoch } = record;
        let mut tip = Tip::default();
        if let Some(end) = self.meta(END, number)? {
            (tip.end, tip.published_at_us) =
                read_end(&end).ok_or_else(|| damaged(&format!("the end of topic {topic}")))?;
        }
        if let Some(cursor) = self.meta(b'c', number)? {
            tip.cursor = serde_json::from_slice(&cursor)
                .map_err(|_| damaged(&format!("the cursor record of topic {topic}")))?;
        }
        let mut committed = [None; 3];
        if let Some(record) = self.meta(b'l', number)? {
            committed = serde_json::from_slice(&record)
                .map_err(|_| damaged(&format!("the layers' commits of topic {topic}")))?;
        }
        let weights = self.weights(&topic, number, tip.end)?;
        Ok(Topic::new(topic, number, epoch, tip, weights, committed))
    }

    fn weights(&self, id: &EntityId, n: u32, end: u64) -> Result<VecDeque<Weight>, BusError> {
        let mut weights = VecDeque::new();
        let mut last = None;
        for entry in self.index.prefix(n.to_be_bytes()) {
            let (key, value) = entry.into_inner().map_err(|e| self.explain(&e))?;
            let offset = key.get(4..).and_then(|k| k.try_into().ok()).map(u64::from_be_bytes);
            let (Some(offset), Some(weight)) = (offset, read_weight(&value)) else {
                return Err(damaged(&format!("the index of topic {id}")));
            };
            if last.is_some_and(|l| l + 1 != offset) {
                return Err(damaged(&format!(
                    "topic {id}: there is a hole before offset {offset}"
                )));
            }
            last = Some(offset);
            weights.push_back(weight);
        }
        if last.is_some_and(|l| l != end) {
            return Err(damaged(&format!("topic {id} does not end at offset {end}")));
        }
        Ok(weights)
    }

    fn meta(&self, kind: u8, topic: u32) -> Result<Option<fjall::UserValue>, BusError> {
        self.meta.get(meta_key(kind, topic)).map_err(|e| self.explain(&e))
    }
}

impl Batch<'_> {
    pub(super) fn message(&mut self, topic: u32, offset: u64, block: &[u8], weight: Weight) {
        let key = message_key(topic, offset);
        self.put(&self.store.blocks, key, block);
        self.put(&self.store.index, key, write_weight(weight));
    }

    pub(super) fn tip(&mut self, topic: u32, tip: &Tip) -> Result<(), BusError> {
        self.put(&self.store.meta, meta_key(END, topic), write_end(tip));
        if let Some(cursor) = &tip.cursor {
            self.cursor(topic, cursor)?;
        }
        Ok(())
    }

    pub(super) fn commits(
        &mut self,
        topic: u32,
        commits: [Option<u64>; 3],
    ) -> Result<(), BusError> {
        self.put(&self.store.meta, meta_key(b'l', topic), json(&commits)?);
        Ok(())
    }

    pub(super) fn remove(&mut self, topic: u32, offset: u64) {
        let key = message_key(topic, offset);
        self.batch.remove(&self.store.blocks, key);
        self.batch.remove(&self.store.index, key);
    }

    /// Writes all of it, and returns when it is durable. After an error the database takes nothing
    /// more until it is opened anew.
    pub(super) fn sync(self) -> Result<(), BusError> {
        let store = self.store;
        let batch = self.batch.durability(Some(PersistMode::SyncAll));
        batch.commit().map_err(|e| store.explain(&e))
    }

    /// Writes all of it; a crash of the machine may undo it, a crash of the process does not.
    pub(super) fn write(self) -> Result<(), BusError> {
        let store = self.store;
        self.batch.commit().map_err(|e| store.explain(&e))
    }

    fn cursor(&mut self, topic: u32, cursor: &CursorRecord) -> Result<(), BusError> {
        self.put(&self.store.meta, meta_key(b'c', topic), json(cursor)?);
        Ok(())
    }

    fn put(
        &mut self,
        keyspace: &Keyspace,
        key: impl Into<fjall::UserKey>,
        value: impl Into<fjall::UserValue>,
    ) {
        self.batch.insert(keyspace, key, value);
    }
}

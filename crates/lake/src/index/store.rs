//! The index on disk: one store for a lake, six keyspaces for an entity.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_model::EntityId;
use fjall::compaction::Leveled;
use fjall::config::PinningPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Slice};

use super::error::{IndexError, is_of_the_system};
use super::merge::{self, Merging};
use super::turn::{Follower, Turn, Writer};

/// So many tables of closed versions and hidden events come to lie over each other before some of
/// them are merged.
const TABLES: u8 = 12;
/// What a table in memory may grow to before it goes to the disk, in bytes.
const MEMTABLE: u64 = 16 << 20;
/// The same of the keys' states, of which every batch replaces some.
const STATES_MEMTABLE: u64 = 48 << 20;

/// The indexes of a lake.
#[derive(Clone)]
pub struct IndexStore {
    database: Database,
    shared: Arc<Mutex<HashMap<EntityId, Shared>>>,
    /// What a table of keys' states in memory may grow to, in bytes.
    states_memtable: u64,
}

/// What all share who have an entity's index open.
#[derive(Clone)]
struct Shared {
    turn: Arc<Turn>,
    merging: Arc<Merging>,
}

impl IndexStore {
    /// Opens the store at `path`. A store that cannot be read is set up anew: all in it can be
    /// rebuilt.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let open = || {
            Database::builder(path)
                .cache_size(32 << 20)
                // What stands in the journals is read again at the next start.
                .max_journaling_size(96 << 20)
                .worker_threads(1)
                .open()
        };
        let store =
            |database| Self { database, shared: Arc::default(), states_memtable: STATES_MEMTABLE };
        match open() {
            Ok(database) => Ok(store(database)),
            Err(fjall::Error::Locked) => Err(IndexError::Locked(path.to_owned())),
            Err(error) if is_of_the_system(&error) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "key index cannot be read; rebuilding it");
                std::fs::remove_dir_all(path).map_err(fjall::Error::Io)?;
                Ok(store(open()?))
            }
        }
    }

    /// The index of an entity.
    pub fn entity(&self, entity: &EntityId) -> Result<KeyIndex, IndexError> {
        let open = |part: &str, memtable: u64, tables: u8| {
            self.database.keyspace(&format!("{entity}.{part}"), || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(memtable)
                    // Of a new key each table is asked; a few megabytes for a million keys keep
                    // the answer off the disk and out of the cache's locks.
                    .filter_block_pinning_policy(PinningPolicy::all(true))
                    .index_block_pinning_policy(PinningPolicy::all(true))
                    .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(tables)))
            })
        };
        let states = open("states", self.states_memtable, merge::BY_HAND)?;
        let open = |part| open(part, MEMTABLE, TABLES);
        let shared = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let first = || Shared {
                turn: Arc::default(),
                merging: Arc::new(Merging::of(&states, self.states_memtable)),
            };
            shared.entry(entity.clone()).or_insert_with(first).clone()
        };
        Ok(KeyIndex {
            database: self.database.clone(),
            turn: shared.turn,
            merging: shared.merging,
            current: states,
            history: open("history")?,
            hidden: open("hidden")?,
            names: open("names")?,
            moves: open("moves")?,
            meta: open("meta")?,
        })
    }
}

/// The index of one entity.
#[derive(Clone)]
pub struct KeyIndex {
    pub(super) database: Database,
    turn: Arc<Turn>,
    pub(super) merging: Arc<Merging>,
    pub(super) current: Keyspace,
    pub(super) history: Keyspace,
    pub(super) hidden: Keyspace,
    pub(super) names: Keyspace,
    pub(super) moves: Keyspace,
    pub(super) meta: Keyspace,
}

/// What the index knows of one key from some version on.
#[derive(Debug, Default)]
pub struct KeyWindow {
    /// Entries of closed versions, to be read with [`super::VersionEntry::parse`].
    pub closed: Vec<Slice>,
    /// Entries of hidden events, to be read with [`super::HiddenEntry::parse`].
    pub hidden: Vec<Slice>,
}

impl KeyIndex {
    /// Takes the index for who lands batches. Who only follows the table comes to an end first.
    pub async fn write(&self) -> Writer {
        self.turn.write().await
    }

    /// Takes it for who follows the table; `None` while somebody lands batches.
    pub async fn follow(&self) -> Option<Follower> {
        self.turn.follow().await
    }

    /// Removes all entries, to be filled anew.
    pub fn clear(&self) -> Result<(), IndexError> {
        self.distrust()?;
        self.meta.clear()?;
        // Not `clear`: the journal keeps it, and the next start would carry it out again, also on
        // what went in past the journal since ([`KeyIndex::bulk_current`]).
        for part in [&self.current, &self.history, &self.hidden, &self.names, &self.moves] {
            let mut ingestion = part.start_ingestion()?;
            for entry in part.iter() {
                ingestion.write_tombstone(entry.key()?)?;
            }
            ingestion.finish()?;
        }
        Ok(())
    }

    /// The current entries of `keys`, which are best given in ascending order.
    pub fn current(&self, keys: &[u128]) -> Result<Vec<Option<Slice>>, IndexError> {
        let get = |keys: &[u128]| {
            keys.iter()
                .map(|key| self.current.get(key.to_be_bytes()))
                .collect::<Result<Vec<_>, fjall::Error>>()
        };
        if keys.len() < 2_000 {
            return Ok(get(keys)?);
        }
        let (left, right) = keys.split_at(keys.len() / 2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| get(right));
            let mut entries = get(left)?;
            entries.extend(other.join().map_err(|_| IndexError::Damaged)??);
            Ok(entries)
        })
    }

    /// What is known of `key` from the last version that opened strictly before `sequence` on, or
    /// from its beginning. `open` is the opener of the open version, if there is one.
    pub fn window(
        &self,
        key: u128,
        sequence: &[u8],
        open: Option<&[u8]>,
    ) -> Result<KeyWindow, IndexError> {
        let prefix = key.to_be_bytes();
        let place = |sequence: &[u8]| [prefix.as_slice(), sequence].concat();
        let mut from = prefix.to_vec();
        if open.is_some_and(|opener| opener < sequence) {
            from = place(open.unwrap_or_default());
        } else if let Some(last) = self.history.range(prefix.to_vec()..place(sequence)).next_back()
        {
            from = last.key()?.to_vec();
        }
        let rest = |part: &Keyspace| {
            part.range(from.clone()..)
                .map(fjall::Guard::into_inner)
                .take_while(|entry| entry.as_ref().map_or(true, |(k, _)| k.starts_with(&prefix)))
                .map(|entry| entry.map(|(_, value)| value))
                .collect::<Result<Vec<_>, fjall::Error>>()
        };
        Ok(KeyWindow { closed: rest(&self.history)?, hidden: rest(&self.hidden)? })
    }

    /// The name with number `id`: a file, a run or a batch.
    pub fn name(&self, id: u32) -> Result<String, IndexError> {
        let bytes = self.names.get(id.to_be_bytes())?.ok_or(IndexError::Damaged)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| IndexError::Damaged)
    }

    /// All names by their numbers.
    pub fn names(&self) -> Result<HashMap<u32, String>, IndexError> {
        self.names
            .iter()
            .map(|entry| {
                let (id, name) = entry.into_inner()?;
                let id: [u8; 4] = id.as_ref().try_into().map_err(|_| IndexError::Damaged)?;
                let name = String::from_utf8(name.to_vec()).map_err(|_| IndexError::Damaged)?;
                Ok((u32::from_be_bytes(id), name))
            })
            .collect()
    }

    /// The number that the next new name gets.
    pub fn next_name(&self) -> Result<u32, IndexError> {
        let Some(last) = self.names.last_key_value() else { return Ok(0) };
        let id: [u8; 4] = last.key()?.as_ref().try_into().map_err(|_| IndexError::Damaged)?;
        Ok(u32::from_be_bytes(id) + 1)
    }

    /// Sets the states of many keys, in ascending order, without the detour of the journal; each
    /// comes as the bytes of a [`super::CurrentEntry`]. Until the [`super::IndexUpdate::finish`] that
    /// follows, the index fits no version of the table.
    pub fn bulk_current<'e>(
        &self,
        entries: impl Iterator<Item = (u128, &'e [u8])>,
    ) -> Result<(), IndexError> {
        self.distrust()?;
        self.ingest(entries)?;
        self.merging.begin_if_due(&self.current);
        self.merging.wait_if_far_behind(&self.current);
        Ok(())
    }

    fn ingest<'e>(
        &self,
        entries: impl Iterator<Item = (u128, &'e [u8])>,
    ) -> Result<(), IndexError> {
        let mut ingestion = self.current.start_ingestion()?;
        for (key, bytes) in entries {
            ingestion.write(key.to_be_bytes(), bytes)?;
        }
        Ok(ingestion.finish()?)
    }

    /// The states of all keys, ascending; each as the bytes of a [`super::CurrentEntry`].
    pub fn states(&self) -> impl Iterator<Item = Result<(u128, Slice), IndexError>> + use<> {
        self.current.iter().map(|entry| {
            let (key, bytes) = entry.into_inner()?;
            let key: [u8; 16] = key.as_ref().try_into().map_err(|_| IndexError::Damaged)?;
            Ok((u128::from_be_bytes(key), bytes))
        })
    }

    /// What is known of the entity as a whole, as it was given to [`super::IndexUpdate::whole`].
    pub fn whole(&self) -> Result<Option<String>, IndexError> {
        let Some(bytes) = self.meta.get("entity")? else { return Ok(None) };
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| IndexError::Damaged)
    }

    /// Merges all tables of the index. Blocks, for some seconds of a few million keys.
    pub fn merge(&self) -> Result<(), IndexError> {
        for part in [&self.history, &self.hidden, &self.moves] {
            part.major_compact()?;
        }
        self.merging.merge(&self.current)
    }

    /// How many keys have an open or closed state; counts them all.
    pub fn keys(&self) -> Result<usize, IndexError> {
        Ok(self.current.len()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use alluvium_model::{Epoch, Op, Position, SequencePart};

    use super::*;
    use crate::index::{CurrentEntry, EventMeta, Hashes, Reflects, VersionEntry};
    use crate::table::Mark;

    fn version(opener: &[u8]) -> VersionEntry<'_> {
        VersionEntry {
            file: 0,
            row: 0,
            opener,
            opener_at: SequencePart::Long(0),
            opener_op: Op::Create,
            shown: opener,
            shown_at: SequencePart::Long(0),
            hashes: Hashes { tracked: 1, full: 1, scope: 0 },
            closed_at: None,
            meta: EventMeta {
                op: Op::Create,
                position: Position { epoch: Epoch(1), offset: 1, index: 0 },
                changed_at: None,
                ingested_at: 0,
                run: 0,
                batch: 0,
            },
            values: b"",
        }
    }

    fn index() -> (tempfile::TempDir, IndexStore, KeyIndex) {
        let dir = tempfile::tempdir().unwrap();
        let store = IndexStore::open(dir.path()).unwrap();
        let index = store.entity(&"shop.orders".parse().unwrap()).unwrap();
        (dir, store, index)
    }

    #[test]
    fn a_window_begins_at_the_last_version_that_opened_before_the_event() {
        let (_dir, _store, index) = index();
        let mut update = index.update();
        for (key, opener) in [(1, b"b"), (1, b"d"), (1, b"f"), (2, b"a")] {
            update.closed(key, &version(opener));
        }
        update.finish(&Mark::of(1, b"entry"), "").unwrap();
        let openers = |sequence: &[u8], open: Option<&[u8]>| -> Vec<Vec<u8>> {
            let window = index.window(1, sequence, open).unwrap();
            window.closed.iter().map(|e| VersionEntry::parse(e).unwrap().opener.to_vec()).collect()
        };
        assert_eq!(openers(b"e", None), [b"d", b"f"]);
        assert_eq!(openers(b"d", None), [b"b", b"d", b"f"], "a tie may join the version before");
        assert_eq!(openers(b"a", None), [b"b", b"d", b"f"]);
        assert_eq!(openers(b"z", Some(b"y")), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn an_index_tells_which_table_version_it_reflects_once_it_is_finished() {
        let (_dir, _store, index) = index();
        assert_eq!(index.reflects().unwrap(), None);
        let mut update = index.update();
        let mut entry = Vec::new();
        CurrentEntry { known: b"k", read: false, completed: false, open: Some(version(b"k")) }
            .put(&mut entry);
        update.current(9, &entry);
        let mark = Mark::of(4, b"entry");
        update.finish(&mark, "cols").unwrap();
        let reflects = Reflects { mark: mark.clone(), columns: "cols".to_owned() };
        assert_eq!(index.reflects().unwrap(), Some(reflects));
        assert!(!mark.is(&Mark::of(4, b"an entry of another table")));
        assert_eq!(index.current(&[8, 9]).unwrap().iter().filter(|e| e.is_some()).count(), 1);
        index.clear().unwrap();
        assert_eq!(index.reflects().unwrap(), None);
        assert_eq!(index.keys().unwrap(), 0);
    }

    /// Where this many tables lie over each other, the store takes no more.
    const TOO_MANY: usize = 30;

    #[test]
    fn an_index_that_is_filled_in_parts_is_merged_meanwhile() {
        filled_in_parts(|index, entries| {
            let mut update = index.update();
            entries.for_each(|(key, entry)| update.current(key, entry));
            update.write_part().unwrap();
        });
    }

    #[test]
    fn an_index_that_is_filled_past_its_journal_is_merged_meanwhile() {
        filled_in_parts(|index, entries| index.bulk_current(entries).unwrap());
    }

    fn filled_in_parts(write: fn(&KeyIndex, &mut dyn Iterator<Item = (u128, &'static [u8])>)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = IndexStore::open(folder.path()).unwrap();
        store.states_memtable = 64 << 10;
        let index = store.entity(&"shop.orders".parse().unwrap()).unwrap();
        let (told, filled) = mpsc::channel();
        let writing = index.clone();
        std::thread::spawn(move || {
            for part in 0..3 * TOO_MANY as u128 {
                // All over the index, as keys are.
                let entries = (0..2_000).map(|key: u128| (key << 64 | part, [7; 64].as_slice()));
                write(&writing, &mut { entries });
            }
            told.send(()).unwrap();
        });
        filled.recv_timeout(Duration::from_secs(180)).expect("it comes to an end");
        assert!(index.current.l0_table_count() < TOO_MANY);
        let count = index.current.iter().count();
        assert_eq!(count, 3 * TOO_MANY * 2_000);
    }

    #[test]
    fn all_handles_of_an_index_know_what_was_merged() {
        let (_dir, store, index) = index();
        let add = |parts: std::ops::Range<u128>, keys: u128| {
            for part in parts {
                let entries = (0..keys).map(|key| (key << 64 | part, [7; 64].as_slice()));
                index.ingest(entries).unwrap();
            }
        };
        add(0..12, 2_000);
        let other = store.entity(&"shop.orders".parse().unwrap()).unwrap();
        index.merge().unwrap();
        add(12..16, 2_000);
        assert!(index.current.l0_table_count() >= 4, "so many are worth merging");
        assert!(!other.merging.is_due(&other.current), "what was added is a third");
        add(16..20, 10_000);
        assert!(other.merging.is_due(&other.current), "more was added than was there");
    }
}

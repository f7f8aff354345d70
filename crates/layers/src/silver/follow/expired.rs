//! A commit that removed history: it deletes rows, and names neither their keys nor what went with
//! them. The rows themselves tell their keys; the rest follows from the border as it did for the
//! writer.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_lake::DataFile;
use alluvium_lake::index::KeyEntries;
use alluvium_lake::table::Mark;
use alluvium_model::Layer;
use roaring::RoaringTreemap;

use super::super::expire::{Bounds, Expired};
use super::super::versions::{self, KEY_HASH};
use super::{Follower, Halt};
use crate::ledger_note::LayerNote;

/// What a commit did that brought no rows.
pub(super) struct Removed {
    pub(super) deleted: BTreeMap<String, RoaringTreemap>,
    /// Files of which nothing is left.
    pub(super) emptied: Vec<DataFile>,
    /// The state of the entity as a whole, where it was told anew.
    pub(super) whole: Option<String>,
}

impl Follower<'_> {
    /// Follows a commit that brought no rows: what it deleted is history that was removed.
    pub(super) async fn remove(&mut self, mut removed: Removed, mark: &Mark) -> Result<(), Halt> {
        removed.deleted.retain(|_, rows| !rows.is_empty());
        let rows = removed.deleted.values().map(RoaringTreemap::len).sum();
        self.count(rows, rows)?;
        let keys = self.keys_of(&removed).await?;
        tokio::task::block_in_place(|| self.forget(&keys, &removed, mark))?;
        self.place.numbers.keep_only(&self.place.table);
        Ok(())
    }

    /// The keys of the rows that are gone, as their files tell.
    async fn keys_of(&self, removed: &Removed) -> Result<BTreeSet<u128>, Halt> {
        let table = &self.place.table;
        let mut keys = BTreeSet::new();
        for (path, rows) in &removed.deleted {
            let emptied = || removed.emptied.iter().find(|file| file.path == *path);
            let file = table.file_by_path(path).or_else(emptied);
            let file = file.ok_or_else(|| Halt::unfit("rows went of a file that is not known"))?;
            let rows: Vec<u64> = rows.iter().collect();
            let read = table.read_rows_of(file, &rows, Some(&[KEY_HASH])).await?;
            keys.extend(versions::keys(&read)?);
        }
        Ok(keys)
    }

    fn forget(&self, keys: &BTreeSet<u128>, removed: &Removed, mark: &Mark) -> Result<(), Halt> {
        let mut expired = Expired::default();
        if !keys.is_empty() {
            let bounds = Bounds::of(self.border()?);
            for key in keys {
                expired.add(self.entries(*key)?, bounds, self.shape.first)?;
            }
        }
        let rows: u64 = removed.deleted.values().map(RoaringTreemap::len).sum();
        let places = self.places(&expired)?;
        let went = |(path, row): &(&str, u32)| {
            removed.deleted.get(*path).is_some_and(|rows| rows.contains(u64::from(*row)))
        };
        if rows != places.len() as u64 || !places.iter().all(went) {
            return Err(Halt::unfit("rows went that do not belong to history before its border"));
        }
        let mut update = self.index.update();
        expired.forget(&mut update)?;
        if let Some(whole) = &removed.whole {
            update.whole(whole);
        }
        Ok(update.finish(mark, &self.shape.fingerprint)?)
    }

    /// The border that holds where the table stands on its topic.
    fn border(&self) -> Result<i64, Halt> {
        let note = LayerNote::of(&self.place.table, Layer::Silver, &self.shape.entity.id())?;
        let progress = note.map(|note| note.progress());
        let borders = &self.place.closings.borders;
        let border = progress.and_then(|at| borders.of_table(at.epoch, at.offset));
        border.ok_or_else(|| Halt::unfit("rows went, and no history was removed"))
    }

    fn entries(&self, key: u128) -> Result<KeyEntries, Halt> {
        let (found, _) = self.index.keys_from(key, 1)?;
        let found = found.into_iter().find(|entries| entries.key == key);
        found.ok_or_else(|| Halt::unfit("rows went of a key that it does not have"))
    }

    /// Where the rows stand that go.
    fn places(&self, expired: &Expired) -> Result<BTreeSet<(&str, u32)>, Halt> {
        let gone = || Halt::unfit("it names a row that is gone");
        let places = expired
            .rows
            .iter()
            .map(|(file, row)| self.place.numbers.place(*file, *row).ok_or_else(gone));
        places.collect()
    }
}

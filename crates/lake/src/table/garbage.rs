//! Files that nothing refers to: what crashes leave behind, what compaction replaced, and vectors
//! that were written anew.

use std::collections::{BinaryHeap, HashSet};

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::{Table, deletion};
use crate::LakeError;

/// What is to be looked at for garbage.
#[derive(Clone, Copy)]
pub struct Garbage<'a> {
    /// Only what was written, and left the table, before this goes: milliseconds since 1970.
    pub before_ms: i64,
    /// Look at what stands after this path only, as [`GarbageRemoved::next`] said.
    pub after: Option<&'a Path>,
    /// Look at no more objects than this.
    pub limit: usize,
    /// The folder, relative to the table, of what the caller keeps beside it; no other objects than
    /// the table's own and these are ever removed.
    pub beside: &'a str,
    /// Whether an object in that folder, told by its whole path, is to be kept.
    pub keep: &'a (dyn Fn(&Path) -> bool + Sync),
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbageRemoved {
    /// How many objects.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<Path>,
}

impl Table {
    /// Removes files that no version refers to, and has not for a while. Orphans of an unfinished
    /// commit are told by their age, so that `before_ms` must lie well before any that may still be
    /// under way. What others have committed since is not garbage: where there is such a commit, or
    /// where it is not known whether there is, nothing is removed.
    pub async fn remove_garbage(
        &mut self,
        garbage: &Garbage<'_>,
    ) -> Result<GarbageRemoved, LakeError> {
        if !self.is_newest().await? {
            return Ok(GarbageRemoved::default());
        }
        let listed = self.list_some(garbage).await?;
        let next = (listed.len() >= garbage.limit)
            .then(|| listed.last().map(|meta| meta.location.clone()))
            .flatten();
        let live = self.referred_to()?;
        let before = self.lake.written_before(garbage.before_ms);
        let doomed: Vec<&ObjectMeta> = listed
            .iter()
            .filter(|meta| meta.last_modified < before)
            .filter(|meta| self.is_garbage(meta, &live, garbage))
            .collect();
        let (removed, bytes) = (doomed.len() as u64, doomed.iter().map(|meta| meta.size).sum());
        let doomed = doomed.into_iter().map(|meta| meta.location.clone()).collect();
        self.lake.delete_all(doomed).await?;
        if next.is_none() {
            self.forget_buried(garbage.before_ms);
        }
        Ok(GarbageRemoved { removed, bytes, next })
    }

    /// The files that the present version refers to, relative to the table.
    fn referred_to(&self) -> Result<HashSet<String>, LakeError> {
        let mut live = HashSet::new();
        for file in self.files() {
            live.insert(file.path.clone());
            if let Some(vector) = &file.deletion_vector {
                live.insert(deletion::path_of(vector)?);
            }
        }
        Ok(live)
    }

    fn is_garbage(&self, meta: &ObjectMeta, live: &HashSet<String>, garbage: &Garbage<'_>) -> bool {
        let Some(parts) = meta.location.prefix_match(&self.path) else { return false };
        let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
        let relative = parts.join("/");
        let Some(name) = parts.last() else { return false };
        let is_ours = (name.starts_with("part-") && name.ends_with(".parquet"))
            || (name.starts_with("deletion_vector_") && name.ends_with(".bin"));
        if is_ours {
            let left = self.state.gone.get(&relative).map(|gone| gone.at_ms);
            let long_ago = left.is_none_or(|at| at < Some(garbage.before_ms));
            return long_ago && !live.contains(&relative);
        }
        !garbage.beside.is_empty()
            && relative.starts_with(&format!("{}/", garbage.beside))
            && !(garbage.keep)(&meta.location)
    }

    /// The first objects after the given one, by path; the log's are left out.
    async fn list_some(&self, garbage: &Garbage<'_>) -> Result<Vec<ObjectMeta>, LakeError> {
        let failed = |e| LakeError::store(format!("listing {}", self.path), e);
        let store = self.lake.store();
        let root = store.list_with_delimiter(Some(&self.path)).await.map_err(failed)?;
        let mut first = First { limit: garbage.limit.max(1), heap: BinaryHeap::new() };
        let after = |meta: &ObjectMeta| garbage.after.is_none_or(|after| meta.location > *after);
        root.objects.into_iter().filter(after).for_each(|meta| first.push(meta));
        for folder in root.common_prefixes {
            if folder.filename() == Some("_delta_log") {
                continue;
            }
            let mut listed = store.list(Some(&folder));
            while let Some(meta) = listed.try_next().await.map_err(failed)? {
                if after(&meta) {
                    first.push(meta);
                }
            }
        }
        Ok(first.heap.into_sorted_vec().into_iter().map(|ByPath(meta)| meta).collect())
    }
}

/// The first objects by path of however many: a store need not list them in order.
struct First {
    limit: usize,
    heap: BinaryHeap<ByPath>,
}

impl First {
    fn push(&mut self, meta: ObjectMeta) {
        self.heap.push(ByPath(meta));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }
}

struct ByPath(ObjectMeta);

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.location == other.0.location
    }
}

impl Eq for ByPath {}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.location.cmp(&other.0.location)
    }
}

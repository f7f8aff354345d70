//! What is too old goes: versions that ended longer ago than the entity keeps its history, and what
//! is remembered beside the table only for events that would be refused by now.
//!
//! A border is drawn in the commit that removes the first rows, and holds from then on. Each commit
//! removes all that a stretch of keys has before it, so that breaking off in between leaves rows
//! that the next walk removes, and nothing else.

use std::collections::BTreeMap;

use alluvium_lake::index::{
    CurrentEntry, HiddenEntry, IndexError, IndexUpdate, KeyEntries, Slice, VersionEntry,
};
use alluvium_lake::{Commit, CommitOutcome, FileId};
use alluvium_model::sequence::{Instant, SequenceBuilder, first_of};
use alluvium_model::{Maintained, SequenceType, StageError};
use roaring::RoaringTreemap;
use serde_json::Value;

use super::hidden::{self, SideFile};
use super::late::micros;
use super::{Open, SilverStage, border, lake_error, reading_error};

/// So many entries of the index are looked at in one step.
const STEP: usize = 20_000;
/// A walk is worth it when its border has come further by this part of the time that is kept, but
/// at least once a day.
const PARTS: i64 = 24;
const DAY: i64 = 86_400_000_000;

/// The walk under way, and how far those before it went.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    walked: Bounds,
    walk: Option<Walk>,
}

#[derive(Debug, Clone, Copy)]
struct Walk {
    bounds: Bounds,
    /// The key that it goes on with.
    from: u128,
}

/// Times in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Versions that ended before it are removed.
    removed: Option<i64>,
    /// Records that are older are refused.
    refused: Option<i64>,
}

impl Bounds {
    /// Those of history that is removed before a border.
    pub(super) fn of(border: i64) -> Self {
        Self { removed: Some(border), refused: Some(border) }
    }
}

/// What a step takes away.
#[derive(Default)]
pub(super) struct Expired {
    /// Rows of the table, as the index names them.
    pub(super) rows: Vec<(u32, u32)>,
    versions: Vec<(u128, Slice)>,
    hidden: Vec<(u128, Slice)>,
    keys: Vec<u128>,
}

impl SilverStage {
    /// A step of removing what is too old, begun if it is worth it, or whatever it is worth if
    /// `all`. False if none is under way.
    pub(super) async fn expire(
        &mut self,
        all: bool,
        done: &mut Maintained,
    ) -> Result<bool, StageError> {
        self.open().await?;
        let Some(open) = self.open.as_ref() else { return Ok(false) };
        if self.upkeep.expiry.walk.is_none() {
            let bounds = self.bounds(open, true);
            let limits = self.shape.limits;
            let worth = |kept: Option<i64>| match all {
                true => 1,
                false => kept.map_or(DAY, |kept| (kept / PARTS).min(DAY)).max(1),
            };
            let walked = self.upkeep.expiry.walked;
            let due = goes_on(walked.removed, bounds.removed, worth(limits.retention))
                || goes_on(walked.refused, bounds.refused, worth(limits.horizon));
            if !due {
                return Ok(false);
            }
            self.upkeep.expiry.walk = Some(Walk { bounds, from: 0 });
        }
        let Some(walk) = self.upkeep.expiry.walk else { return Ok(false) };
        let next = self.expire_keys(walk.bounds, walk.from, done).await?;
        let expiry = &mut self.upkeep.expiry;
        expiry.walk = next.map(|from| Walk { from, ..walk });
        if next.is_none() {
            expiry.walked = walk.bounds;
            self.forget_deliveries()?;
        }
        Ok(next.is_some())
    }

    /// Forgets the deliveries whose records are known no more.
    fn forget_deliveries(&self) -> Result<(), StageError> {
        let Some(open) = self.open.as_ref().filter(|_| self.shape.is_by_arrival()) else {
            return Ok(());
        };
        // Not what the walk would have removed: where it found nothing, it has drawn no border.
        let Some(refused) = self.bounds(open, false).refused else { return Ok(()) };
        let mut before = SequenceBuilder::default();
        before.timestamp(Instant::from_microsecond(refused));
        let Some(before) = before.finish() else { return Ok(()) };
        tokio::task::block_in_place(|| self.index.forget_deliveries(before.encoded()))
            .map_err(|error| reading_error(&self.index, error))
    }

    /// Removes what is before the border that holds already.
    pub(crate) async fn expire_known(&mut self) -> Result<(), StageError> {
        self.open().await?;
        let Some(open) = self.open.as_ref() else { return Ok(()) };
        let bounds = self.bounds(open, false);
        let mut next = bounds.removed.map(|_| 0);
        while let Some(from) = next {
            next = self.expire_keys(bounds, from, &mut Maintained::default()).await?;
        }
        Ok(())
    }

    /// How far back things are kept. `draws` tells whether a new border may be drawn.
    fn bounds(&self, open: &Open, draws: bool) -> Bounds {
        let Some(progress) = &open.progress else { return Bounds::default() };
        let limits = self.shape.limits;
        let drawn = open.closings.borders.of_table(progress.epoch, progress.offset);
        let now = self.lake.clock().now().as_microsecond();
        let kept = limits.retention.filter(|_| draws).map(|kept| now.saturating_sub(kept));
        let removed = drawn.max(kept);
        let horizon = open.newest.zip(limits.horizon).map(|(at, by)| at.saturating_sub(by));
        Bounds { removed, refused: removed.max(horizon) }
    }

    /// Removes what a stretch of keys has before the bounds. The key to go on with, if there is one.
    async fn expire_keys(
        &mut self,
        bounds: Bounds,
        from: u128,
        done: &mut Maintained,
    ) -> Result<Option<u128>, StageError> {
        self.open().await?;
        let first = self.shape.first;
        let found = tokio::task::block_in_place(|| {
            let (keys, next) = self.index.keys_from(from, STEP)?;
            let mut expired = Expired::default();
            for key in keys {
                expired.add(key, bounds, first)?;
            }
            Ok::<_, IndexError>((expired, next))
        });
        let (expired, next) = found.map_err(|error| reading_error(&self.index, error))?;
        if !expired.is_nothing() && !self.commit_expired(bounds, &expired).await? {
            // Somebody else committed: what stands in memory is behind the table.
            self.open = None;
            return Ok(Some(from));
        }
        done.versions_removed += expired.versions.len() as u64;
        Ok(next)
    }

    /// Takes rows out of the table, and entries out of the index. False if another writer was first.
    async fn commit_expired(
        &mut self,
        bounds: Bounds,
        expired: &Expired,
    ) -> Result<bool, StageError> {
        let Some(open) = self.open.as_mut() else { return Ok(false) };
        let Some(progress) = &open.progress else { return Ok(false) };
        let (epoch, offset) = (progress.epoch, progress.offset);
        let mut closings = open.closings.clone();
        let mut txns = Vec::new();
        let drawn = closings.borders.of_table(epoch, offset);
        if let Some(removed) = bounds.removed.filter(|removed| drawn < Some(*removed)) {
            closings.borders.draw(epoch, offset, removed);
            let mut side = SideFile::new(&self.shape.columns, open.table.txn(hidden::TXN));
            side.whole(&closings.write());
            let written = side.write(&self.lake, open.table.path()).await.map_err(lake_error)?;
            txns.push((hidden::TXN.to_owned(), written.0));
            txns.push((border::TXN.to_owned(), removed));
        }
        let places = open.numbers.by_file(&open.table, expired.rows.iter().copied())?;
        let rows = |(id, rows): (FileId, Vec<(u64, _)>)| {
            (id, rows.into_iter().map(|(row, _)| row).collect())
        };
        let delete: BTreeMap<FileId, RoaringTreemap> = places.into_iter().map(rows).collect();
        if !delete.is_empty() || !txns.is_empty() {
            let commit =
                Commit { add: Vec::new(), delete, txns, info: Value::Null, operation: "DELETE" };
            match open.table.commit(commit).await.map_err(lake_error)? {
                CommitOutcome::Written { .. } => {}
                CommitOutcome::Conflict => return Ok(false),
            }
        }
        open.numbers.keep_only(&open.table);
        open.closings = closings;
        let (mark, closings) = (open.table.mark(), open.closings.write());
        let indexed = tokio::task::block_in_place(|| {
            let mut update = self.index.update();
            expired.forget(&mut update)?;
            update.whole(&closings);
            update.finish(&mark, &self.shape.fingerprint)
        });
        if let Err(error) = indexed {
            // The table is as it is to be; the index is rebuilt when the stage opens again.
            tracing::warn!(%error, "the key index could not be written");
            self.open = None;
        }
        Ok(true)
    }
}

/// Whether a bound has come so much further.
fn goes_on(walked: Option<i64>, bound: Option<i64>, by: i64) -> bool {
    bound.is_some_and(|bound| walked.is_none_or(|walked| bound.saturating_sub(walked) >= by))
}

impl Expired {
    fn is_nothing(&self) -> bool {
        self.versions.is_empty() && self.hidden.is_empty() && self.keys.is_empty()
    }

    /// Adds what is too old of a key.
    pub(super) fn add(
        &mut self,
        of: KeyEntries,
        bounds: Bounds,
        first: SequenceType,
    ) -> Result<(), IndexError> {
        let current = of
            .current
            .as_deref()
            .map(|bytes| CurrentEntry::parse(bytes).ok_or(IndexError::Damaged));
        let current = current.transpose()?;
        let parse = |bytes| VersionEntry::parse(bytes).ok_or(IndexError::Damaged);
        let mut versions =
            of.closed.iter().map(|bytes| parse(bytes)).collect::<Result<Vec<_>, _>>()?;
        versions.extend(current.and_then(|current| current.open));
        let parse = |bytes| HiddenEntry::parse(bytes).ok_or(IndexError::Damaged);
        let hidden = of.hidden.iter().map(|bytes| parse(bytes)).collect::<Result<Vec<_>, _>>()?;

        let gone = bounds.removed.map_or(0, |border| removable(&versions, &hidden, border));
        let old = bounds.refused.map(|border| forgettable(&versions[gone..], &hidden, border));
        let old = old.unwrap_or_else(|| vec![false; hidden.len()]);
        let nothing_left = gone == versions.len() && old.iter().all(|old| *old);
        let known = current.and_then(|current| micros(first_of(first, current.known)?));
        if nothing_left && known.zip(bounds.refused).is_some_and(|(known, border)| known < border) {
            self.keys.push(of.key);
        }
        self.rows.extend(versions[..gone].iter().map(|version| (version.file, version.row)));
        self.versions.extend(of.closed.into_iter().take(gone).map(|bytes| (of.key, bytes)));
        let old = of.hidden.into_iter().zip(old).filter(|(_, old)| *old);
        self.hidden.extend(old.map(|(bytes, _)| (of.key, bytes)));
        Ok(())
    }

    /// Takes it out of the index.
    pub(super) fn forget(&self, update: &mut IndexUpdate) -> Result<(), IndexError> {
        for (key, bytes) in &self.versions {
            let version = VersionEntry::parse(bytes).ok_or(IndexError::Damaged)?;
            update.remove_closed(*key, version.opener);
        }
        for (key, bytes) in &self.hidden {
            update.remove_hidden(*key, &HiddenEntry::parse(bytes).ok_or(IndexError::Damaged)?);
        }
        self.keys.iter().for_each(|key| update.forget_key(*key));
        Ok(())
    }
}

/// How many of a key's versions, the first ones, ended before the border and are needed no more.
fn removable(versions: &[VersionEntry<'_>], hidden: &[HiddenEntry<'_>], border: i64) -> usize {
    let ended = |version: &VersionEntry<'_>| {
        version.closed_at.and_then(micros).is_some_and(|end| end < border)
    };
    needed(versions, hidden, versions.partition_point(ended))
}

/// The first of the versions that the one at `at` needs, so that an event that splits it finds what
/// it would have found: where it was opened by an event that came without some columns, the ones
/// that these were taken from.
fn needed(versions: &[VersionEntry<'_>], hidden: &[HiddenEntry<'_>], at: usize) -> usize {
    let mut first = at;
    let pair =
        |first: usize| first.checked_sub(1).map(|n| versions.get(n)).zip(versions.get(first));
    while let Some((Some(before), version)) = pair(first) {
        let is_partial = hidden.iter().any(|e| e.sequence == version.opener && !e.unset.is_empty());
        let continues = before.closed_at == Some(version.opener_at);
        let tells_its_opener = first != at && version.opener == version.shown;
        if !is_partial || !continues || tells_its_opener {
            break;
        }
        first -= 1;
    }
    first
}

/// Which of a key's hidden events no event that is still taken has to do with: they are older than
/// the border, and than the version that stands there.
fn forgettable(
    versions: &[VersionEntry<'_>],
    hidden: &[HiddenEntry<'_>],
    border: i64,
) -> Vec<bool> {
    let is_before =
        |version: &VersionEntry<'_>| micros(version.opener_at).is_some_and(|from| from < border);
    let there = versions.partition_point(is_before).checked_sub(1);
    let from = there.map(|at| versions[needed(versions, hidden, at)].opener_at);
    let is_old = |event: &HiddenEntry<'_>| {
        micros(event.at).is_some_and(|at| at < border) && from.is_none_or(|from| event.at < from)
    };
    hidden.iter().map(is_old).collect()
}

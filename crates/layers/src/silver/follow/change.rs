//! One commit, taken over into the index: of each key that it concerns, all that is known now.

use std::collections::{BTreeMap, HashSet};

use alluvium_lake::index::{
    CurrentEntry, EventMeta, HiddenEntry, IndexError, IndexUpdate, KeyWindow, Slice, VersionEntry,
};
use alluvium_lake::table::Mark;
use alluvium_model::Op;
use roaring::RoaringTreemap;

use super::super::closing::Closings;
use super::super::files::Names;
use super::super::hidden::SideEvent;
use super::super::side::{Known, Side, damaged_side, place};
use super::arrived::{Arrived, Incoming};
use super::{Follower, Halt};

/// What a commit did.
pub(super) struct Change<'f, 'a> {
    pub(super) follower: &'f Follower<'a>,
    pub(super) arrived: Arrived<'a>,
    pub(super) events: Vec<SideEvent>,
    pub(super) deleted: BTreeMap<String, RoaringTreemap>,
    /// The state of the entity as a whole, where it was told anew.
    pub(super) whole: Option<String>,
}

/// What the index holds of a key that the commit concerns.
struct Before {
    key: u128,
    current: Option<Slice>,
    window: KeyWindow,
}

/// What stays of it.
struct Kept<'b> {
    key: u128,
    current: Option<CurrentEntry<'b>>,
    closed: Vec<VersionEntry<'b>>,
    hidden: Vec<HiddenEntry<'b>>,
    /// Versions whose rows were deleted.
    gone: Vec<VersionEntry<'b>>,
    open_gone: Option<VersionEntry<'b>>,
}

impl Change<'_, '_> {
    /// Brings the index to the commit's version.
    pub(super) fn write(self, names: &mut Names<'_>, mark: &Mark) -> Result<(), Halt> {
        let before = self.before()?;
        let kept = self.kept(&before)?;
        let closings = self.follower.place.closings.clone();
        let mut side = self.side(&kept, closings, names)?;
        let mut update = self.follower.index.update();
        let mut opened = BTreeMap::new();
        let mut closed = HashSet::new();
        for Incoming { key, version, values } in &self.arrived.rows {
            let of_key = kept.binary_search_by_key(key, |kept| kept.key).ok().map(|at| &kept[at]);
            let mut entry = version.entry(values.as_deref().unwrap_or_default());
            let told = side.shows(*key, &entry);
            if let Some(op) = told.or_else(|| of_key.and_then(|kept| kept.op_of(&entry))) {
                entry.meta.op = op;
            }
            side.know(*key, entry.shown, entry.meta.op == Op::Read);
            if values.is_some() {
                opened.insert(*key, entry);
            } else {
                side.know_closing(*key, entry.closed_at);
                closed.insert((*key, entry.opener));
                update.closed(*key, &entry);
            }
        }
        for kept in &kept {
            kept.put(&mut side, opened.get(&kept.key), &closed, &mut update);
        }
        self.put_hidden(&side, &kept, names, &mut update)?;
        let index = self.follower.index;
        let Arrived { fresh, mut deliveries, rows, .. } = self.arrived;
        for Incoming { version, .. } in &rows {
            deliveries.note(&version.opener);
            deliveries.note(&version.shown);
        }
        for event in &self.events {
            deliveries.note(event.entry(0, 0).ok_or_else(damaged_side)?.sequence);
        }
        deliveries.put(index, &mut update)?;
        fresh.put(index, &mut update)?;
        for (number, name) in names.new_names() {
            update.name(*number, name);
        }
        if let Some(whole) = &self.whole {
            update.whole(whole);
        }
        Ok(update.finish(mark, &self.follower.shape.fingerprint)?)
    }

    fn before(&self) -> Result<Vec<Before>, Halt> {
        let index = self.follower.index;
        let rows = self.arrived.rows.iter().map(|row| row.key);
        let mut keys: Vec<u128> = rows.chain(self.events.iter().map(|event| event.key)).collect();
        keys.sort_unstable();
        keys.dedup();
        let current = index.current(&keys)?;
        let windows = keys.iter().map(|key| index.window(*key, &[], None));
        let all = keys.iter().zip(current).zip(windows);
        all.map(|((key, current), window)| Ok(Before { key: *key, current, window: window? }))
            .collect()
    }

    /// What stays of what the index holds. Rows that were deleted must be of these keys.
    fn kept<'b>(&self, before: &'b [Before]) -> Result<Vec<Kept<'b>>, Halt> {
        let numbers = &self.follower.place.numbers;
        let deleted: u64 = self.deleted.values().map(RoaringTreemap::len).sum();
        let (mut all, mut gone) = (Vec::with_capacity(before.len()), 0);
        for before in before {
            let mut kept = before.read()?;
            let mut is_known = true;
            let mut stays = |version: &VersionEntry<'_>| {
                let Some((path, row)) = numbers.place(version.file, version.row) else {
                    is_known = false;
                    return true;
                };
                !self.deleted.get(path).is_some_and(|rows| rows.contains(u64::from(row)))
            };
            let (stay, go) = std::mem::take(&mut kept.closed).into_iter().partition(&mut stays);
            (kept.closed, kept.gone) = (stay, go);
            gone += kept.gone.len() as u64;
            if let Some(current) = &mut kept.current
                && current.open.as_ref().is_some_and(|open| !stays(open))
            {
                gone += 1;
                kept.open_gone = current.open.take();
            }
            if !is_known {
                return Err(Halt::unfit("it names a row that is gone"));
            }
            all.push(kept);
        }
        match gone == deleted {
            true => Ok(all),
            false => Err(Halt::unfit("rows went of keys that the commit does not tell")),
        }
    }

    /// What is remembered of the keys, old and new.
    fn side(
        &self,
        kept: &[Kept<'_>],
        closings: Closings,
        names: &mut Names<'_>,
    ) -> Result<Side, Halt> {
        let mut events = Vec::with_capacity(self.events.len());
        for kept in kept {
            for entry in &kept.hidden {
                let EventMeta { run, batch, .. } = entry.meta;
                let run = names.name(run)?.to_owned();
                let batch = names.name(batch)?.to_owned();
                events.push(SideEvent::new(kept.key, run, batch, entry));
            }
        }
        events.extend(self.events.iter().cloned());
        let mut side = Side::of(events, closings, None)?;
        for kept in kept {
            if let Some(current) = &kept.current {
                side.know(kept.key, current.known, current.read);
            }
            for version in kept.closed.iter().chain(kept.open()) {
                side.shows(kept.key, version);
            }
        }
        Ok(side)
    }

    /// Events that no version shows go in; those that are no longer hidden go.
    fn put_hidden(
        &self,
        side: &Side,
        kept: &[Kept<'_>],
        names: &mut Names<'_>,
        update: &mut IndexUpdate,
    ) -> Result<(), Halt> {
        let mut put = HashSet::new();
        for event in side.remaining() {
            let (run, batch) = (names.number(&event.run), names.number(&event.batch));
            let entry = event.entry(run, batch).ok_or_else(damaged_side)?;
            put.insert(place(event.key, &entry));
            update.hidden(event.key, &entry);
        }
        for kept in kept {
            for entry in &kept.hidden {
                if !put.contains(&place(kept.key, entry)) {
                    update.remove_hidden(kept.key, entry);
                }
            }
        }
        Ok(())
    }
}

impl Before {
    fn read(&self) -> Result<Kept<'_>, IndexError> {
        let damaged = || IndexError::Damaged;
        let current = self.current.as_deref().map(|b| CurrentEntry::parse(b).ok_or_else(damaged));
        let closed = self.window.closed.iter().map(|b| VersionEntry::parse(b).ok_or_else(damaged));
        let hidden = self.window.hidden.iter().map(|b| HiddenEntry::parse(b).ok_or_else(damaged));
        Ok(Kept {
            key: self.key,
            current: current.transpose()?,
            closed: closed.collect::<Result<_, _>>()?,
            hidden: hidden.collect::<Result<_, _>>()?,
            gone: Vec::new(),
            open_gone: None,
        })
    }
}

impl<'b> Kept<'b> {
    /// The open version, if it stays.
    fn open(&self) -> Option<&VersionEntry<'b>> {
        self.current.as_ref().and_then(|current| current.open.as_ref())
    }

    /// What the event did that a version shows, as it was known.
    fn op_of(&self, version: &VersionEntry<'_>) -> Option<Op> {
        let before = self.closed.iter().chain(&self.gone).chain(&self.open_gone).chain(self.open());
        let same = |known: &&VersionEntry<'_>| {
            known.shown == version.shown && known.meta.position == version.meta.position
        };
        before.into_iter().find(same).map(|known| known.meta.op)
    }

    /// The key's state, and without its closed versions that are gone.
    fn put(
        &self,
        side: &mut Side,
        opened: Option<&VersionEntry<'_>>,
        closed: &HashSet<(u128, &[u8])>,
        update: &mut IndexUpdate,
    ) {
        for version in &self.gone {
            if !closed.contains(&(self.key, version.opener)) {
                update.remove_closed(self.key, version.opener);
            }
        }
        let open = opened.or(self.open());
        let completed = open.is_some_and(|open| side.completes(self.key, open));
        let Known { sequence, read } = side.take_known(self.key);
        let mut entry = Vec::new();
        CurrentEntry { known: &sequence, read, completed, open: open.copied() }.put(&mut entry);
        update.current(self.key, &entry);
    }
}

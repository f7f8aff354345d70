//! Sweeps: a walk over all entries, a little at a time, after which none names a place that its row
//! has left before the walk began. So moves do not pile up.

use std::collections::HashMap;

use fjall::{Guard, Keyspace};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::entry::{CurrentEntry, EventMeta, HiddenEntry, VersionEntry};
use super::error::IndexError;
use super::moves::FileMove;
use super::store::KeyIndex;

/// Under what the state of the sweep stands.
const STATE: &str = "sweep";

/// A sweep under way, or the one to come. What it has done is durable with every step.
#[derive(Debug, Clone)]
pub struct Sweep {
    place: Place,
    /// Runs and batches that entries name, as far as this walk has come.
    used: RoaringBitmap,
    /// Whether `used` has been collected from the walk's beginning on.
    is_whole: bool,
    /// Names from this number on are younger than the walk.
    names_before: u32,
}

/// How far a walk has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// Counts the sweeps.
    pass: u32,
    /// Whether one is under way.
    is_on: bool,
    /// Which keyspace it is in.
    part: u8,
    /// The last key that it has looked at, in hexadecimal digits.
    after: String,
}

/// What a step of a sweep did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Swept {
    /// Entries looked at.
    pub looked_at: u64,
    /// Entries led to the present place of their row.
    pub rewritten: u64,
    /// Moves that no entry needs any more: files by number. They are forgotten.
    pub forgotten: Vec<u32>,
    /// Whether the sweep has come to its end.
    pub is_done: bool,
}

impl Sweep {
    /// The sweep as the index left it.
    pub fn load(index: &KeyIndex) -> Result<Self, IndexError> {
        let bytes = index.meta.get(STATE)?;
        let place = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ok(Self { place, used: RoaringBitmap::new(), is_whole: false, names_before: 0 })
    }

    /// Whether a walk is under way.
    pub fn is_on(&self) -> bool {
        self.place.is_on
    }

    /// What a move that is made now is to carry as its [`FileMove::pass`].
    pub fn pass(&self) -> u32 {
        self.place.pass
    }

    /// Notes names that entries written since are given, so that they outlive the walk.
    pub fn uses(&mut self, names: impl IntoIterator<Item = u32>) {
        if self.place.is_on {
            self.used.extend(names);
        }
    }

    /// Begins a walk if none is under way.
    pub fn begin(&mut self, index: &KeyIndex) -> Result<(), IndexError> {
        if !self.place.is_on {
            let pass = self.place.pass + 1;
            self.place = Place { pass, is_on: true, ..Place::default() };
            self.used.clear();
            self.is_whole = true;
            self.names_before = index.next_name()?;
        }
        Ok(())
    }

    /// Looks at up to `limit` further entries. At the end of the walk moves and names that no entry
    /// needs are forgotten; `is_kept` tells which names stay all the same.
    pub fn step(
        &mut self,
        index: &KeyIndex,
        moves: &HashMap<u32, FileMove>,
        limit: usize,
        is_kept: &dyn Fn(u32) -> bool,
    ) -> Result<Swept, IndexError> {
        let mut swept = Swept::default();
        let mut update = index.update();
        let after = hex_bytes(&self.place.after).ok_or(IndexError::Damaged)?;
        let part = match self.place.part {
            0 => &index.current,
            1 => &index.history,
            _ => &index.hidden,
        };
        let mut last = None;
        for entry in entries_after(part, &after).take(limit) {
            let (key, value) = entry.into_inner()?;
            swept.looked_at += 1;
            if let Some(present) = self.look_at(&value, moves)? {
                swept.rewritten += 1;
                update.batch.insert(part, key.clone(), present);
            }
            last = Some(key);
        }
        match last {
            Some(key) if swept.looked_at == limit as u64 => self.place.after = hex_text(&key),
            _ if self.place.part < 2 => {
                self.place =
                    Place { part: self.place.part + 1, after: String::new(), ..self.place };
            }
            _ => {
                self.place = Place { pass: self.place.pass, ..Place::default() };
                swept.is_done = true;
                for (file, _) in moves.iter().filter(|(_, moved)| moved.pass < self.place.pass) {
                    update.forget_move(*file);
                    swept.forgotten.push(*file);
                }
                for name in self.unused_names(index, is_kept)? {
                    update.forget_name(name);
                }
            }
        }
        let state = serde_json::to_vec(&self.place).map_err(|_| IndexError::Damaged)?;
        update.batch.insert(&index.meta, STATE, state);
        update.write_part()?;
        Ok(swept)
    }

    /// The entry with the present place of its row, if it names another.
    fn look_at(
        &mut self,
        bytes: &[u8],
        moves: &HashMap<u32, FileMove>,
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let mut out = Vec::new();
        match self.place.part {
            0 => {
                let entry = CurrentEntry::parse(bytes).ok_or(IndexError::Damaged)?;
                let Some(open) = entry.open else { return Ok(None) };
                self.note(&open.meta);
                let Some(present) = present(open, moves)? else { return Ok(None) };
                CurrentEntry { open: Some(present), ..entry }.put(&mut out);
            }
            1 => {
                let entry = VersionEntry::parse(bytes).ok_or(IndexError::Damaged)?;
                self.note(&entry.meta);
                let Some(present) = present(entry, moves)? else { return Ok(None) };
                present.put(&mut out);
            }
            _ => {
                self.note(&HiddenEntry::parse(bytes).ok_or(IndexError::Damaged)?.meta);
                return Ok(None);
            }
        }
        Ok(Some(out))
    }

    fn note(&mut self, meta: &EventMeta) {
        self.used.insert(meta.run);
        self.used.insert(meta.batch);
    }

    /// Names that nothing needs. The greatest number stays taken, for the next is counted from it.
    fn unused_names(
        &self,
        index: &KeyIndex,
        is_kept: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<u32>, IndexError> {
        if !self.is_whole {
            return Ok(Vec::new());
        }
        let names = index.names()?.into_keys();
        let unused =
            names.filter(|id| *id < self.names_before && !self.used.contains(*id) && !is_kept(*id));
        Ok(unused.collect())
    }
}

fn present<'a>(
    entry: VersionEntry<'a>,
    moves: &HashMap<u32, FileMove>,
) -> Result<Option<VersionEntry<'a>>, IndexError> {
    let Some(moved) = moves.get(&entry.file) else { return Ok(None) };
    let row = moved.place(entry.row).ok_or(IndexError::Damaged)?;
    Ok(Some(VersionEntry { file: moved.to, row, ..entry }))
}

fn entries_after(part: &Keyspace, after: &[u8]) -> impl Iterator<Item = Guard> + use<> {
    use std::ops::Bound;
    let from = match after.is_empty() {
        true => Bound::Unbounded,
        false => Bound::Excluded(after.to_vec()),
    };
    part.range::<Vec<u8>, _>((from, Bound::Unbounded))
}

fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

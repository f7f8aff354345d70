//! The reading of one message: change by change, its memory used again for every row.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use alluvium_lake::index::Hashes;
use alluvium_model::metadata::SchemaEvolution;
use alluvium_model::sequence::SequenceBuilder;
use alluvium_model::{Message, Op, Position, Sequence};
use alluvium_wire::{ChangeView, extract, for_each_member};
use serde_json::value::RawValue;

use super::super::Rejection;
use super::super::arrival::Arrival;
use super::super::cell::{self, Cell};
use super::super::hash::Digest;
use super::sequence::Place;
use super::{DROPPED, RowDecoder, UNDECLARED, is_fit};

/// What a change says besides its values.
pub(in crate::decode) struct Head {
    pub(in crate::decode) key: u128,
    pub(in crate::decode) sequence: Sequence,
    pub(in crate::decode) hashes: Hashes,
    pub(in crate::decode) old_key: Option<u128>,
}

/// What of a message's rows nobody declared.
#[derive(Default)]
struct Undeclared {
    /// How many members there were.
    count: usize,
    /// The columns that came by themselves before, and were there.
    seen: Vec<bool>,
    /// The members that are no columns yet, by their names in lower case.
    new: BTreeMap<String, String>,
}

impl Undeclared {
    /// Whether a column that came by itself is read of this message.
    fn is_read(&mut self, at: usize) -> bool {
        if !self.seen[at] {
            if self.count >= UNDECLARED {
                return false;
            }
            self.seen[at] = true;
            self.count += 1;
        }
        true
    }

    /// Takes note of a member that is no column.
    fn meet(&mut self, decoder: &RowDecoder, name: &str) {
        if self.count >= UNDECLARED || !is_fit(name) {
            return;
        }
        let lower = name.to_lowercase();
        if !decoder.lower.contains(&lower) && !self.new.contains_key(&lower) {
            self.new.insert(lower, name.to_owned());
            self.count += 1;
        }
    }
}

/// The state of reading one message, its memory used again for every row.
pub(in crate::decode) struct Reading<'d, 'a> {
    decoder: &'d RowDecoder,
    /// Where the message stands in the order of arrival, where there is no other.
    arrival: Option<Arrival<'d>>,
    raws: Vec<Option<&'a RawValue>>,
    cells: Vec<Cell<'a>>,
    /// Tags of the columns that were not sent, in their order.
    unset: Vec<u8>,
    undeclared: Undeclared,
    digest: Digest,
}

impl<'d, 'a> Reading<'d, 'a> {
    pub(in crate::decode) fn new(decoder: &'d RowDecoder, message: &Message) -> Self {
        Self {
            decoder,
            arrival: decoder.sequence.is_empty().then(|| Arrival::of(message, &decoder.entity)),
            raws: vec![None; decoder.slots.len()],
            cells: vec![Cell::Null; decoder.slots.len()],
            unset: Vec::new(),
            undeclared: Undeclared { seen: vec![false; decoder.slots.len()], ..Default::default() },
            digest: Digest::default(),
        }
    }

    /// The stored cells of the change read last.
    pub(in crate::decode) fn stored(&self) -> &[Cell<'a>] {
        &self.cells[..self.decoder.stored]
    }

    /// The tags of the columns that were not sent with the change read last, eight bytes each.
    pub(in crate::decode) fn unset(&self) -> &[u8] {
        &self.unset
    }

    /// Members of rows that are no columns, where they are to become some.
    pub(in crate::decode) fn into_new_members(self) -> BTreeSet<String> {
        self.undeclared.new.into_values().collect()
    }

    /// The place in the source's order of a change that empties the whole entity.
    pub(in crate::decode) fn truncate(
        &mut self,
        change: &ChangeView<'a>,
        position: Position,
    ) -> Result<Sequence, Rejection> {
        self.raws.iter_mut().for_each(|raw| *raw = None);
        if let Some(row) = change.before {
            self.find(row)?;
        }
        self.sequence(change, position)
    }

    /// Reads a change; appends its key as a JSON object to `keys`.
    pub(in crate::decode) fn read(
        &mut self,
        change: &ChangeView<'a>,
        position: Position,
        keys: &mut String,
    ) -> Result<Head, Rejection> {
        self.raws.iter_mut().for_each(|raw| *raw = None);
        self.cells.iter_mut().for_each(|cell| *cell = Cell::Null);
        if let Some(row) = change.row {
            self.find(row)?;
        }
        for (slot, part) in self.decoder.keys.iter().zip(change.key.iter()) {
            // A mapping names parts of the line itself, so that they are always borrowed.
            if let Cow::Borrowed(part) = part {
                self.raws[*slot].get_or_insert(part);
            }
        }
        self.not_sent(change);
        self.cells(change.op)?;
        let key = self.key(keys)?;
        let sequence = self.sequence(change, position)?;
        let hashes = if change.op == Op::Delete { Hashes::default() } else { self.hashes() };
        let old_key = match change.old_key {
            Some(old) if change.op != Op::Delete => Some(self.old_key(old)?),
            _ => None,
        };
        Ok(Head { key, sequence, hashes, old_key: old_key.filter(|old| *old != key) })
    }

    /// Collects the columns that the source did not send.
    fn not_sent(&mut self, change: &ChangeView<'a>) {
        self.unset.clear();
        if change.op == Op::Delete {
            return;
        }
        let decoder = self.decoder;
        let none = change.unset.is_empty() && decoder.null_is_unset.is_empty();
        if none && decoder.dropped.is_empty() {
            return;
        }
        for at in &decoder.dropped {
            if self.raws[*at].is_none() {
                let tag = decoder.slots[*at].tag ^ DROPPED;
                self.unset.extend_from_slice(&tag.to_le_bytes());
            }
        }
        for name in &change.unset {
            match decoder.by_name.get(name.as_ref()) {
                Some(at) => {
                    self.raws[*at] = None;
                    self.not_sent_at(*at);
                }
                // The column is there in the source, and must be here to take its value later.
                None if decoder.evolution == SchemaEvolution::Evolve => {
                    self.undeclared.meet(decoder, name);
                }
                None => {}
            }
        }
        for at in &decoder.null_is_unset {
            if self.raws[*at].is_none_or(|raw| raw.get() == "null") {
                self.not_sent_at(*at);
            }
        }
        // What a change says does not depend on the order in which it says it.
        let mut tags: Vec<[u8; 8]> =
            self.unset.chunks_exact(8).filter_map(|tag| tag.try_into().ok()).collect();
        tags.sort_unstable();
        self.unset = tags.concat();
    }

    fn not_sent_at(&mut self, at: usize) {
        let (decoder, tag) = (self.decoder, self.decoder.slots[at].tag.to_le_bytes());
        let there = self.unset.chunks_exact(8).any(|known| known == tag);
        if at < decoder.stored && !decoder.keys.contains(&at) && !there {
            self.unset.extend_from_slice(&tag);
        }
    }

    fn is_unset(&self, at: usize) -> bool {
        let tag = self.decoder.slots[at].tag;
        let tags = [tag.to_le_bytes(), (tag ^ DROPPED).to_le_bytes()];
        self.unset.chunks_exact(8).any(|unset| tags.iter().any(|tag| tag == unset))
    }

    /// The hash of the key that stands in `old`.
    fn old_key(&mut self, old: &'a RawValue) -> Result<u128, Rejection> {
        let decoder = self.decoder;
        let mut found: Vec<Option<&RawValue>> = vec![None; decoder.keys.len()];
        for_each_member(old, |name, value| {
            let slot = decoder.by_name.get(name.as_ref());
            if let Some(n) = slot.and_then(|at| decoder.keys.iter().position(|key| key == at)) {
                found[n] = Some(value);
            }
        })?;
        self.digest.clear();
        for (at, raw) in decoder.keys.iter().zip(found) {
            let column = &decoder.slots[*at].column;
            let missing = || Rejection {
                code: "missing_key",
                reason: format!("the key before the change lacks `{}`", column.name),
            };
            let raw = raw.ok_or_else(missing)?;
            let cell = cell::read(column, &decoder.zone, raw).map_err(|reason| {
                let reason = format!("the key before the change, `{}`: {reason}", column.name);
                Rejection { code: "bad_type", reason }
            })?;
            if cell == Cell::Null {
                return Err(missing());
            }
            self.digest.value(&cell);
        }
        Ok(self.digest.finish())
    }

    /// Finds the columns' values in a row.
    fn find(&mut self, row: &'a RawValue) -> Result<(), Rejection> {
        let Self { decoder, raws, undeclared, .. } = self;
        let mut expected = 0;
        let mut unknown = None;
        for_each_member(row, |name, value| {
            // Members mostly come in the order of the columns.
            let next = decoder.slots.get(expected);
            let at = match next {
                Some(slot) if slot.path.is_none() && slot.column.name == name => Some(expected),
                _ => decoder.by_name.get(name.as_ref()).copied(),
            };
            match at {
                Some(at) => {
                    if !decoder.slots[at].lenient || undeclared.is_read(at) {
                        raws[at] = Some(value);
                    }
                    expected = at + 1;
                }
                None if decoder.evolution == SchemaEvolution::Discard => {}
                None if decoder.known_members.iter().any(|known| *known == name) => {}
                None if decoder.evolution == SchemaEvolution::Freeze => {
                    unknown = Some(name.into_owned());
                }
                None => undeclared.meet(decoder, &name),
            }
        })?;
        if let Some(name) = unknown {
            let name: String = name.chars().take(64).collect();
            let reason = format!("column `{name}` is not declared, and schema_evolution is freeze");
            return Err(Rejection { code: "new_column", reason });
        }
        for (slot, raw) in decoder.slots.iter().zip(raws.iter_mut()) {
            if let Some(path) = &slot.path {
                *raw = extract(row, path);
            }
        }
        Ok(())
    }

    /// Reads the values that were found as their columns' types. Of a delete only key and sequence
    /// count.
    fn cells(&mut self, op: Op) -> Result<(), Rejection> {
        let decoder = self.decoder;
        for (at, slot) in decoder.slots.iter().enumerate() {
            if op == Op::Delete && !decoder.keys.contains(&at) {
                continue;
            }
            let cell = match self.raws[at] {
                None => Cell::Null,
                Some(raw) if slot.lenient => cell::any_text(raw),
                Some(raw) => cell::read(&slot.column, &decoder.zone, raw).map_err(|reason| {
                    let reason = format!("column `{}`: {reason}", slot.column.name);
                    Rejection { code: "bad_type", reason }
                })?,
            };
            let required = !slot.column.nullable && op != Op::Delete;
            if cell == Cell::Null && required && !self.is_unset(at) {
                let reason =
                    format!("column `{}` is null, and is declared as never null", slot.column.name);
                return Err(Rejection { code: "null_value", reason });
            }
            self.cells[at] = cell;
        }
        Ok(())
    }

    fn key(&mut self, keys: &mut String) -> Result<u128, Rejection> {
        self.digest.clear();
        for (n, at) in self.decoder.keys.iter().enumerate() {
            let name = &self.decoder.slots[*at].column.name;
            let (cell, raw) = (&self.cells[*at], self.raws[*at]);
            let Some(raw) = raw.filter(|_| *cell != Cell::Null) else {
                let reason = format!("the key column `{name}` is missing or null");
                return Err(Rejection { code: "missing_key", reason });
            };
            self.digest.value(cell);
            keys.push_str(if n == 0 { "{\"" } else { ",\"" });
            keys.push_str(name);
            keys.push_str("\":");
            keys.push_str(raw.get());
        }
        keys.push('}');
        Ok(self.digest.finish())
    }

    fn sequence(
        &mut self,
        change: &ChangeView<'a>,
        position: Position,
    ) -> Result<Sequence, Rejection> {
        let mut builder = SequenceBuilder::default();
        if let Some(arrival) = &mut self.arrival {
            arrival.put(&mut builder, change, position.index);
        }
        for part in &self.decoder.sequence {
            let (raw, name) = match part.place {
                Place::Slot(at) => (self.raws[at], self.decoder.slots[at].column.name.as_str()),
                Place::Carried(at) => {
                    (change.sequence.get(at).map(AsRef::as_ref), "carried by the change")
                }
            };
            let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
                let what = if raw.is_some() { "null" } else { "missing" };
                let reason = format!("the sequence ({name}) is {what}");
                return Err(Rejection { code: "missing_sequence", reason });
            };
            part.put(&mut builder, raw, &self.decoder.zone)
                .map_err(|error| part.refused(name, &error, &self.decoder.entity))?;
        }
        builder.finish().ok_or_else(|| Rejection {
            code: "missing_sequence",
            reason: "the sequence is empty".to_owned(),
        })
    }

    /// The hashes of what the change says.
    fn hashes(&mut self) -> Hashes {
        let Self { decoder, cells, digest, unset, .. } = self;
        let mut hash = |all: bool| {
            digest.clear();
            for (at, tracked) in &decoder.hashed {
                if all || *tracked {
                    digest.cell(decoder.slots[*at].tag, &cells[*at]);
                }
            }
            // A column that was not sent is not one that is null.
            if all && !unset.is_empty() {
                digest.value(&Cell::Bytes(unset.clone()));
            }
            digest.finish()
        };
        let full = hash(true);
        let tracked = if decoder.any_latest { hash(false) } else { full };
        Hashes { tracked, full, scope: decoder.scope_of(digest, |at| cells[at].clone()) }
    }
}

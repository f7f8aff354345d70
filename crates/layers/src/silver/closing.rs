//! Closings: what ends versions of the whole entity at once. A truncate ends all that is open at its
//! sequence; the end of a snapshot ends the keys that the snapshot did not contain.
//!
//! They are part of what is known of every key, so that an event that comes late is closed by them
//! too. The whole state is small; it stands with the index, and in the side files beside the table.

use std::collections::BTreeSet;
use std::ops::Range;

use alluvium_lake::index::{EventMeta, Hashes};
use alluvium_model::{Op, Position, SequencePart, SequenceType, StageError, sequence::first_of};
use serde::{Deserialize, Serialize};

use super::border::Borders;
use super::files::Names;
use super::gather::Source;
use super::plan::{Event, Kind};
use crate::decode::id_of;

/// An event that closes versions of all keys that it concerns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Closing {
    /// The encoded sequence.
    #[serde(with = "hex_text")]
    pub(super) sequence: Vec<u8>,
    /// Whether a snapshot ended; otherwise it is a truncate.
    pub(super) snapshot: bool,
    /// The scopes that it is limited to, ascending; without, it concerns all keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<Vec<u64>>,
    /// Where it stands on the topic.
    pub(super) position: Position,
    /// When it happened in the source, in microseconds since 1970.
    pub(super) changed_at: Option<i64>,
    /// When the bus took it, in microseconds since 1970.
    pub(super) ingested_at: i64,
    /// The run that brought it, and the batch that applied it.
    pub(super) run: String,
    pub(super) batch: String,
    /// What identifies the record, where it waits for a decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip, default = "unset_part")]
    pub(super) at: SequencePart,
}

fn unset_part() -> SequencePart {
    SequencePart::Long(0)
}

impl Closing {
    /// The closing as an event of a key, of which a row that it opened may stand.
    pub(super) fn event(&self, n: u32, stands: Option<Hashes>) -> Event<'_, Source> {
        let (snapshot, scopes) = (self.snapshot, self.scopes.as_deref());
        Event {
            sequence: &self.sequence,
            at: self.at,
            position: self.position,
            kind: Kind::Absent { snapshot, scopes, stands },
            source: Source::Closing(n),
        }
    }

    /// What a row tells of the closing that opened it.
    pub(super) fn meta(&self, names: &mut Names<'_>) -> EventMeta {
        EventMeta {
            op: Op::Delete,
            position: self.position,
            changed_at: self.changed_at,
            ingested_at: self.ingested_at,
            run: names.number(&self.run),
            batch: names.number(&self.batch),
        }
    }

    /// Whether rows of this scope are closed.
    pub(super) fn concerns(&self, scope: u64) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.binary_search(&scope).is_ok())
    }
}

/// All closings of an entity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Closings {
    /// Those that are applied, by sequence; at one sequence the snapshot first.
    applied: Vec<Closing>,
    /// Ends of snapshots that an operator has not confirmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<Closing>,
    /// The scopes of snapshots that have not ended, by sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    begun: Vec<Begun>,
    /// The highest sequence of a snapshot that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest_snapshot: Option<String>,
    /// The ids of control records that have taken effect and stand at no place of the order: what
    /// was done by a schema message, or discarded by an operator, is not done again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) heard: BTreeSet<String>,
    /// Columns that the source has dropped.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) dropped: BTreeSet<String>,
    /// The times before which history has been removed.
    #[serde(default, skip_serializing_if = "Borders::is_empty")]
    pub(super) borders: Borders,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Begun {
    #[serde(with = "hex_text")]
    sequence: Vec<u8>,
    scopes: Vec<u64>,
}

impl Closings {
    /// Reads what was written, for sequences whose first part is of type `first`.
    pub(super) fn read(json: &str, first: SequenceType) -> Result<Self, StageError> {
        let damaged = || StageError::Corrupt("the closings of an entity do not read".to_owned());
        let mut closings: Self = serde_json::from_str(json).map_err(|_| damaged())?;
        for closing in closings.applied.iter_mut().chain(&mut closings.held) {
            closing.at = first_of(first, &closing.sequence).ok_or_else(damaged)?;
        }
        Ok(closings)
    }

    /// The borders alone, of sequences of whatever type.
    pub(super) fn borders_in(json: &str) -> Option<Borders> {
        Some(serde_json::from_str::<Self>(json).ok()?.borders)
    }

    /// As text, for the index and the side files.
    pub(super) fn write(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The applied ones, by sequence.
    pub(super) fn all(&self) -> &[Closing] {
        &self.applied
    }

    /// The places of those at or after a sequence.
    pub(super) fn from(&self, sequence: &[u8]) -> Range<usize> {
        self.applied.partition_point(|c| c.sequence.as_slice() < sequence)..self.applied.len()
    }

    /// The places of those after a sequence.
    pub(super) fn after(&self, sequence: &[u8]) -> Range<usize> {
        self.applied.partition_point(|c| c.sequence.as_slice() <= sequence)..self.applied.len()
    }

    /// The places of those at a sequence.
    pub(super) fn at(&self, sequence: &[u8]) -> Range<usize> {
        self.from(sequence).start..self.after(sequence).start
    }

    /// Whether the truncate that this sequence is of is known, in whatever place. Of an entity whose
    /// order is that of arrival.
    pub(super) fn knows(&self, sequence: &[u8]) -> bool {
        let id = id_of(sequence);
        id.is_some() && self.applied.iter().any(|known| id_of(&known.sequence) == id)
    }

    /// Whether the end of the snapshot at a sequence is known: applied, or held.
    pub(super) fn knows_end(&self, sequence: &[u8]) -> bool {
        self.at(sequence).any(|n| self.applied[n].snapshot)
            || self.held.iter().any(|held| held.sequence == sequence)
    }

    /// Whether a snapshot that is newer than this sequence has ended.
    pub(super) fn is_older_snapshot(&self, sequence: &[u8]) -> bool {
        self.newest_snapshot.as_ref().is_some_and(|newest| hex::encode(sequence) < *newest)
    }

    /// Remembers that a snapshot ended.
    pub(super) fn snapshot_ended(&mut self, sequence: &[u8]) {
        let sequence = hex::encode(sequence);
        if self.newest_snapshot.as_ref().is_none_or(|newest| *newest < sequence) {
            self.newest_snapshot = Some(sequence);
        }
    }

    /// Adds a closing, or widens the scopes of one that is there. Returns whether anything is new.
    pub(super) fn add(&mut self, closing: Closing) -> bool {
        let found =
            self.at(&closing.sequence).find(|n| self.applied[*n].snapshot == closing.snapshot);
        let Some(n) = found else {
            let at = self.applied.partition_point(|c| {
                (&c.sequence, !c.snapshot) < (&closing.sequence, !closing.snapshot)
            });
            self.applied.insert(at, closing);
            return true;
        };
        match (&mut self.applied[n].scopes, closing.scopes) {
            (Some(known), Some(new)) => {
                new.into_iter().filter(|scope| insert(known, *scope)).count() > 0
            }
            (Some(_), None) => {
                self.applied[n].scopes = None;
                true
            }
            (None, _) => false,
        }
    }

    /// Takes a closing out again.
    pub(super) fn remove(&mut self, closing: &Closing) {
        self.applied.retain(|c| c.sequence != closing.sequence || c.snapshot != closing.snapshot);
    }

    /// Notes that the snapshot at `sequence` contains rows of a scope. Returns whether a closing
    /// that is applied concerns more keys now.
    pub(super) fn contains(&mut self, sequence: &[u8], scope: u64) -> bool {
        if let Some(n) = self.at(sequence).find(|n| self.applied[*n].snapshot) {
            return self.applied[n].scopes.as_mut().is_some_and(|scopes| insert(scopes, scope));
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.sequence == sequence) {
            held.scopes.as_mut().map(|scopes| insert(scopes, scope));
            return false;
        }
        match self.begun.iter_mut().find(|begun| begun.sequence == sequence) {
            Some(begun) => {
                insert(&mut begun.scopes, scope);
            }
            None => self.begun.push(Begun { sequence: sequence.to_vec(), scopes: vec![scope] }),
        }
        false
    }

    /// Takes out the scopes of a snapshot that ends.
    pub(super) fn take_scopes(&mut self, sequence: &[u8]) -> Vec<u64> {
        let at = self.begun.iter().position(|begun| begun.sequence == sequence);
        at.map(|at| self.begun.swap_remove(at).scopes).unwrap_or_default()
    }

    /// Sets a closing aside until an operator confirms it.
    pub(super) fn hold(&mut self, closing: Closing) {
        self.held.retain(|held| held.position != closing.position);
        self.held.push(closing);
    }

    /// The closing that is held at a position.
    pub(super) fn held_at(&self, position: &Position) -> Option<&Closing> {
        self.held.iter().find(|held| held.position == *position)
    }

    /// Takes out the closing that is held at a position.
    pub(super) fn take_held(&mut self, position: &Position) -> Option<Closing> {
        let at = self.held.iter().position(|held| held.position == *position)?;
        Some(self.held.remove(at))
    }
}

fn insert(scopes: &mut Vec<u64>, scope: u64) -> bool {
    match scopes.binary_search(&scope) {
        Ok(_) => false,
        Err(at) => {
            scopes.insert(at, scope);
            true
        }
    }
}

/// Bytes as hexadecimal text.
mod hex_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

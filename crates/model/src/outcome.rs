//! What became of records: exactly one outcome each, and the counts that must add up.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::{BatchId, Checksum, Layer, Position, Span};

/// What became of one record. Each record has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It opened the first version of its key, or one after a gap. In raw and bronze: it was landed.
    Inserted,
    /// It opened a further version, or altered one.
    Updated,
    /// It closed a version, or is remembered as the end of versions to come.
    Deleted,
    /// It equals the version it falls into.
    Unchanged,
    /// It was known already.
    Duplicate,
    /// It lost against what is known at its sequence, or was too old to be applied.
    Stale,
    /// It is a control record.
    Control,
    /// It could not be applied and is kept with its reason.
    Quarantined,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 8] = [
        Outcome::Inserted,
        Outcome::Updated,
        Outcome::Deleted,
        Outcome::Unchanged,
        Outcome::Duplicate,
        Outcome::Stale,
        Outcome::Control,
        Outcome::Quarantined,
    ];

    /// The outcome's name in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Inserted => "inserted",
            Outcome::Updated => "updated",
            Outcome::Deleted => "deleted",
            Outcome::Unchanged => "unchanged",
            Outcome::Duplicate => "duplicate",
            Outcome::Stale => "stale",
            Outcome::Control => "control",
            Outcome::Quarantined => "quarantined",
        }
    }
}

/// How many records had which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that came in, counted where they are read.
    pub records: u64,
    /// See [`Outcome::Inserted`].
    pub inserted: u64,
    /// See [`Outcome::Updated`].
    pub updated: u64,
    /// See [`Outcome::Deleted`].
    pub deleted: u64,
    /// See [`Outcome::Unchanged`].
    pub unchanged: u64,
    /// See [`Outcome::Duplicate`].
    pub duplicate: u64,
    /// See [`Outcome::Stale`].
    pub stale: u64,
    /// See [`Outcome::Control`].
    pub control: u64,
    /// See [`Outcome::Quarantined`].
    pub quarantined: u64,
    /// A flag beside the outcomes: records older than what their key already had.
    pub late: u64,
}

impl Counts {
    /// The count of one outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Inserted => self.inserted,
            Outcome::Updated => self.updated,
            Outcome::Deleted => self.deleted,
            Outcome::Unchanged => self.unchanged,
            Outcome::Duplicate => self.duplicate,
            Outcome::Stale => self.stale,
            Outcome::Control => self.control,
            Outcome::Quarantined => self.quarantined,
        }
    }

    /// Counts `n` further records with `outcome`. Does not count them as having come in.
    pub fn add(&mut self, outcome: Outcome, n: u64) {
        let field = match outcome {
            Outcome::Inserted => &mut self.inserted,
            Outcome::Updated => &mut self.updated,
            Outcome::Deleted => &mut self.deleted,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Duplicate => &mut self.duplicate,
            Outcome::Stale => &mut self.stale,
            Outcome::Control => &mut self.control,
            Outcome::Quarantined => &mut self.quarantined,
        };
        *field += n;
    }

    /// The sum of all outcomes. Conservation: it equals `records`.
    pub fn accounted(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.of(*outcome)).sum()
    }

    /// Whether each record that came in has exactly one outcome.
    pub fn is_conserved(&self) -> bool {
        self.accounted() == self.records
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.late += other.late;
        for outcome in Outcome::ALL {
            self.add(outcome, other.of(outcome));
        }
    }
}

/// Rows of the table that a batch wrote, counted apart from the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RowsWritten {
    /// Versions opened, or documents appended.
    pub opened: u64,
    /// Versions closed.
    pub closed: u64,
    /// Versions written anew for another reason, such as a late event that splits them.
    pub rewritten: u64,
}

/// A record that could not be applied, with its bytes and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Where it stands.
    pub position: Position,
    /// A short word for the kind of reason: `unparsable`, `missing_key`, `missing_sequence`, `bad_type`, …
    pub code: String,
    /// The reason, for people. Names columns, never values.
    pub reason: String,
    /// The record as received.
    pub bytes: Vec<u8>,
}

/// A batch that has become durable in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which layer.
    pub layer: Layer,
    /// Its id: the same however often the span is applied.
    pub batch: BatchId,
    /// What was applied.
    pub span: Span,
    /// What became of the records.
    pub counts: Counts,
    /// Rows that were written.
    pub rows: RowsWritten,
    /// The sum over the batch's records.
    pub checksum: Checksum,
    /// Records that could not be applied.
    #[serde(skip)]
    pub quarantined: Vec<Quarantined>,
    /// The table's version after the batch; none for raw.
    pub version: Option<i64>,
    /// Bytes written to the lake.
    pub bytes: u64,
    /// The latest publish time in the batch, in microseconds since 1970.
    pub published_at_us: i64,
}

/// How far a layer got in an entity, as the lake itself tells, with running totals from the
/// epoch's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The topic's incarnation.
    pub epoch: crate::Epoch,
    /// The offset of the last message applied.
    pub offset: u64,
    /// What became of all records up to there.
    pub totals: Counts,
    /// The sum over all records up to there.
    pub checksum: Checksum,
    /// The same for the epochs before this one. Raw does not keep it: its objects tell.
    pub former: Former,
}

/// What became of the records of epochs that are over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Former {
    /// Their outcomes.
    pub counts: Counts,
    /// The sum over them.
    pub checksum: Checksum,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_conserved_only_when_each_record_has_one_outcome() {
        let mut counts = Counts { records: 8, ..Counts::default() };
        assert!(!counts.is_conserved());
        for outcome in Outcome::ALL {
            counts.add(outcome, 1);
        }
        assert!(counts.is_conserved());
        let mut sum = counts;
        sum += counts;
        assert_eq!((sum.records, sum.accounted()), (16, 16));
    }
}

//! From a message's lines to columns: done once per message, shared by the layers of a process.
//!
//! Every record has exactly one fate here: a row, a control record, or a rejection with its reason.

mod arrival;
mod cell;
mod columns;
mod hash;
mod row;
mod time;

use std::collections::BTreeSet;
use std::ops::Range;

use alluvium_lake::index::Hashes;
use alluvium_model::{
    Checksum, Control, EntitySpec, Message, Op, Position, Quarantined, Sequence, SequencePart,
};
use alluvium_wire::{ChangeView, Decoder, Line, Malformed};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

pub(crate) use arrival::{PLACE, RecordId, control_id, id_of};
use columns::Columns;
use row::Reading;
pub(crate) use row::is_fit;
pub use row::{EntityError, Reshaped, RowDecoder};

/// What a message says, in columns.
#[derive(Debug)]
pub struct Decoded {
    /// How many records the message holds, as counted here.
    pub records: u64,
    /// The sum over the records, as taken here.
    pub checksum: Checksum,
    /// The rows, in the message's order.
    pub rows: Vec<Row>,
    /// The rows' stored values, one row each.
    pub values: RecordBatch,
    /// The records that are no rows and alter the result otherwise, by index.
    pub controls: Vec<(u32, Control)>,
    /// The records that cannot be applied, by index.
    pub rejects: Vec<Reject>,
    /// The records that empty the whole entity.
    pub truncates: Vec<Truncate>,
    /// Members of rows that are no columns, where they are to become some.
    pub new_members: BTreeSet<String>,
    /// Records that say nothing, such as marks for compaction.
    pub tombstones: u64,
    sequences: Vec<u8>,
    keys: String,
    /// Tags of columns that were not sent, eight bytes each.
    unset: Vec<u8>,
}

/// A row of a message.
#[derive(Debug)]
pub struct Row {
    /// The record's index in the message.
    pub index: u32,
    /// What happened.
    pub op: Op,
    /// The hash of the key.
    pub key: u128,
    /// The first part of the sequence.
    pub at: SequencePart,
    /// The hash of the key that the row had before, if the change altered it.
    pub old_key: Option<u128>,
    /// The hashes of what the record says; 0 for a delete.
    pub hashes: Hashes,
    /// When the row was changed in the source, in microseconds since 1970.
    pub changed_at: Option<i64>,
    sequence: Range<u32>,
    key_text: Range<u32>,
    unset: Range<u32>,
}

/// A record that empties the whole entity.
#[derive(Debug)]
pub struct Truncate {
    /// The record's index in the message.
    pub index: u32,
    /// Where in the source's order it stands.
    pub sequence: Sequence,
    /// When it happened in the source, in microseconds since 1970.
    pub changed_at: Option<i64>,
}

/// A record that cannot be applied.
#[derive(Debug)]
pub struct Reject {
    /// The record's index in the message.
    pub index: u32,
    /// The kind of reason, in a word.
    pub code: &'static str,
    /// The reason, for people.
    pub reason: String,
}

impl Decoded {
    /// The encoded sequence of a row.
    pub fn sequence(&self, row: &Row) -> &[u8] {
        &self.sequences[row.sequence.start as usize..row.sequence.end as usize]
    }

    /// The tags of the columns that the source did not send with a row, eight bytes each.
    pub fn unset(&self, row: &Row) -> &[u8] {
        &self.unset[row.unset.start as usize..row.unset.end as usize]
    }

    /// How many records are no rows, and were read.
    pub fn control_records(&self) -> u64 {
        (self.controls.len() + self.truncates.len()) as u64 + self.tombstones
    }

    /// The key of a row as a JSON object.
    pub fn key(&self, row: &Row) -> &str {
        &self.keys[row.key_text.start as usize..row.key_text.end as usize]
    }

    /// The rejections as they go into quarantine, with the bytes as received.
    pub fn quarantined(&self, message: &Message) -> Vec<Quarantined> {
        if self.rejects.is_empty() {
            return Vec::new();
        }
        let lines: Vec<&[u8]> = message.lines().collect();
        let entry = |reject: &Reject| Quarantined {
            position: message.position(reject.index),
            code: reject.code.to_owned(),
            reason: reject.reason.clone(),
            bytes: lines.get(reject.index as usize).map(|l| l.to_vec()).unwrap_or_default(),
        };
        self.rejects.iter().map(entry).collect()
    }
}

/// Decodes a message.
pub fn decode(message: &Message, decoder: &RowDecoder) -> Decoded {
    let mut out = Collector {
        decoded: Decoded {
            records: 0,
            checksum: Checksum::default(),
            rows: Vec::with_capacity(message.records as usize),
            values: RecordBatch::new_empty(decoder.schema().clone()),
            controls: Vec::new(),
            rejects: Vec::new(),
            truncates: Vec::new(),
            new_members: BTreeSet::new(),
            tombstones: 0,
            sequences: Vec::with_capacity(message.records as usize * 8),
            keys: String::with_capacity(message.records as usize * 16),
            unset: Vec::new(),
        },
        columns: Columns::new(decoder.schema(), message.records as usize),
    };
    let lines = Decoder::for_headers(&message.headers);
    let mut reading = Reading::new(decoder, message);
    for (index, line) in (0u32..).zip(message.lines()) {
        out.decoded.records += 1;
        out.decoded.checksum += Checksum::of(&message.position(index), line);
        let result = match &lines {
            Ok(lines) => out.line(lines.decode(line), &mut reading, message.position(index)),
            Err(error) => Err(Rejection { code: "unknown_format", reason: error.to_string() }),
        };
        if let Err(Rejection { code, reason }) = result {
            out.decoded.rejects.push(Reject { index, code, reason });
        }
    }
    out.decoded.new_members = reading.into_new_members();
    out.finish()
}

/// Why a record cannot be applied.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        Self { code: malformed.code, reason: malformed.reason }
    }
}

struct Collector {
    decoded: Decoded,
    columns: Columns,
}

impl Collector {
    fn line<'a>(
        &mut self,
        line: Result<Line<'a>, Malformed>,
        reading: &mut Reading<'_, 'a>,
        position: Position,
    ) -> Result<(), Rejection> {
        match line? {
            Line::Tombstone => self.decoded.tombstones += 1,
            Line::Control(control) => self.decoded.controls.push((position.index, control)),
            Line::Change(change) if change.op == Op::Truncate => {
                let sequence = reading.truncate(&change, position)?;
                let (index, changed_at) = (position.index, changed_at(&change));
                self.decoded.truncates.push(Truncate { index, sequence, changed_at });
            }
            Line::Change(change) => {
                let Decoded { rows, sequences, keys, unset, .. } = &mut self.decoded;
                let (sequence, key_text) = (sequences.len() as u32, keys.len() as u32);
                let head = reading.read(&change, position, keys).inspect_err(|_| {
                    keys.truncate(key_text as usize);
                })?;
                sequences.extend_from_slice(head.sequence.encoded());
                self.columns.push(reading.stored());
                let first_unset = unset.len() as u32;
                unset.extend_from_slice(reading.unset());
                rows.push(Row {
                    index: position.index,
                    op: change.op,
                    key: head.key,
                    at: head.sequence.first(),
                    old_key: head.old_key,
                    hashes: head.hashes,
                    changed_at: changed_at(&change),
                    sequence: sequence..sequences.len() as u32,
                    key_text: key_text..keys.len() as u32,
                    unset: first_unset..unset.len() as u32,
                });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Decoded {
        debug_assert_eq!(self.columns.rows(), self.decoded.rows.len());
        match self.columns.finish() {
            Ok(values) => self.decoded.values = values,
            // Columns made cell by cell for one schema always fit it; should they ever not, no
            // record may pass for applied.
            Err(error) => {
                let reason = format!("defect: {error}");
                let rejects = self.decoded.rows.drain(..).map(|row| Reject {
                    index: row.index,
                    code: "defect",
                    reason: reason.clone(),
                });
                self.decoded.rejects.extend(rejects);
            }
        }
        self.decoded
    }
}

fn changed_at(change: &ChangeView<'_>) -> Option<i64> {
    change.changed_at_ms.and_then(|ms| ms.checked_mul(1_000))
}

/// Decodes a message with the decoder of its entity, once for all who share the message and read it
/// alike.
pub fn shared(message: &Message, decoder: &RowDecoder) -> std::sync::Arc<Decoded> {
    message.decoded(decoder.identity(), |message| decode(message, decoder))
}

/// The schema of an entity's stored values.
pub fn stored_schema(entity: &EntitySpec) -> SchemaRef {
    crate::schema::value_schema(entity)
}

//! One change read as its entity's columns, with its key, its sequence and its hashes.

use std::borrow::Cow;
use std::collections::HashMap;

use alluvium_model::metadata::{History, SchemaEvolution, SequenceBy};
use alluvium_model::sequence::{SequenceBuilder, SequenceError};
use alluvium_model::{Column, EntitySpec, Message, Op, Position, Sequence, SequenceType};
use alluvium_wire::{ChangeView, Path, extract, for_each_member, string_value};
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::Rejection;
use super::cell::{self, Cell, plain_utc};
use super::hash::{Digest, name_tag};
use crate::schema::{sequence_type, value_schema};

/// Metadata that no decoder can be made of.
#[derive(Debug, thiserror::Error)]
pub enum EntityError {
    /// A key or sequence names no column.
    #[error("entity {entity}: `{column}` is not a column")]
    UnknownColumn {
        /// The entity.
        entity: String,
        /// The name that is no column.
        column: String,
    },
    /// Neither declared nor discovered.
    #[error("entity {0} has no {1}: declare them in entities.json")]
    Missing(String, &'static str),
    /// A column's path does not read.
    #[error("entity {entity}, column `{column}`: {reason}")]
    Path {
        /// The entity.
        entity: String,
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's zone is unknown.
    #[error("`{0}` is not a time zone")]
    Zone(String),
}

struct Slot {
    column: Column,
    /// Where it stands, if not as a member of the row called like it.
    path: Option<Path>,
    tag: u64,
}

enum SequencePartFrom {
    Slot(usize, SequenceType),
    Carried(usize, SequenceType),
}

/// Reads the changes of one entity.
pub struct RowDecoder {
    schema: SchemaRef,
    /// Stored columns first, in the schema's order; then those read only for the sequence.
    slots: Vec<Slot>,
    stored: usize,
    by_name: HashMap<String, usize>,
    keys: Vec<usize>,
    sequence: Vec<SequencePartFrom>,
    /// Stored columns by tag, and whether they are tracked.
    hashed: Vec<(usize, bool)>,
    any_latest: bool,
    freeze: bool,
    known_members: Vec<String>,
    zone: TimeZone,
}

impl RowDecoder {
    /// The decoder of `entity`, whose system's times without zone are of `timezone`.
    pub fn new(entity: &EntitySpec, timezone: &str) -> Result<Self, EntityError> {
        let id = entity.id().to_string();
        for (missing, what) in
            [(entity.keys.is_empty(), "keys"), (entity.columns.is_empty(), "columns")]
        {
            if missing {
                return Err(EntityError::Missing(id, what));
            }
        }
        let zone = TimeZone::get(timezone).map_err(|_| EntityError::Zone(timezone.to_owned()))?;
        let (mut columns, ignored): (Vec<_>, Vec<_>) =
            entity.columns.iter().partition(|c| c.history != History::Ignore);
        let stored = columns.len();
        columns.extend(ignored);
        let slots = columns.iter().map(|c| slot(&id, c)).collect::<Result<Vec<_>, _>>()?;
        let find = |name: &str| {
            slots.iter().position(|slot| slot.column.name == name).ok_or_else(|| {
                EntityError::UnknownColumn { entity: id.clone(), column: name.to_owned() }
            })
        };
        let keys = entity.keys.iter().map(|key| find(key)).collect::<Result<Vec<_>, _>>()?;
        let mut carried = 0..;
        let sequence = entity
            .sequence_by
            .iter()
            .map(|part| match part {
                SequenceBy::Column(name) => find(name)
                    .map(|at| SequencePartFrom::Slot(at, sequence_type(&slots[at].column))),
                SequenceBy::Carried { carried: kind } => {
                    Ok(SequencePartFrom::Carried(carried.next().unwrap_or_default(), *kind))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut hashed: Vec<(usize, bool)> =
            (0..stored).map(|at| (at, slots[at].column.history == History::Track)).collect();
        hashed.sort_by_key(|(at, _)| slots[*at].tag);
        let members = slots.iter().enumerate().filter(|(_, slot)| slot.path.is_none());
        Ok(Self {
            schema: value_schema(entity),
            by_name: members.map(|(at, slot)| (slot.column.name.clone(), at)).collect(),
            any_latest: hashed.iter().any(|(_, tracked)| !tracked),
            freeze: entity.schema_evolution == SchemaEvolution::Freeze,
            known_members: slots.iter().filter_map(first_member).collect(),
            stored,
            slots,
            keys,
            sequence,
            hashed,
            zone,
        })
    }

    /// The schema of the stored values.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The hash of all stored columns of a row of a table whose first columns are the stored ones;
    /// `None` where all of them are tracked, so that it is the row's own hash.
    pub fn full_hash(&self, columns: &[ArrayRef], row: usize) -> Option<u128> {
        if !self.any_latest {
            return None;
        }
        let mut digest = Digest::default();
        for (at, _) in &self.hashed {
            let slot = &self.slots[*at];
            digest.cell(slot.tag, &cell::stored(slot.column.kind, columns[*at].as_ref(), row));
        }
        Some(digest.finish())
    }
}

fn slot(entity: &str, column: &Column) -> Result<Slot, EntityError> {
    let path = match &column.path {
        None => None,
        Some(text) => {
            let path: Path = text.parse().map_err(|error| EntityError::Path {
                entity: entity.to_owned(),
                column: column.name.clone(),
                reason: format!("{error}"),
            })?;
            Some(path)
        }
    };
    Ok(Slot { path, tag: name_tag(&column.name), column: column.clone() })
}

/// The member of the row that a path begins with.
fn first_member(slot: &Slot) -> Option<String> {
    let text = slot.column.path.as_deref()?;
    let text = text.trim_start_matches(['$', '.', '/']);
    text.split(['.', '/', '[']).next().map(str::to_owned)
}

/// What a change says besides its values.
pub(super) struct Head {
    pub(super) key: u128,
    pub(super) sequence: Sequence,
    pub(super) tracked: u128,
    pub(super) full: u128,
}

/// The state of reading one message, its memory used again for every row.
pub(super) struct Reading<'d, 'a> {
    decoder: &'d RowDecoder,
    published: Timestamp,
    offset: u64,
    raws: Vec<Option<&'a RawValue>>,
    cells: Vec<Cell<'a>>,
    digest: Digest,
}

impl<'d, 'a> Reading<'d, 'a> {
    pub(super) fn new(decoder: &'d RowDecoder, message: &Message) -> Self {
        Self {
            decoder,
            published: Timestamp::from_microsecond(message.published_at_us).unwrap_or_default(),
            offset: message.offset,
            raws: vec![None; decoder.slots.len()],
            cells: vec![Cell::Null; decoder.slots.len()],
            digest: Digest::default(),
        }
    }

    /// The stored cells of the change read last.
    pub(super) fn stored(&self) -> &[Cell<'a>] {
        &self.cells[..self.decoder.stored]
    }

    /// Reads a change; appends its key as a JSON object to `keys`.
    pub(super) fn read(
        &mut self,
        change: &ChangeView<'a>,
        position: Position,
        keys: &mut String,
    ) -> Result<Head, Rejection> {
        supported(change)?;
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
        self.cells(change.op)?;
        let key = self.key(keys)?;
        let sequence = self.sequence(change, position)?;
        let (tracked, full) = if change.op == Op::Delete { (0, 0) } else { self.hashes() };
        Ok(Head { key, sequence, tracked, full })
    }

    /// Finds the columns' values in a row.
    fn find(&mut self, row: &'a RawValue) -> Result<(), Rejection> {
        let Self { decoder, raws, .. } = self;
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
                    raws[at] = Some(value);
                    expected = at + 1;
                }
                None if decoder.freeze && !decoder.known_members.iter().any(|k| *k == name) => {
                    unknown = Some(name.into_owned());
                }
                None => {}
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
                Some(raw) => cell::read(&slot.column, &decoder.zone, raw).map_err(|reason| {
                    let reason = format!("column `{}`: {reason}", slot.column.name);
                    Rejection { code: "bad_type", reason }
                })?,
            };
            if cell == Cell::Null && !slot.column.nullable && op != Op::Delete {
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

    fn sequence(&self, change: &ChangeView<'a>, position: Position) -> Result<Sequence, Rejection> {
        let mut builder = SequenceBuilder::default();
        if self.decoder.sequence.is_empty() {
            builder.timestamp(self.published);
            builder.long(i64::try_from(self.offset).unwrap_or(i64::MAX));
            builder.long(i64::from(position.index));
        }
        for part in &self.decoder.sequence {
            let (raw, kind, name) = match part {
                SequencePartFrom::Slot(at, kind) => {
                    (self.raws[*at], *kind, self.decoder.slots[*at].column.name.as_str())
                }
                SequencePartFrom::Carried(at, kind) => {
                    let carried = change.sequence.get(*at).map(AsRef::as_ref);
                    (carried, *kind, "carried by the change")
                }
            };
            let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
                let reason = format!("the sequence ({name}) is missing or null");
                return Err(Rejection { code: "missing_sequence", reason });
            };
            self.part(&mut builder, kind, raw).map_err(|error| {
                let reason = format!("the sequence ({name}): {error}");
                Rejection { code: "bad_sequence", reason }
            })?;
        }
        builder.finish().ok_or_else(|| Rejection {
            code: "missing_sequence",
            reason: "the sequence is empty".to_owned(),
        })
    }

    fn part(
        &self,
        builder: &mut SequenceBuilder,
        kind: SequenceType,
        raw: &RawValue,
    ) -> Result<(), SequenceError> {
        if kind == SequenceType::Timestamp {
            let bare = raw.get().trim_matches('"');
            let micros = plain_utc(bare.as_bytes())
                .or_else(|| raw.get().parse::<i64>().ok().and_then(|ms| ms.checked_mul(1_000)));
            if let Some(instant) = micros.and_then(|us| Timestamp::from_microsecond(us).ok()) {
                builder.timestamp(instant);
                return Ok(());
            }
        }
        match string_value(raw) {
            Some(text) => builder.text(kind, &text, &self.decoder.zone),
            None => builder.text(kind, raw.get(), &self.decoder.zone),
        }
    }

    /// The hashes of the tracked and of all stored columns.
    fn hashes(&mut self) -> (u128, u128) {
        let decoder = self.decoder;
        let mut hash = |all: bool| {
            self.digest.clear();
            for (at, tracked) in &decoder.hashed {
                if all || *tracked {
                    self.digest.cell(decoder.slots[*at].tag, &self.cells[*at]);
                }
            }
            self.digest.finish()
        };
        let full = hash(true);
        (if decoder.any_latest { hash(false) } else { full }, full)
    }
}

/// What silver cannot apply yet must not pass for applied.
fn supported(change: &ChangeView<'_>) -> Result<(), Rejection> {
    let what = if change.op == Op::Truncate {
        "a truncate"
    } else if !change.unset.is_empty() {
        "a row with columns that were not sent"
    } else if change.old_key.is_some() {
        "a change of the key"
    } else {
        return Ok(());
    };
    let reason = format!("{what} cannot be applied by this release; raw keeps it");
    Err(Rejection { code: "unsupported", reason })
}

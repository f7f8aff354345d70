//! How the changes of one entity are read: its columns, its keys, its sequence, its hashes.

mod reading;
mod sequence;

use std::collections::{BTreeSet, HashMap, HashSet};

use alluvium_lake::index::Hashes;
use alluvium_model::metadata::{History, SchemaEvolution, SequenceBy};
use alluvium_model::sequence::{SequenceBuilder, SequenceError};
use alluvium_model::{Column, EntityId, EntitySpec, Sequence};
use alluvium_wire::Path;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::SchemaRef;
use jiff::tz::TimeZone;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::cell::{self, Cell};
use super::hash::{Digest, name_tag};
use crate::schema::value_schema;

pub(super) use reading::Reading;
use sequence::Part;

/// What marks a column's tag where the source had dropped the column.
const DROPPED: u64 = 0x6472_6f70_7065_6421;

/// So many columns that nobody declared are read of one message at most, known ones among them, so
/// that what is read of it does not depend on what came before it.
const UNDECLARED: usize = 1_000;

/// What neither Delta nor the engines that read it take in a column's name.
const UNFIT: [char; 8] = [' ', ',', ';', '{', '}', '(', ')', '='];

/// Whether a column of a table can be called so: names that begin with `_` are ours.
pub(crate) fn is_fit(name: &str) -> bool {
    let fits = |c: char| !c.is_control() && !UNFIT.contains(&c);
    !name.is_empty() && !name.starts_with('_') && name.len() <= 255 && name.chars().all(fits)
}

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
    /// It came by itself: any single value is text to it.
    lenient: bool,
}

/// How rows are read besides what the entity declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reshaped {
    /// Columns that came by themselves, of no declared type.
    pub undeclared: BTreeSet<String>,
    /// Columns that the source has dropped.
    pub dropped: BTreeSet<String>,
}

/// Reads the changes of one entity.
pub struct RowDecoder {
    /// The same for decoders that read alike.
    identity: u128,
    entity: EntityId,
    schema: SchemaRef,
    /// Stored columns first, in the schema's order; then those read only for the sequence.
    slots: Vec<Slot>,
    stored: usize,
    by_name: HashMap<String, usize>,
    keys: Vec<usize>,
    sequence: Vec<Part>,
    /// Stored columns by tag, and whether they are tracked.
    hashed: Vec<(usize, bool)>,
    any_latest: bool,
    /// Columns that limit what a snapshot closes.
    scope: Vec<usize>,
    /// Columns whose null means that they were not sent.
    null_is_unset: Vec<usize>,
    evolution: SchemaEvolution,
    /// Columns that the source has dropped.
    dropped: Vec<usize>,
    known_members: Vec<String>,
    /// The columns' names in lower case: names that differ in case only are one to most engines.
    lower: HashSet<String>,
    zone: TimeZone,
}

impl RowDecoder {
    /// The decoder of `entity`, whose system's times without zone are of `timezone`.
    pub fn new(entity: &EntitySpec, timezone: &str) -> Result<Self, EntityError> {
        Self::reshaped(entity, timezone, &Reshaped::default())
    }

    /// The decoder of `entity` whose columns have changed in the source.
    pub fn reshaped(
        entity: &EntitySpec,
        timezone: &str,
        reshaped: &Reshaped,
    ) -> Result<Self, EntityError> {
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
        let mut slots = columns.iter().map(|c| slot(&id, c)).collect::<Result<Vec<_>, _>>()?;
        for slot in &mut slots {
            slot.lenient = reshaped.undeclared.contains(&slot.column.name);
        }
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
                SequenceBy::Column(name) => {
                    find(name).map(|at| Part::column(at, &slots[at].column))
                }
                SequenceBy::Carried { carried: kind, unit } => {
                    Ok(Part::carried(carried.next().unwrap_or_default(), *kind, *unit))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let scope =
            entity.snapshot.scope.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
        let ignored = entity.ignore_null_updates.iter();
        let null_is_unset = ignored.map(|name| find(name)).collect::<Result<_, _>>()?;
        let dropped = (0..stored).filter(|at| reshaped.dropped.contains(&slots[*at].column.name));
        let dropped = dropped.filter(|at| !keys.contains(at)).collect();
        let mut hashed: Vec<(usize, bool)> =
            (0..stored).map(|at| (at, slots[at].column.history == History::Track)).collect();
        hashed.sort_by_key(|(at, _)| slots[*at].tag);
        let members = slots.iter().enumerate().filter(|(_, slot)| slot.path.is_none());
        Ok(Self {
            identity: xxh3_128(format!("{timezone} {entity:?} {reshaped:?}").as_bytes()),
            entity: entity.id(),
            schema: value_schema(entity),
            by_name: members.map(|(at, slot)| (slot.column.name.clone(), at)).collect(),
            any_latest: hashed.iter().any(|(_, tracked)| !tracked),
            evolution: entity.schema_evolution,
            dropped,
            known_members: slots.iter().filter_map(first_member).collect(),
            lower: slots.iter().map(|slot| slot.column.name.to_lowercase()).collect(),
            stored,
            slots,
            keys,
            sequence,
            hashed,
            scope,
            null_is_unset,
            zone,
        })
    }

    /// What tells decoders apart that do not read alike, within this process.
    pub(super) fn identity(&self) -> u128 {
        self.identity
    }

    /// The schema of the stored values.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The hashes of a row of a table whose first columns are the stored ones.
    pub fn hashes_of(&self, columns: &[ArrayRef], row: usize) -> Hashes {
        let cell = |at: usize| cell::stored(self.slots[at].column.kind, columns[at].as_ref(), row);
        let mut digest = Digest::default();
        let mut hash = |all: bool| {
            digest.clear();
            for (at, _) in self.hashed.iter().filter(|(_, tracked)| all || *tracked) {
                digest.cell(self.slots[*at].tag, &cell(*at));
            }
            digest.finish()
        };
        let full = hash(true);
        let tracked = if self.any_latest { hash(false) } else { full };
        Hashes { tracked, full, scope: self.scope_of(&mut digest, cell) }
    }

    /// Where the columns stand that a row lacked because the source had dropped them by then, whether
    /// it has them again or not: what a row said does not change with what comes after it.
    pub(crate) fn dropped_of<'t>(
        &self,
        tags: &'t [u8],
    ) -> impl Iterator<Item = usize> + use<'_, 't> {
        self.tagged(tags, DROPPED)
    }

    /// Whether two rows are equal in all tracked columns but those of `but`. A row is given by the
    /// array and the place of each of its stored columns; none is null.
    pub(crate) fn is_equal_but<'c>(
        &self,
        but: &[usize],
        a: impl Fn(usize) -> Option<(&'c dyn Array, usize)>,
        b: impl Fn(usize) -> Option<(&'c dyn Array, usize)>,
    ) -> bool {
        let mut digest = Digest::default();
        let mut hash = |row: &dyn Fn(usize) -> Option<(&'c dyn Array, usize)>| {
            digest.clear();
            for (at, _) in self.hashed.iter().filter(|(at, tracked)| *tracked && !but.contains(at))
            {
                let slot = &self.slots[*at];
                if let Some((column, row)) = row(*at) {
                    digest.cell(slot.tag, &cell::stored(slot.column.kind, column, row));
                }
            }
            digest.finish()
        };
        hash(&a) == hash(&b)
    }

    /// Where the columns with these tags stand among the stored ones.
    pub(crate) fn columns_of<'t>(
        &self,
        tags: &'t [u8],
    ) -> impl Iterator<Item = usize> + use<'_, 't> {
        self.tagged(tags, 0)
    }

    /// Where the columns stand whose tags, with a mark on them, are among these.
    fn tagged<'t>(&self, tags: &'t [u8], mark: u64) -> impl Iterator<Item = usize> + use<'_, 't> {
        let slots = &self.slots[..self.stored];
        tags.chunks_exact(8).filter_map(move |tag| {
            let tag = u64::from_le_bytes(tag.try_into().ok()?) ^ mark;
            slots.iter().position(|slot| slot.tag == tag)
        })
    }

    fn scope_of<'c>(&self, digest: &mut Digest, cell: impl Fn(usize) -> Cell<'c>) -> u64 {
        if self.scope.is_empty() {
            return 0;
        }
        digest.clear();
        self.scope.iter().for_each(|at| digest.value(&cell(*at)));
        (digest.finish() as u64).max(1)
    }

    /// The sequence that a control record carries, part by part.
    pub(crate) fn carried(&self, parts: &[Value]) -> Result<Sequence, SequenceError> {
        let (expected, found) = (self.sequence.len(), parts.len());
        if expected != found || expected == 0 {
            return Err(SequenceError::Parts { expected, found });
        }
        let mut builder = SequenceBuilder::default();
        for (part, value) in self.sequence.iter().zip(parts) {
            let raw = serde_json::value::to_raw_value(value);
            let raw = raw.map_err(|_| SequenceError::Parts { expected, found })?;
            part.put(&mut builder, &raw, &self.zone)?;
        }
        builder.finish().ok_or(SequenceError::Parts { expected, found })
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
    Ok(Slot { path, tag: name_tag(&column.name), column: column.clone(), lenient: false })
}

/// The member of the row that a path begins with.
fn first_member(slot: &Slot) -> Option<String> {
    let text = slot.column.path.as_deref()?;
    let text = text.trim_start_matches(['$', '.', '/']);
    text.split(['.', '/', '[']).next().map(str::to_owned)
}

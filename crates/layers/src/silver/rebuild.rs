//! The key index from the table and its side files, whatever became of the index before.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use alluvium_lake::index::{
    Cells, CurrentEntry, EventMeta, Hashes, HiddenEntry, KeyIndex, VersionEntry,
};
use alluvium_lake::{Lake, Table};
use alluvium_model::sequence::first_of;
use alluvium_model::{Epoch, Op, Position, SequencePart, SequenceType, StageError};
use arrow::array::{Array, AsArray, BinaryArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::closing::Closings;
use super::files::Names;
use super::hidden::{self, SideEvent, SideState};
use super::values::lake_error;
use super::{Shape, index_error};

/// So many alterations are written at a time.
const PART: usize = 50_000;

/// Fills `index` anew, for the version that `table` is at, which has got to the place `at` of its
/// topic. Returns the closings of the entity.
pub(super) async fn rebuild(
    lake: &Lake,
    table: &Table,
    at: Option<(Epoch, u64)>,
    index: &KeyIndex,
    shape: &Shape,
) -> Result<Closings, StageError> {
    index.clear().map_err(index_error)?;
    let mut side = Side::load(lake, table, at, shape).await?;
    let mut names = Names::new(index).map_err(index_error)?;
    let mut update = index.update();
    let mut written = 0;
    // Closed versions first: what is known of a key stands in its current entry, written last.
    for current in [false, true] {
        let files = table.files().filter(|file| file.current == Some(current));
        let files: Vec<_> = files.map(|file| file.id).collect();
        let mut scan = table.scan_files(&files, None).map_err(lake_error)?;
        while let Some(rows) = scan.next().await {
            let rows = rows.map_err(lake_error)?;
            let path = table.file(rows.file).map(|f| f.path.clone()).unwrap_or_default();
            let file = names.number(&path);
            let columns = MetaColumns::of(&rows.batch)?;
            let values = stored(&rows.batch, shape)?;
            let cells = Cells::of(values.columns());
            let cells = cells.map_err(|error| StageError::Mismatch(error.to_string()))?;
            let (mut buffer, mut entry) = (Vec::new(), Vec::new());
            for (at, row) in rows.rows.iter().enumerate() {
                let key = columns.key(at)?;
                let mut owned = columns.version(at, shape, &values, &mut names)?;
                (owned.file, owned.row) = (file, *row as u32);
                side.shows(key, &mut owned);
                side.stands(key, owned.opener_at);
                if current {
                    buffer.clear();
                    shape.codec.put(&cells, at, &mut buffer);
                    side.know(key, &owned.shown, owned.is_read());
                    let known = side.take_known(key);
                    let open = Some(owned.entry(&buffer));
                    entry.clear();
                    let completed = side.completes(key, &owned);
                    let Known { sequence: known, read } = &known;
                    CurrentEntry { known, read: *read, completed, open }.put(&mut entry);
                    update.current(key, &entry);
                } else {
                    update.closed(key, &owned.entry(&[]));
                    side.know(key, &owned.shown, owned.is_read());
                    side.know_closing(key, owned.closed_at);
                }
                written += 1;
                if update.len() >= PART {
                    update.write_part().map_err(index_error)?;
                }
            }
        }
    }
    for event in side.remaining() {
        let run = names.number(&event.run);
        let batch = names.number(&event.batch);
        let entry = event.entry(run, batch).ok_or_else(damaged_side)?;
        update.hidden(event.key, &entry);
        if update.len() >= PART {
            update.write_part().map_err(index_error)?;
        }
    }
    for (key, known) in &side.known {
        let mut entry = Vec::new();
        let Known { sequence: known, read } = known;
        CurrentEntry { known, read: *read, completed: false, open: None }.put(&mut entry);
        update.current(*key, &entry);
        if update.len() >= PART {
            update.write_part().map_err(index_error)?;
        }
    }
    for (number, name) in names.new_names() {
        update.name(*number, name);
    }
    update.whole(&side.closings.write());
    update.finish(table.version(), &shape.columns).map_err(index_error)?;
    tracing::info!(table = %table.path(), rows = written, "key index rebuilt from the table");
    Ok(side.closings)
}

/// The stored values of rows of the table.
fn stored(rows: &RecordBatch, shape: &Shape) -> Result<RecordBatch, StageError> {
    let at = |name: &&str| rows.schema_ref().index_of(name).map_err(|_| missing(name));
    let columns = shape.stored().iter().map(at).collect::<Result<Vec<_>, _>>()?;
    rows.project(&columns).map_err(|error| StageError::Bug(error.to_string()))
}

fn damaged_side() -> StageError {
    StageError::Corrupt("a side file holds an event that does not read".to_owned())
}

/// The events of the side files.
struct Side {
    events: Vec<SideEvent>,
    /// The last line about each event, by its place in the index.
    last: HashMap<Vec<u8>, usize>,
    /// Lines that are not hidden events: a version shows the event, or a later line tells of it.
    past: Vec<bool>,
    /// The highest sequence known of keys that have more than an open version.
    known: HashMap<u128, Known>,
    /// Events that came without some columns: key, sequence and position.
    partial: HashSet<(u128, Vec<u8>, Position)>,
    closings: Closings,
    /// The border of the entity's history, and of keys with older events the first version's begin.
    border: Option<SequencePart>,
    firsts: HashMap<u128, Option<SequencePart>>,
}

/// The highest sequence known of a key, and whether a row of a snapshot stands there.
#[derive(Default)]
struct Known {
    sequence: Vec<u8>,
    read: bool,
}

impl Side {
    async fn load(
        lake: &Lake,
        table: &Table,
        at: Option<(Epoch, u64)>,
        shape: &Shape,
    ) -> Result<Self, StageError> {
        let last = table.txn(hidden::TXN);
        let state = hidden::read_all(lake, table.path(), last, &shape.columns).await;
        let SideState { events, whole } = state.map_err(lake_error)?;
        let closings = match whole {
            Some(whole) => Closings::read(&whole, shape.first)?,
            None => Closings::default(),
        };
        let border = at.and_then(|(epoch, offset)| closings.borders.of_table(epoch, offset));
        let border = border.map(SequencePart::Timestamp);
        let mut firsts = HashMap::new();
        let (mut last, mut past) = (HashMap::new(), vec![false; events.len()]);
        let mut known: HashMap<u128, Known> = HashMap::new();
        let mut partial = HashSet::new();
        for (at, event) in events.iter().enumerate() {
            let entry = event.entry(0, 0).ok_or_else(damaged_side)?;
            if !entry.unset.is_empty() {
                partial.insert((event.key, entry.sequence.to_vec(), entry.meta.position));
            }
            if let Some(before) = last.insert(place(event.key, &entry), at) {
                past[before] = true;
            }
            if border.is_some_and(|border| entry.at < border) {
                firsts.insert(event.key, None);
            }
            know(&mut known, event.key, entry.sequence, entry.meta.op == Op::Read);
        }
        Ok(Self { events, last, past, known, partial, closings, border, firsts })
    }

    /// Whether the row that a version shows was completed.
    fn completes(&self, key: u128, version: &OwnedVersion) -> bool {
        let event = (key, version.shown.clone(), version.meta.position);
        !self.partial.is_empty() && self.partial.contains(&event)
    }

    fn know(&mut self, key: u128, sequence: &[u8], read: bool) {
        know(&mut self.known, key, sequence, read);
    }

    /// A version that a closing of the entity ended: that closing is known of the key too.
    fn know_closing(&mut self, key: u128, closed_at: Option<SequencePart>) {
        for closing in self.closings.all().iter().filter(|c| Some(c.at) == closed_at) {
            know(&mut self.known, key, &closing.sequence, false);
        }
    }

    fn take_known(&mut self, key: u128) -> Known {
        self.known.remove(&key).unwrap_or_default()
    }

    /// An event that a version shows is no longer hidden; it tells its own operation.
    fn shows(&mut self, key: u128, version: &mut OwnedVersion) {
        // The table does not tell what the shown event did, only what the one that opened did.
        for op in [version.opener_op, Op::Read, Op::Update] {
            let shown = HiddenEntry {
                sequence: &version.shown,
                at: version.shown_at,
                hashes: (version.opener_op != Op::Delete).then_some(version.hashes),
                unset: &[],
                meta: EventMeta { op, ..version.meta },
                values: None,
            };
            let Some(at) = self.last.get(&place(key, &shown)) else { continue };
            let Some(told) = self.events[*at].entry(0, 0) else { continue };
            if told.meta.position == version.meta.position {
                self.past[*at] = true;
                version.meta.op = told.meta.op;
                return;
            }
        }
    }

    /// Notes a version that stands, of a key whose old events may be forgotten.
    fn stands(&mut self, key: u128, from: SequencePart) {
        if let Some(first) = self.firsts.get_mut(&key) {
            *first = Some(first.map_or(from, |first| first.min(from)));
        }
    }

    fn remaining(&self) -> impl Iterator<Item = &SideEvent> {
        let all = self.events.iter().zip(&self.past);
        all.filter(|(event, past)| !**past && !self.is_forgotten(event)).map(|(event, _)| event)
    }

    /// Whether an event belongs to history that has been removed: it is older than the border, and
    /// than all that stands of its key.
    fn is_forgotten(&self, event: &SideEvent) -> bool {
        let (Some(border), Some(first)) = (self.border, self.firsts.get(&event.key)) else {
            return false;
        };
        let at = event.entry(0, 0).map(|entry| entry.at);
        at.is_some_and(|at| at < border && first.is_none_or(|first| at < first))
    }
}

fn place(key: u128, entry: &HiddenEntry<'_>) -> Vec<u8> {
    let mut place = key.to_be_bytes().to_vec();
    entry.place(&mut place);
    place
}

fn know(known: &mut HashMap<u128, Known>, key: u128, sequence: &[u8], read: bool) {
    let known = known.entry(key).or_default();
    match sequence.cmp(&known.sequence) {
        Ordering::Greater => (known.sequence, known.read) = (sequence.to_vec(), read),
        Ordering::Equal => known.read |= read,
        Ordering::Less => {}
    }
}

/// A version as the table tells it.
struct OwnedVersion {
    file: u32,
    row: u32,
    opener: Vec<u8>,
    opener_at: SequencePart,
    opener_op: Op,
    shown: Vec<u8>,
    shown_at: SequencePart,
    hashes: Hashes,
    closed_at: Option<SequencePart>,
    meta: EventMeta,
}

impl OwnedVersion {
    fn is_read(&self) -> bool {
        self.meta.op == Op::Read
    }

    fn entry<'a>(&'a self, values: &'a [u8]) -> VersionEntry<'a> {
        VersionEntry {
            file: self.file,
            row: self.row,
            opener: &self.opener,
            opener_at: self.opener_at,
            opener_op: self.opener_op,
            shown: &self.shown,
            shown_at: self.shown_at,
            hashes: self.hashes,
            closed_at: self.closed_at,
            meta: self.meta,
            values,
        }
    }
}

/// Our columns of a silver table.
struct MetaColumns<'b> {
    key_hash: &'b BinaryArray,
    row_hash: &'b BinaryArray,
    valid_from: &'b dyn Array,
    valid_to: &'b dyn Array,
    op: &'b StringArray,
    seq: &'b StringArray,
    last_seq: &'b StringArray,
    changed_at: &'b TimestampMicrosecondArray,
    run_id: &'b StringArray,
    batch_id: &'b StringArray,
    position: &'b StringArray,
    ingested_at: &'b TimestampMicrosecondArray,
}

impl<'b> MetaColumns<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self, StageError> {
        let column =
            |name: &str| batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(|| missing(name));
        let text = |name: &str| column(name)?.as_string_opt().ok_or_else(|| missing(name));
        let binary = |name: &str| column(name)?.as_binary_opt().ok_or_else(|| missing(name));
        let time = |name: &str| {
            column(name)?
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(|| missing(name))
        };
        Ok(Self {
            key_hash: binary("_key_hash")?,
            row_hash: binary("_row_hash")?,
            valid_from: column("_valid_from")?,
            valid_to: column("_valid_to")?,
            op: text("_op")?,
            seq: text("_seq")?,
            last_seq: text("_last_seq")?,
            changed_at: time("_changed_at")?,
            run_id: text("_run_id")?,
            batch_id: text("_batch_id")?,
            position: text("_position")?,
            ingested_at: time("_ingested_at")?,
        })
    }

    fn key(&self, at: usize) -> Result<u128, StageError> {
        hash(self.key_hash, at, "_key_hash")
    }

    fn version(
        &self,
        at: usize,
        shape: &Shape,
        values: &RecordBatch,
        names: &mut Names<'_>,
    ) -> Result<OwnedVersion, StageError> {
        let bytes = |column: &StringArray, name: &str| {
            hex::decode(column.value(at)).map_err(|_| damaged(name))
        };
        let (opener, shown) = (bytes(self.seq, "_seq")?, bytes(self.last_seq, "_last_seq")?);
        let tracked = hash(self.row_hash, at, "_row_hash")?;
        let opener_op = Op::parse(self.op.value(at)).ok_or_else(|| damaged("_op"))?;
        let run = if self.run_id.is_null(at) { "" } else { self.run_id.value(at) };
        Ok(OwnedVersion {
            file: 0,
            row: 0,
            opener_at: part(self.valid_from, at).ok_or_else(|| damaged("_valid_from"))?,
            shown_at: shown_at(shape.first, &shown)?,
            opener,
            opener_op,
            shown,
            hashes: shape.hashes_of(values, at, tracked),
            closed_at: part(self.valid_to, at),
            meta: EventMeta {
                op: opener_op,
                position: self.position.value(at).parse().map_err(|_| damaged("_position"))?,
                changed_at: self.changed_at.is_valid(at).then(|| self.changed_at.value(at)),
                ingested_at: self.ingested_at.value(at),
                run: names.number(run),
                batch: names.number(self.batch_id.value(at)),
            },
        })
    }
}

fn shown_at(kind: SequenceType, sequence: &[u8]) -> Result<SequencePart, StageError> {
    first_of(kind, sequence).ok_or_else(|| damaged("_last_seq"))
}

fn hash(column: &BinaryArray, at: usize, name: &str) -> Result<u128, StageError> {
    let bytes: [u8; 16] = column.value(at).try_into().map_err(|_| damaged(name))?;
    Ok(u128::from_be_bytes(bytes))
}

fn part(column: &dyn Array, at: usize) -> Option<SequencePart> {
    if column.is_null(at) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Int64 => SequencePart::Long(column.as_primitive::<Int64Type>().value(at)),
        DataType::Decimal128(..) => {
            SequencePart::Decimal(column.as_primitive::<Decimal128Type>().value(at))
        }
        _ => SequencePart::Timestamp(
            column.as_primitive_opt::<TimestampMicrosecondType>()?.value(at),
        ),
    })
}

fn missing(name: &str) -> StageError {
    StageError::Mismatch(format!("the table has no column {name} of the type that silver writes"))
}

fn damaged(name: &str) -> StageError {
    StageError::Corrupt(format!("column {name} holds a value that silver never writes"))
}

//! The key index from the table and its side files, whatever became of the index before.

use std::collections::HashMap;

use alluvium_lake::index::{CurrentEntry, EventMeta, HiddenEntry, KeyIndex, VersionEntry};
use alluvium_lake::{Lake, Table};
use alluvium_model::sequence::first_of;
use alluvium_model::{Op, SequencePart, SequenceType, StageError};
use arrow::array::{Array, AsArray, BinaryArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::files::Names;
use super::hidden::{self, SideEvent};
use super::values::lake_error;
use super::{Shape, index_error};

/// So many alterations are written at a time.
const PART: usize = 50_000;

/// Fills `index` anew, for the version that `table` is at.
pub(super) async fn rebuild(
    lake: &Lake,
    table: &Table,
    index: &KeyIndex,
    shape: &Shape,
) -> Result<(), StageError> {
    index.clear().map_err(index_error)?;
    let mut side = Side::load(lake, table, shape).await?;
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
            let (mut buffer, mut entry) = (Vec::new(), Vec::new());
            for (at, row) in rows.rows.iter().enumerate() {
                let key = columns.key(at)?;
                let mut owned = columns.version(at, shape, &rows.batch, &mut names)?;
                (owned.file, owned.row) = (file, *row as u32);
                side.shows(key, &mut owned);
                if current {
                    buffer.clear();
                    shape.codec.put(&rows.batch.columns()[..shape.stored], at, &mut buffer);
                    let known = side.take_known(key, &owned.shown);
                    let open = Some(owned.entry(&buffer));
                    entry.clear();
                    CurrentEntry { known: &known, open }.put(&mut entry);
                    update.current(key, &entry);
                } else {
                    update.closed(key, &owned.entry(&[]));
                    side.know(key, &owned.shown);
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
        CurrentEntry { known, open: None }.put(&mut entry);
        update.current(*key, &entry);
        if update.len() >= PART {
            update.write_part().map_err(index_error)?;
        }
    }
    for (number, name) in names.new_names() {
        update.name(*number, name);
    }
    update.finish(table.version(), &shape.columns).map_err(index_error)?;
    tracing::info!(table = %table.path(), rows = written, "key index rebuilt from the table");
    Ok(())
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
    known: HashMap<u128, Vec<u8>>,
}

impl Side {
    async fn load(lake: &Lake, table: &Table, shape: &Shape) -> Result<Self, StageError> {
        let last = table.txn(hidden::TXN);
        let events = hidden::read_all(lake, table.path(), last, &shape.columns).await;
        let events = events.map_err(lake_error)?;
        let (mut last, mut past) = (HashMap::new(), vec![false; events.len()]);
        let mut known: HashMap<u128, Vec<u8>> = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            let entry = event.entry(0, 0).ok_or_else(damaged_side)?;
            if let Some(before) = last.insert(place(event.key, &entry), at) {
                past[before] = true;
            }
            know(&mut known, event.key, entry.sequence);
        }
        Ok(Self { events, last, past, known })
    }

    fn know(&mut self, key: u128, sequence: &[u8]) {
        know(&mut self.known, key, sequence);
    }

    fn take_known(&mut self, key: u128, shown: &[u8]) -> Vec<u8> {
        let known = self.known.remove(&key).unwrap_or_default();
        if shown > known.as_slice() { shown.to_vec() } else { known }
    }

    /// An event that a version shows is no longer hidden; it tells its own operation.
    fn shows(&mut self, key: u128, version: &mut OwnedVersion) {
        let shown = HiddenEntry {
            sequence: &version.shown,
            at: version.shown_at,
            hashes: Some((version.tracked, version.full)),
            meta: version.meta,
            values: None,
        };
        let Some(at) = self.last.get(&place(key, &shown)) else { return };
        self.past[*at] = true;
        if let Some(told) = self.events[*at].entry(0, 0) {
            version.meta.op = told.meta.op;
        }
    }

    fn remaining(&self) -> impl Iterator<Item = &SideEvent> {
        self.events.iter().zip(&self.past).filter(|(_, past)| !**past).map(|(event, _)| event)
    }
}

fn place(key: u128, entry: &HiddenEntry<'_>) -> Vec<u8> {
    let mut place = key.to_be_bytes().to_vec();
    entry.place(&mut place);
    place
}

fn know(known: &mut HashMap<u128, Vec<u8>>, key: u128, sequence: &[u8]) {
    let known = known.entry(key).or_default();
    if sequence > known.as_slice() {
        *known = sequence.to_vec();
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
    tracked: u128,
    full: u128,
    closed_at: Option<SequencePart>,
    meta: EventMeta,
}

impl OwnedVersion {
    fn entry<'a>(&'a self, values: &'a [u8]) -> VersionEntry<'a> {
        VersionEntry {
            file: self.file,
            row: self.row,
            opener: &self.opener,
            opener_at: self.opener_at,
            opener_op: self.opener_op,
            shown: &self.shown,
            shown_at: self.shown_at,
            tracked: self.tracked,
            full: self.full,
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
        batch: &RecordBatch,
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
            tracked,
            full: shape.decoder.full_hash(batch.columns(), at).unwrap_or(tracked),
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

//! Rows of the table as versions: what our columns tell of each.

use alluvium_lake::index::{EventMeta, Hashes, VersionEntry};
use alluvium_model::sequence::first_of;
use alluvium_model::{Op, SequencePart, SequenceType, StageError};
use arrow::array::{Array, AsArray, BinaryArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::Shape;
use super::files::Names;

/// The column that tells of which key a row is.
pub(super) const KEY_HASH: &str = "_key_hash";

/// The stored values of rows of the table.
pub(super) fn stored(rows: &RecordBatch, shape: &Shape) -> Result<RecordBatch, StageError> {
    let at = |name: &&str| rows.schema_ref().index_of(name).map_err(|_| missing(name));
    let columns = shape.stored().iter().map(at).collect::<Result<Vec<_>, _>>()?;
    rows.project(&columns).map_err(|error| StageError::Bug(error.to_string()))
}

/// The keys of rows, of which this one column was read.
pub(super) fn keys(rows: &RecordBatch) -> Result<Vec<u128>, StageError> {
    let column = rows.column_by_name(KEY_HASH).and_then(|column| column.as_binary_opt());
    let column = column.ok_or_else(|| missing(KEY_HASH))?;
    (0..rows.num_rows()).map(|at| hash(column, at, KEY_HASH)).collect()
}

/// A version as the table tells it.
pub(super) struct OwnedVersion {
    pub(super) file: u32,
    pub(super) row: u32,
    pub(super) opener: Vec<u8>,
    pub(super) opener_at: SequencePart,
    pub(super) opener_op: Op,
    pub(super) shown: Vec<u8>,
    pub(super) shown_at: SequencePart,
    pub(super) hashes: Hashes,
    pub(super) closed_at: Option<SequencePart>,
    pub(super) meta: EventMeta,
}

impl OwnedVersion {
    pub(super) fn is_read(&self) -> bool {
        self.meta.op == Op::Read
    }

    /// The version as an entry with these values.
    pub(super) fn entry<'a>(&'a self, values: &'a [u8]) -> VersionEntry<'a> {
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
pub(super) struct MetaColumns<'b> {
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
    pub(super) fn of(batch: &'b RecordBatch) -> Result<Self, StageError> {
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
            key_hash: binary(KEY_HASH)?,
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

    pub(super) fn key(&self, at: usize) -> Result<u128, StageError> {
        hash(self.key_hash, at, KEY_HASH)
    }

    /// The version of a row, whose place is not told here.
    pub(super) fn version(
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

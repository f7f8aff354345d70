//! Rows as fingerprints: few bytes that tell whether two rows are one version, and whether they are
//! equal.

use alluvium_lake::{FileId, LakeError, Table};
use alluvium_model::StageError;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::silver::lake_error;

/// What a row is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Print {
    /// A hash of its key and of the sequence that opened it: which version it is.
    pub(super) version: u128,
    /// A hash of all compared columns, those among them.
    pub(super) row: u128,
}

/// A table whose rows are compared by some of its columns.
pub(super) struct Prints {
    table: Table,
    columns: Vec<String>,
    /// What ended before is not compared, in microseconds since 1970.
    border: Option<i64>,
    /// How many rows were left out for that when the table was read last.
    pub(super) left_out: u64,
    /// Files that could not be read, and why.
    pub(super) unreadable: Vec<String>,
}

/// Takes fingerprints of batches of one schema.
struct Printer {
    rows: RowConverter,
    key: usize,
    sequence: usize,
    end: usize,
}

impl Prints {
    /// The rows of `table`, compared by `columns`, among which are `_key_hash`, `_seq` and
    /// `_valid_to`. Those that ended before `border` are left out.
    pub(super) fn of(table: Table, columns: &[String], border: Option<i64>) -> Self {
        let columns = columns.to_vec();
        Self { table, columns, border, left_out: 0, unreadable: Vec::new() }
    }

    /// How many rows the table says it has.
    pub(super) fn rows(&self) -> u64 {
        self.table.rows()
    }

    /// Hands over every row until `each` says that it has seen enough: its fingerprint, the batch
    /// that it stands in, and its place there. A file that is damaged or missing is noted, and the
    /// next one is read.
    pub(super) async fn each(
        &mut self,
        each: &mut (dyn FnMut(Print, &RecordBatch, usize) -> bool + Send),
    ) -> Result<(), StageError> {
        let files: Vec<FileId> = self.table.files().map(|file| file.id).collect();
        self.unreadable.clear();
        let mut left_out = 0;
        for file in files {
            match self.file(file, &mut left_out, each).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(LakeError::Corrupt(how)) => self.unreadable.push(how),
                Err(error) => return Err(lake_error(error)),
            }
        }
        self.left_out = left_out;
        Ok(())
    }

    /// The rows of one file. False if no more are wanted.
    async fn file(
        &self,
        file: FileId,
        left_out: &mut u64,
        each: &mut (dyn FnMut(Print, &RecordBatch, usize) -> bool + Send),
    ) -> Result<bool, LakeError> {
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut scan = self.table.scan_files(&[file], Some(&columns))?;
        let mut printer = None;
        while let Some(rows) = scan.next().await {
            let batch = rows?.batch;
            let more = tokio::task::block_in_place(|| {
                let printer = match &mut printer {
                    Some(printer) => printer,
                    None => printer.insert(Printer::of(&batch)?),
                };
                printer.each(&batch, self.border, left_out, each)
            });
            let more = more.ok_or_else(|| {
                LakeError::Corrupt(format!("{}: its rows are no versions", self.table.path()))
            })?;
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Printer {
    /// `None` if the columns are not those of versions.
    fn of(batch: &RecordBatch) -> Option<Self> {
        let schema = batch.schema();
        let fields = schema.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        Some(Self {
            rows: RowConverter::new(fields.collect()).ok()?,
            key: schema.index_of("_key_hash").ok()?,
            sequence: schema.index_of("_seq").ok()?,
            end: schema.index_of("_valid_to").ok()?,
        })
    }

    /// `None` if a row is not one of a version; else whether more rows are wanted.
    fn each(
        &mut self,
        batch: &RecordBatch,
        border: Option<i64>,
        left_out: &mut u64,
        each: &mut (dyn FnMut(Print, &RecordBatch, usize) -> bool + Send),
    ) -> Option<bool> {
        let rows = self.rows.convert_columns(batch.columns()).ok()?;
        let key = batch.column(self.key).as_binary_opt::<i32>()?;
        let sequence = batch.column(self.sequence).as_string_opt::<i32>()?;
        let ends = batch.column(self.end).as_primitive_opt::<TimestampMicrosecondType>();
        let ends = ends.zip(border);
        for (at, row) in rows.iter().enumerate() {
            if ends.is_some_and(|(ends, border)| ends.is_valid(at) && ends.value(at) < border) {
                *left_out += 1;
                continue;
            }
            let mut version = Xxh3::new();
            version.update(if key.is_null(at) { &[] } else { key.value(at) });
            version.update(if sequence.is_null(at) { &[] } else { sequence.value(at).as_bytes() });
            let print = Print { version: version.digest128(), row: xxh3_128(row.as_ref()) };
            if !each(print, batch, at) {
                return Some(false);
            }
        }
        Some(true)
    }
}

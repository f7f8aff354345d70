//! Reading rows back: some of one file, or all that are not deleted.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderBuilder, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use roaring::RoaringTreemap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{DataFile, FileId, Table, schema};
use crate::store::{Pages, Remote};
use crate::{Lake, LakeError};

/// Rows of one batch of a scan.
const ROWS_PER_BATCH: usize = 32_768;
/// Batches that a scan reads ahead.
const AHEAD: usize = 2;

/// Rows of one file, in its order.
#[derive(Debug, Clone)]
pub struct ScanBatch {
    /// The file.
    pub file: FileId,
    /// Which of its rows they are, counted from 0, ascending.
    pub rows: Vec<u64>,
    /// The rows.
    pub batch: RecordBatch,
}

/// All rows of a table that are not deleted, file by file, read a little ahead.
#[derive(Debug)]
pub struct Scan {
    batches: mpsc::Receiver<Result<ScanBatch, LakeError>>,
}

impl Scan {
    /// The next rows; `None` after the last. After an error nothing more comes.
    pub async fn next(&mut self) -> Option<Result<ScanBatch, LakeError>> {
        self.batches.recv().await
    }

    /// [`next`](Self::next) for a thread that may block: not to be called from async code.
    pub fn blocking_next(&mut self) -> Option<Result<ScanBatch, LakeError>> {
        self.batches.blocking_recv()
    }
}

impl Table {
    /// The rows of `file` at `rows`, which ascend, deleted or not; of all columns, or of those
    /// named, in their order. Reads only the pages that hold them.
    pub async fn read_rows(
        &self,
        file: FileId,
        rows: &[u64],
        columns: Option<&[&str]>,
    ) -> Result<RecordBatch, LakeError> {
        let gone = || LakeError::Bug(format!("{}: reading a file that is not there", self.path));
        self.read_rows_of(self.file(file).ok_or_else(gone)?, rows, columns).await
    }

    /// [`read_rows`](Self::read_rows) of a file that may be no part of the table any more.
    pub async fn read_rows_of(
        &self,
        known: &DataFile,
        rows: &[u64],
        columns: Option<&[&str]>,
    ) -> Result<RecordBatch, LakeError> {
        let file = &known.path;
        let wrong = |what: &str| LakeError::Bug(format!("{}: {what} (file {file})", self.path));
        if !rows.is_sorted_by(|a, b| a < b) || rows.last() >= Some(&known.rows) {
            return Err(wrong("reading rows that do not ascend or are not there"));
        }
        let view = View::of(self, known, columns)?;
        let pages = self.lake.open_pages(&self.path_of(&known.path)?, known.size).await?;
        let rows = rows.to_vec();
        tokio::task::spawn_blocking(move || view.read_rows(pages, &rows))
            .await
            .map_err(LakeError::lost)?
    }

    /// All rows that are not deleted; of all columns, or of those named, in their order. Must be
    /// called within a tokio runtime. The table may be changed meanwhile: what is read is the
    /// table as it stands now.
    pub fn scan(&self, columns: Option<&[&str]>) -> Result<Scan, LakeError> {
        let files: Vec<FileId> = self.files().map(|file| file.id).collect();
        self.scan_files(&files, columns)
    }

    /// [`scan`](Self::scan) of some of the files, in the order given.
    pub fn scan_files(
        &self,
        files: &[FileId],
        columns: Option<&[&str]>,
    ) -> Result<Scan, LakeError> {
        Ok(self.prepare_scan(files, columns)?())
    }

    /// [`scan_files`](Self::scan_files), to be begun later: the rows are those of now all the same.
    pub(super) fn prepare_scan(
        &self,
        files: &[FileId],
        columns: Option<&[&str]>,
    ) -> Result<impl FnOnce() -> Scan + Send + use<>, LakeError> {
        let views = files
            .iter()
            .filter_map(|id| self.file(*id))
            .map(|file| Ok((self.path_of(&file.path)?, View::of(self, file, columns)?)))
            .collect::<Result<Vec<_>, LakeError>>()?;
        let lake = self.lake.clone();
        Ok(move || {
            let (sender, batches) = mpsc::channel(AHEAD);
            tokio::spawn(async move {
                for (path, view) in views {
                    if !send_file(&lake, &path, view, &sender).await {
                        return;
                    }
                }
            });
            Scan { batches }
        })
    }
}

/// Sends the rows of one file. False if nothing more is to be sent.
async fn send_file(
    lake: &Lake,
    path: &object_store::path::Path,
    view: View,
    sender: &mpsc::Sender<Result<ScanBatch, LakeError>>,
) -> bool {
    let sent = match lake.open_pages(path, view.size).await {
        Ok(pages) => {
            let sender = sender.clone();
            let work =
                move || view.scan(pages, &mut |batch| sender.blocking_send(Ok(batch)).is_ok());
            tokio::task::spawn_blocking(work).await.map_err(LakeError::lost).flatten()
        }
        Err(error) => Err(error),
    };
    match sent {
        Ok(more) => more,
        Err(error) => {
            // Nobody listens any more: then nobody misses the error either.
            sender.send(Err(error)).await.ok();
            false
        }
    }
}

/// How one file is seen: which columns, in which order, and which rows are deleted.
struct View {
    file: FileId,
    path: String,
    size: u64,
    rows: u64,
    current: Option<bool>,
    deleted: RoaringTreemap,
    partition_by: Option<String>,
    schema: SchemaRef,
}

impl View {
    fn of(table: &Table, file: &DataFile, columns: Option<&[&str]>) -> Result<Self, LakeError> {
        let schema = match columns {
            None => Arc::clone(&table.schema),
            Some(names) => Arc::new(Schema::new(
                names.iter().map(|name| named(table, name)).collect::<Result<Vec<_>, _>>()?,
            )),
        };
        Ok(Self {
            file: file.id,
            path: format!("{}/{}", table.path, file.path),
            size: file.size,
            rows: file.rows,
            current: file.current,
            deleted: file.deleted.clone(),
            partition_by: table.partition_by.clone(),
            schema,
        })
    }

    fn read_rows(&self, pages: Pages, rows: &[u64]) -> Result<RecordBatch, LakeError> {
        // Positions in a file fit in memory's measure, for its rows do.
        let ranges = rows.iter().map(|row| *row as usize..*row as usize + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, self.rows as usize);
        let batch_size = rows.len().clamp(1, ROWS_PER_BATCH);
        let mut batches = Vec::new();
        for batch in self.batches(pages, Some(selection), batch_size)? {
            batches.push(self.arrange(&batch.map_err(|e| self.failed(e))?)?);
        }
        let batch = concat_batches(&self.schema, &batches).map_err(|e| self.damaged(&e))?;
        if batch.num_rows() != rows.len() {
            return Err(self.damaged(&"it has fewer rows than the log says"));
        }
        Ok(batch)
    }

    /// Hands over the rows batch by batch until `send` says no. False if it did.
    fn scan(
        &self,
        pages: Pages,
        send: &mut dyn FnMut(ScanBatch) -> bool,
    ) -> Result<bool, LakeError> {
        let mut first = 0;
        for batch in self.batches(pages, None, ROWS_PER_BATCH)? {
            let batch = self.arrange(&batch.map_err(|e| self.failed(e))?)?;
            let all = first..first + batch.num_rows() as u64;
            first = all.end;
            let (rows, batch) = self.without_deleted(all, batch)?;
            if !rows.is_empty() && !send(ScanBatch { file: self.file, rows, batch }) {
                return Ok(false);
            }
        }
        match first == self.rows {
            true => Ok(true),
            false => Err(self.damaged(&"it has not as many rows as the log says")),
        }
    }

    fn without_deleted(
        &self,
        all: std::ops::Range<u64>,
        batch: RecordBatch,
    ) -> Result<(Vec<u64>, RecordBatch), LakeError> {
        if self.deleted.is_empty() {
            return Ok((all.collect(), batch));
        }
        let kept: BooleanArray = all.clone().map(|row| Some(!self.deleted.contains(row))).collect();
        let rows = all.filter(|row| !self.deleted.contains(*row)).collect();
        let batch = filter_record_batch(&batch, &kept).map_err(|e| self.damaged(&e))?;
        Ok((rows, batch))
    }

    /// The file's rows, or those selected. On a thread that may block.
    fn batches(
        &self,
        pages: Pages,
        selection: Option<RowSelection>,
        batch_size: usize,
    ) -> Result<Batches, LakeError> {
        let options = match selection {
            // Where each page begins is worth knowing only if pages are skipped.
            Some(_) => {
                ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional)
            }
            None => ArrowReaderOptions::new(),
        };
        let batches = match pages {
            Pages::At(blob) => ParquetRecordBatchReaderBuilder::try_new_with_options(blob, options)
                .and_then(|builder| self.asked(builder, selection, batch_size).build())
                .map(Batches::At),
            Pages::Remote(remote) => {
                let runtime = Handle::current();
                let opened = ParquetRecordBatchStreamBuilder::new_with_options(remote, options);
                runtime
                    .block_on(opened)
                    .and_then(|builder| self.asked(builder, selection, batch_size).build())
                    .map(|stream| Batches::Remote(Box::new(stream), runtime))
            }
        };
        batches.map_err(|e| self.failed(e))
    }

    fn asked<T>(
        &self,
        builder: ArrowReaderBuilder<T>,
        selection: Option<RowSelection>,
        batch_size: usize,
    ) -> ArrowReaderBuilder<T> {
        let stored = builder.schema().fields();
        let wanted = stored.iter().enumerate().filter_map(|(index, field)| {
            self.schema.field_with_name(field.name()).is_ok().then_some(index)
        });
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let builder = builder.with_projection(mask).with_batch_size(batch_size);
        match selection {
            Some(selection) => builder.with_row_selection(selection),
            None => builder,
        }
    }

    /// The columns asked for, in their order: the partition column is constant, and a column that
    /// is younger than the file is null.
    fn arrange(&self, batch: &RecordBatch) -> Result<RecordBatch, LakeError> {
        let rows = batch.num_rows();
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                if self.partition_by.as_ref() == Some(field.name()) {
                    let constant = BooleanArray::from(vec![self.current; rows]);
                    return Ok(Arc::new(constant) as ArrayRef);
                }
                match batch.column_by_name(field.name()) {
                    None => Ok(new_null_array(field.data_type(), rows)),
                    Some(column) if column.data_type() == field.data_type() => {
                        Ok(Arc::clone(column))
                    }
                    Some(column) if schema::is_same_type(column.data_type(), field.data_type()) => {
                        cast(column, field.data_type()).map_err(|e| self.damaged(&e))
                    }
                    Some(column) => Err(self.damaged(&format!(
                        "its column `{}` is {}",
                        field.name(),
                        column.data_type()
                    ))),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|e| self.damaged(&e))
    }

    fn damaged(&self, what: &dyn std::fmt::Display) -> LakeError {
        LakeError::Corrupt(format!("{}: {what}", self.path))
    }

    /// A store that does not answer is told from a file that is damaged.
    fn failed(&self, error: ParquetError) -> LakeError {
        match error {
            ParquetError::External(cause) => match cause.downcast::<object_store::Error>() {
                Ok(error) => LakeError::store(format!("reading {}", self.path), *error),
                Err(cause) => self.damaged(&cause),
            },
            error => self.damaged(&error),
        }
    }
}

/// The rows of a file, batch by batch, on a thread that may block.
enum Batches {
    At(ParquetRecordBatchReader),
    Remote(Box<ParquetRecordBatchStream<Remote>>, Handle),
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::At(reader) => Some(reader.next()?.map_err(ParquetError::from)),
            Self::Remote(stream, runtime) => runtime.block_on(stream.next()),
        }
    }
}

fn named(table: &Table, name: &str) -> Result<Arc<Field>, LakeError> {
    let field = table.schema.field_with_name(name);
    field
        .map(|field| Arc::new(field.clone()))
        .map_err(|_| LakeError::Bug(format!("{} has no column `{name}`", table.path)))
}

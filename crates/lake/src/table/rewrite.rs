//! Writing the rows of several files into a new one, in bounded memory: a little is read ahead, and
//! what is written goes to the store in parts.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use tokio::sync::mpsc;

use super::{DataFile, Scan, StagedFile, Table, stage, stats};
use crate::{Lake, LakeError};

/// So much is sent to the store at a time: some stores want parts of one size.
const PART: usize = 8 << 20;
/// Parts that wait to be sent.
const AHEAD: usize = 2;

/// What is to be written.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) current: Option<bool>,
    pub(super) inputs: Vec<DataFile>,
    lake: Lake,
    scan: Lazy,
    schema: SchemaRef,
    stats: Vec<String>,
    deletion_vectors: bool,
    /// Where the new file is to stand: relative to the table, and in the lake.
    path: String,
    place: object_store::path::Path,
}

/// The files as they are now; nothing is read before it is asked for.
struct Lazy(Box<dyn FnOnce() -> Scan + Send>);

impl std::fmt::Debug for Lazy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lazy")
    }
}

impl Rewrite {
    /// The rows of `files` that are not deleted now, in their order.
    pub(super) fn of(
        table: &Table,
        current: Option<bool>,
        files: &[&DataFile],
    ) -> Result<Self, LakeError> {
        let is_stored = |field: &&Arc<Field>| table.partition_by.as_ref() != Some(field.name());
        let stored: Vec<&Arc<Field>> = table.schema.fields().iter().filter(is_stored).collect();
        let names: Vec<&str> = stored.iter().map(|field| field.name().as_str()).collect();
        let plain = |f: &&Arc<Field>| Field::new(f.name(), f.data_type().clone(), f.is_nullable());
        let ids: Vec<_> = files.iter().map(|file| file.id).collect();
        let scan = table.prepare_scan(&ids, Some(&names))?;
        let path = table.new_file_name(current);
        Ok(Self {
            current,
            inputs: files.iter().map(|file| (*file).clone()).collect(),
            lake: table.lake.clone(),
            scan: Lazy(Box::new(scan)),
            schema: Arc::new(Schema::new(stored.iter().map(plain).collect::<Vec<_>>())),
            stats: table.stats.clone(),
            deletion_vectors: table.deletion_vectors,
            place: table.path_of(&path)?,
            path,
        })
    }
}

/// Writes the new file, durably; it has `rows` rows.
pub(super) async fn write(rewrite: Rewrite, rows: u64) -> Result<StagedFile, LakeError> {
    let place = rewrite.place.clone();
    let failed = move |e| LakeError::store(format!("writing {place}"), e);
    let upload = rewrite.lake.store().put_multipart(&rewrite.place).await;
    let mut upload = upload.map_err(&failed)?;
    let (sender, mut parts) = mpsc::channel::<Bytes>(AHEAD);
    let (path, current) = (rewrite.path.clone(), rewrite.current);
    let encoding = tokio::task::spawn_blocking({
        let scan = (rewrite.scan.0)();
        move || encode(scan, &rewrite.schema, &rewrite.stats, rewrite.deletion_vectors, sender)
    });
    let mut size = 0;
    while let Some(part) = parts.recv().await {
        size += part.len() as u64;
        upload.put_part(PutPayload::from(part)).await.map_err(&failed)?;
    }
    let (written, stats) = encoding.await.map_err(LakeError::lost)??;
    if written != rows {
        let what = format!("{path}: {written} rows were written, and {rows} were expected");
        return Err(LakeError::Bug(what));
    }
    upload.complete().await.map_err(&failed)?;
    Ok(StagedFile { path, size, rows, current, stats })
}

/// Reads and writes; returns the number of rows and their statistics.
fn encode(
    mut scan: Scan,
    schema: &SchemaRef,
    columns: &[String],
    deletion_vectors: bool,
    sender: mpsc::Sender<Bytes>,
) -> Result<(u64, String), LakeError> {
    let failed = |e| LakeError::Bug(format!("writing Parquet: {e}"));
    let sink = Sink { sender, part: Arc::default() };
    let mut stats = stats::Collector::new(columns, deletion_vectors);
    let (mut rows, mut writer) = (0, None);
    while let Some(batch) = scan.blocking_next() {
        let batch = batch?.batch;
        let batch = RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
            .map_err(|e| LakeError::Corrupt(format!("rows do not fit their table: {e}")))?;
        rows += batch.num_rows() as u64;
        stats.add(&batch);
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let properties = stage::properties(&batch).map_err(failed)?;
                let new = ArrowWriter::try_new(sink.clone(), Arc::clone(schema), Some(properties));
                writer.insert(new.map_err(failed)?)
            }
        };
        writer.write(&batch).map_err(failed)?;
    }
    if let Some(writer) = writer {
        writer.close().map_err(failed)?;
    }
    sink.send().map_err(|e| LakeError::Bug(format!("writing Parquet: {e}")))?;
    Ok((rows, stats.finish()?))
}

/// Takes what the Parquet writer writes, and sends it on in parts.
#[derive(Clone)]
struct Sink {
    sender: mpsc::Sender<Bytes>,
    part: Arc<Mutex<Vec<u8>>>,
}

impl Sink {
    /// Sends what has come together.
    fn send(&self) -> io::Result<()> {
        let part = std::mem::take(&mut *self.part.lock().unwrap_or_else(PoisonError::into_inner));
        if part.is_empty() {
            return Ok(());
        }
        let sent = self.sender.blocking_send(part.into());
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody writes it any more"))
    }

    /// Takes as much as fits into the part. True if it is full then.
    fn fill(&self, bytes: &mut &[u8]) -> bool {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let (fits, rest) = bytes.split_at(bytes.len().min(PART - part.len()));
        part.extend_from_slice(fits);
        *bytes = rest;
        part.len() == PART
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while self.fill(&mut rest) {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

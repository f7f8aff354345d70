//! An object opened for reading on a thread that may block: a local file as it is, or bytes; and
//! Parquet files of which only what is asked for is read, wherever they stand.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{GetResult, GetResultPayload, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

/// So much of a file's end is fetched first: the footer, where it is no larger.
const END: usize = 64 << 10;

/// An object opened for reading.
#[derive(Debug)]
pub(crate) enum Blob {
    /// A local file; what is not asked for is not read.
    File(File),
    /// The bytes of a remote object.
    Bytes(Bytes),
}

impl Blob {
    pub(crate) async fn of(got: GetResult) -> object_store::Result<Self> {
        match got.payload {
            GetResultPayload::File(file, _) => Ok(Blob::File(file)),
            GetResultPayload::Stream(_) => got.bytes().await.map(Blob::Bytes),
        }
    }

    /// Everything, from the beginning.
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send> {
        match self {
            Blob::File(file) => Box::new(file),
            Blob::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        }
    }
}

impl Length for Blob {
    fn len(&self) -> u64 {
        match self {
            Blob::File(file) => Length::len(file),
            Blob::Bytes(bytes) => Length::len(bytes),
        }
    }
}

impl ChunkReader for Blob {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(match self {
            Blob::File(file) => Box::new(BufReader::new(file.get_read(start)?)),
            Blob::Bytes(bytes) => Box::new(bytes.get_read(start)?),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Blob::File(file) => file.get_bytes(start, length),
            Blob::Bytes(bytes) => bytes.get_bytes(start, length),
        }
    }
}

/// A Parquet file.
#[derive(Debug)]
pub(crate) enum Pages {
    /// One at hand.
    At(Blob),
    /// One in a bucket.
    Remote(Remote),
}

impl Pages {
    pub(super) fn remote(store: Arc<dyn ObjectStore>, path: Path, size: u64) -> Self {
        Self::Remote(Remote { store, path, size })
    }
}

/// A Parquet file in a bucket: what a row group needs of it is fetched at once.
#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl AsyncFileReader for Remote {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let reader = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(END));
            let size = self.size;
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

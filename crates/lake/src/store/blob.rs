//! An object opened for reading on a thread that may block: a local file as it is, or bytes.

use std::fs::File;
use std::io::{BufReader, Read};

use bytes::Bytes;
use object_store::{GetResult, GetResultPayload};
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

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

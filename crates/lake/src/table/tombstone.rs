//! What is told of something that was removed, for as long as others may still read it. There are
//! many of them: each commit that deletes rows leaves some. So they are kept packed.

use std::cell::RefCell;
use std::io;

use deltalake::kernel::Remove;
use zstd::bulk::{Compressor, Decompressor};

use super::entry;
use crate::LakeError;

/// What nearly all lines have in common; they are packed against it, and only in memory.
const COMMON: &str = concat!(
    r#"{"remove":{"path":"_is_current=false/part-.zstd.parquet","dataChange":false,"#,
    r#""deletionTimestamp":1800000000000,"extendedFileMetadata":true,"#,
    r#""partitionValues":{"_is_current":"true"},"size":10000,"#,
    r#""deletionVector":{"storageType":"u","pathOrInlineDv":"","offset":1,"sizeInBytes":34,"#,
    r#""cardinality":10}}}"#,
);
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Something that was removed.
#[derive(Debug)]
pub(super) struct Tombstone {
    /// When it was removed, in milliseconds since 1970.
    pub(super) at_ms: Option<i64>,
    /// The line of a checkpoint, packed.
    pub(super) packed: Box<[u8]>,
    /// How many bytes the line has.
    size: usize,
}

impl Tombstone {
    pub(super) fn of(remove: Remove) -> Result<Self, LakeError> {
        let at_ms = remove.deletion_timestamp;
        let line = entry::removal(Remove { data_change: false, ..remove })?;
        let packed = pack(&line)
            .map_err(|error| LakeError::Bug(format!("zstd refused to compress: {error}")))?;
        Ok(Self { at_ms, packed: packed.into(), size: line.len() })
    }
}

fn pack(line: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(compressor) => compressor.compress(line),
        None => kept.insert(Compressor::with_dictionary(LEVEL, COMMON.as_bytes())?).compress(line),
    })
}

/// Gives the lines back.
pub(super) struct Unpacker(Decompressor<'static>);

impl Unpacker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Decompressor::with_dictionary(COMMON.as_bytes())?))
    }

    /// The line of a checkpoint.
    pub(super) fn line(&mut self, tombstone: &Tombstone) -> io::Result<Vec<u8>> {
        self.0.decompress(&tombstone.packed, tombstone.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_kept_small_and_given_back_as_it_was() {
        let mut unpacker = Unpacker::new().unwrap();
        for name in ["12fc7ec5-54b5-4a54-9ef0-f8ad4f8f9a3d", "a name that another program gave"] {
            let remove = Remove {
                path: format!("_is_current=true/part-{name}.zstd.parquet"),
                data_change: true,
                deletion_timestamp: Some(1_812_345_678_901),
                extended_file_metadata: Some(true),
                size: Some(123_456),
                ..Remove::default()
            };
            let tombstone = Tombstone::of(remove.clone()).unwrap();
            let line = unpacker.line(&tombstone).unwrap();
            assert_eq!(line, entry::removal(Remove { data_change: false, ..remove }).unwrap());
            assert!(tombstone.packed.len() < line.len(), "{tombstone:?}");
        }
    }
}

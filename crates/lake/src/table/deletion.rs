//! Deletion vectors: which rows of which file are deleted, several vectors in one file.

use std::collections::BTreeMap;

use buoyant_kernel::actions::deletion_vector_writer::{
    DeletionVector, StreamingDeletionVectorWriter,
};
use deltalake::kernel::{DeletionVectorDescriptor, StorageType};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::state::{FileId, State, join};
use crate::{Lake, LakeError};

/// Begins every serialised vector.
const MAGIC: u32 = 1_681_511_377;
/// How many files of vectors are read at once.
const PARALLEL_READS: usize = 8;
/// A uuid in z85.
const UUID_CHARS: usize = 20;

/// The vectors of one commit, as one file.
pub(super) struct DeletionFile {
    /// Its path, relative to the table.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    /// Where in it the vector of each file stands.
    pub(super) descriptors: BTreeMap<FileId, DeletionVectorDescriptor>,
}

/// Writes the vectors into one file. Its name is new.
pub(super) fn encode(
    vectors: &BTreeMap<FileId, RoaringTreemap>,
) -> Result<DeletionFile, LakeError> {
    let failed = |e| LakeError::Bug(format!("a deletion vector cannot be written: {e}"));
    let id = Uuid::new_v4();
    let mut bytes = Vec::new();
    let mut writer = StreamingDeletionVectorWriter::new(&mut bytes);
    let mut descriptors = BTreeMap::new();
    for (file, rows) in vectors {
        let written = writer.write_deletion_vector(Rows(rows)).map_err(failed)?;
        descriptors.insert(
            *file,
            DeletionVectorDescriptor {
                storage_type: StorageType::UuidRelativePath,
                // Without a prefix, the name of a folder: some readers take none, or letters and
                // digits alone.
                path_or_inline_dv: z85::encode(id.as_bytes()),
                offset: Some(written.offset),
                size_in_bytes: written.size_in_bytes,
                cardinality: written.cardinality,
            },
        );
    }
    writer.finalize().map_err(failed)?;
    Ok(DeletionFile { path: path_in("", &id), bytes, descriptors })
}

/// Reads the vectors of all files whose vector has not been read yet.
pub(super) async fn read_all(
    lake: &Lake,
    table: &Path,
    state: &mut State,
) -> Result<(), LakeError> {
    let mut wanted: BTreeMap<String, Vec<(FileId, DeletionVectorDescriptor)>> = BTreeMap::new();
    for id in std::mem::take(&mut state.unread) {
        let vector = state.files.get(&id).and_then(|file| file.deletion_vector.clone());
        if let Some(vector) = vector {
            wanted.entry(path_of(&vector)?).or_default().push((id, vector));
        }
    }
    let mut read = stream::iter(wanted.into_iter().map(|(path, vectors)| async move {
        read_file(lake, &join(table, &path)?, vectors).await
    }))
    .buffered(PARALLEL_READS);
    while let Some(vectors) = read.try_next().await? {
        for (id, rows) in vectors {
            if let Some(file) = state.files.get_mut(&id) {
                file.deleted = rows;
            }
        }
    }
    Ok(())
}

async fn read_file(
    lake: &Lake,
    path: &Path,
    vectors: Vec<(FileId, DeletionVectorDescriptor)>,
) -> Result<Vec<(FileId, RoaringTreemap)>, LakeError> {
    // Before the vector stands its size, behind it a checksum: four bytes each.
    let range = |v: &DeletionVectorDescriptor| {
        let start = u64::try_from(v.offset.unwrap_or(1)).unwrap_or(0);
        start..start + u64::try_from(v.size_in_bytes).unwrap_or(0) + 8
    };
    let ranges: Vec<_> = vectors.iter().map(|(_, vector)| range(vector)).collect();
    let bytes = lake.store().get_ranges(path, &ranges).await;
    let bytes = bytes.map_err(|e| LakeError::store(format!("reading {path}"), e))?;
    vectors
        .into_iter()
        .zip(bytes)
        .map(|((id, vector), bytes)| match decode(&bytes) {
            Some(rows) if i64::try_from(rows.len()) == Ok(vector.cardinality) => Ok((id, rows)),
            _ => Err(LakeError::Corrupt(format!("{path} does not hold what the log says of it"))),
        })
        .collect()
}

/// The rows of a vector with its size before it and its checksum behind it.
fn decode(bytes: &[u8]) -> Option<RoaringTreemap> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (vector, checksum) = rest.split_last_chunk::<4>()?;
    let (magic, rows) = vector.split_first_chunk::<4>()?;
    let sound = u32::from_be_bytes(*size) as usize == vector.len()
        && u32::from_be_bytes(*checksum) == crc32(vector)
        && u32::from_le_bytes(*magic) == MAGIC;
    sound.then(|| RoaringTreemap::deserialize_from(rows).ok())?
}

/// The checksum that Delta prescribes: CRC-32 as in zip.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut value, mut bit) = (n as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[n] = value;
            n += 1;
        }
        table
    };
    !bytes
        .iter()
        .fold(!0, |sum, byte| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xFF) as usize])
}

/// The file that a vector stands in, relative to the table.
pub(super) fn path_of(vector: &DeletionVectorDescriptor) -> Result<String, LakeError> {
    let unknown = || {
        LakeError::Mismatch(format!(
            "a deletion vector is stored in a way we do not write: {} {}",
            vector.storage_type, vector.path_or_inline_dv
        ))
    };
    let text = &vector.path_or_inline_dv;
    let split = text.len().checked_sub(UUID_CHARS).ok_or_else(unknown)?;
    let (prefix, id) = text.split_at_checked(split).ok_or_else(unknown)?;
    let id = z85::decode(id).ok().and_then(|id| Uuid::from_slice(&id).ok()).ok_or_else(unknown)?;
    match (vector.storage_type, prefix) {
        (StorageType::UuidRelativePath, folder) => Ok(path_in(folder, &id)),
        _ => Err(unknown()),
    }
}

fn path_in(folder: &str, id: &Uuid) -> String {
    match folder {
        "" => format!("deletion_vector_{id}.bin"),
        folder => format!("{folder}/deletion_vector_{id}.bin"),
    }
}

/// Lends rows to the writer, which would copy them otherwise.
struct Rows<'a>(&'a RoaringTreemap);

impl<'a> DeletionVector for Rows<'a> {
    type IndexIterator = roaring::treemap::Iter<'a>;

    fn into_iter(self) -> Self::IndexIterator {
        self.0.iter()
    }

    fn cardinality(&self) -> u64 {
        self.0.len()
    }

    fn serialize(self) -> buoyant_kernel::DeltaResult<bytes::Bytes> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        self.0
            .serialize_into(&mut bytes)
            .map_err(|e| buoyant_kernel::Error::generic(e.to_string()))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn vectors_written_together_are_read_each_on_its_own() {
        let vectors = BTreeMap::from([
            (FileId(0), RoaringTreemap::from_iter([0, 5, 7_000_000_000])),
            (FileId(3), RoaringTreemap::from_iter(10..90_000)),
        ]);
        let file = encode(&vectors).unwrap();
        for (id, vector) in &file.descriptors {
            let start = vector.offset.unwrap() as usize;
            let end = start + vector.size_in_bytes as usize + 8;
            assert_eq!(decode(&file.bytes[start..end]).as_ref(), vectors.get(id));
            assert_eq!(decode(&file.bytes[start..end - 1]), None, "torn");
            assert_eq!(path_of(vector).unwrap(), file.path);
        }
    }

    /// Trino refuses a table of which a prefix has other characters.
    #[test]
    fn vectors_are_written_where_every_reader_finds_them_and_read_from_any_folder() {
        let file = encode(&BTreeMap::from([(FileId(0), RoaringTreemap::from_iter([1]))])).unwrap();
        let vector = &file.descriptors[&FileId(0)];
        let (prefix, id) =
            vector.path_or_inline_dv.split_at(vector.path_or_inline_dv.len() - UUID_CHARS);
        assert!(prefix.chars().all(|c| c.is_ascii_alphanumeric()), "{prefix}");
        let told = path_of(vector).unwrap();
        assert_eq!(told, file.path);
        assert!(told.starts_with("deletion_vector_") && !told.contains('/'), "{told}");
        for folder in ["a1", "_alluvium"] {
            let text = format!("{folder}{id}");
            let elsewhere = DeletionVectorDescriptor { path_or_inline_dv: text, ..vector.clone() };
            assert_eq!(path_of(&elsewhere).unwrap(), format!("{folder}/{}", file.path));
        }
    }
}

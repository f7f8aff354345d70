//! The torn tail of the storage engine's journal: found and cut off before the engine opens it.
//!
//! A process that is killed, or a machine that loses power, may leave half a batch at the end of
//! the newest journal file. None of it was acknowledged. The engine drops such a tail without a
//! word where it ends early, but refuses to open where the end reached the disk and the middle did
//! not; so we look ourselves. A batch is `start, items, end`, with a checksum over the items.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8; 4] = b"FJL\x03";
const CHUNK: usize = 1 << 16;

/// Cuts the newest journal file in `folder` back to its last whole batch. Returns how many bytes
/// of a torn batch were dropped; the zeros that a file is laid out with beforehand do not count.
/// The caller holds the folder's lock.
pub(super) fn cut_torn_tail(folder: &Path) -> io::Result<u64> {
    let Some(path) = newest(folder)? else { return Ok(0) };
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let whole = end_of_last_batch(&file)?;
    let torn = last_byte_that_is_not_zero(&mut file, whole)?.saturating_sub(whole);
    if torn > 0 {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(torn)
}

fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "jnl") {
            continue;
        }
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(n, _)| number > *n)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn end_of_last_batch(file: &File) -> io::Result<u64> {
    let mut reader = Scan { reader: BufReader::with_capacity(CHUNK, file), at: 0, hash: None };
    let mut whole = 0;
    loop {
        match reader.batch() {
            Ok(true) => whole = reader.at,
            Ok(false) => return Ok(whole),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(e) => return Err(e),
        }
    }
}

fn last_byte_that_is_not_zero(file: &mut File, from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let (mut at, mut last) = (from, from);
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(last);
        }
        if let Some(found) = chunk[..n].iter().rposition(|b| *b != 0) {
            last = at + found as u64 + 1;
        }
        at += n as u64;
    }
}

struct Scan<R> {
    reader: R,
    at: u64,
    hash: Option<Xxh3>,
}

impl<R: Read> Scan<R> {
    /// Reads one batch; whether it is whole.
    fn batch(&mut self) -> io::Result<bool> {
        self.hash = None;
        if self.byte()? != START {
            return Ok(false);
        }
        let items = u32::from_le_bytes(self.take()?);
        let _seqno: [u8; 8] = self.take()?;
        self.hash = Some(Xxh3::new());
        for _ in 0..items {
            if !self.item()? {
                return Ok(false);
            }
        }
        let found = self.hash.take().map(|h| h.digest());
        let end = self.byte()?;
        let expected = u64::from_le_bytes(self.take()?);
        let trailer: [u8; 4] = self.take()?;
        Ok(end == END && found == Some(expected) && &trailer == TRAILER)
    }

    fn item(&mut self) -> io::Result<bool> {
        match self.byte()? {
            ITEM => {
                let _kind_and_compression: [u8; 2] = self.take()?;
                let _keyspace: [u8; 8] = self.take()?;
                let key = u64::from(u16::from_le_bytes(self.take()?));
                let _value: [u8; 4] = self.take()?;
                let stored = u64::from(u32::from_le_bytes(self.take()?));
                self.skip(key + stored)?;
                Ok(true)
            }
            CLEAR => {
                let _keyspace: [u8; 8] = self.take()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        let mut chunk = [0; 8192];
        while count > 0 {
            let n = usize::try_from(count).unwrap_or(usize::MAX).min(chunk.len());
            self.fill(&mut chunk[..n])?;
            count -= n as u64;
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        Ok(())
    }
}

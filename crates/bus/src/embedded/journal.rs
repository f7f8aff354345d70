//! The torn tail of the storage engine's journal: found and cut off before the engine opens it.
//!
//! A process that is killed, or a machine that loses power, may leave half a batch at the end of
//! the newest journal file, and behind it what was written after the last sync. None of it was
//! acknowledged. The engine drops such a tail without a word where it ends early, but refuses to open
//! where the end reached the disk and the middle did not; so we look ourselves. A batch is `start,
//! items, end`, with a checksum over the items.
//!
//! Damage in the middle is another thing: what stands behind it was acknowledged. Pages are synced
//! one group after the other, so that behind a tail one group of pages may stand whole, and no more.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::folder::sync_folder;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8; 4] = b"FJL\x03";
const CHUNK: usize = 1 << 16;

/// What stands behind the last whole batch of the newest journal file.
pub(super) struct Tail {
    /// The file.
    pub(super) path: PathBuf,
    /// Where it begins.
    pub(super) at: u64,
    /// Its bytes, but for the zeros that a file is laid out with beforehand.
    bytes: Vec<u8>,
    /// How many groups of pages stand whole in it.
    groups: usize,
}

impl Tail {
    /// Looks at the newest journal file in `folder` that something stands in. The caller holds the
    /// folder's lock.
    pub(super) fn of(folder: &Path, is_page: fn(&[u8]) -> bool) -> io::Result<Option<Self>> {
        let Some(path) = written(folder)?.pop() else { return Ok(None) };
        let mut file = File::open(&path)?;
        let at = end_of_last_batch(&file)?;
        let end = last_byte_that_is_not_zero(&mut file, at)?;
        if end <= at {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(end - at).read_to_end(&mut bytes)?;
        let groups = whole_groups(&bytes, is_page);
        Ok(Some(Self { path, at, bytes, groups }))
    }

    /// Whether some of it was acknowledged, so that no kill and no power cut has left it.
    pub(super) fn was_acknowledged(&self) -> bool {
        self.groups > 1
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Cuts it off. Where a group of pages stands whole in it, it is kept in a file beside.
    pub(super) fn cut(&self) -> io::Result<Option<PathBuf>> {
        let aside =
            (self.groups > 0).then(|| self.path.with_extension(format!("{}.torn", self.at)));
        if let Some(aside) = &aside {
            let mut kept = File::create(aside)?;
            kept.write_all(&self.bytes)?;
            kept.sync_all()?;
            self.path.parent().map_or(Ok(()), sync_folder)?;
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.at)?;
        file.sync_all()?;
        Ok(aside)
    }
}

/// Where the first damage stands in a journal that has a successor. Each was synced before its
/// successor was made, so no kill and no power cut has left it. The caller holds the folder's lock.
pub(super) fn damage(folder: &Path) -> io::Result<Option<(PathBuf, u64)>> {
    let mut files = written(folder)?;
    files.pop();
    for path in files {
        let mut file = File::open(&path)?;
        let at = end_of_last_batch(&file)?;
        if last_byte_that_is_not_zero(&mut file, at)? > at {
            return Ok(Some((path, at)));
        }
    }
    Ok(None)
}

/// Whether nothing was ever written into a journal file.
pub(super) fn is_blank(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 || chunk[..n].iter().any(|byte| *byte != 0) {
            return Ok(n == 0);
        }
    }
}

/// The journal files that something stands in, oldest first.
fn written(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "jnl") {
            continue;
        }
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
        if let Some(number) = number
            && !is_blank(&path)?
        {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn end_of_last_batch(file: &File) -> io::Result<u64> {
    let mut reader = Scan::over(BufReader::with_capacity(CHUNK, file), |_| false);
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

/// How many whole batches with pages there are, wherever they begin.
fn whole_groups(bytes: &[u8], is_page: fn(&[u8]) -> bool) -> usize {
    let (mut at, mut groups) = (0, 0);
    while let Some(start) = bytes[at..].iter().position(|byte| *byte == START) {
        at += start;
        let mut scan = Scan::over(&bytes[at..], is_page);
        match scan.batch() {
            Ok(true) => {
                groups += usize::from(scan.has_page);
                at += usize::try_from(scan.at).unwrap_or(usize::MAX);
            }
            _ => at += 1,
        }
    }
    groups
}

struct Scan<R> {
    reader: R,
    at: u64,
    hash: Option<Xxh3>,
    /// Whether an item of the last batch, by its key, says that it holds pages.
    has_page: bool,
    is_page: fn(&[u8]) -> bool,
}

impl<R: Read> Scan<R> {
    fn over(reader: R, is_page: fn(&[u8]) -> bool) -> Self {
        Self { reader, at: 0, hash: None, has_page: false, is_page }
    }

    /// Reads one batch; whether it is whole.
    fn batch(&mut self) -> io::Result<bool> {
        (self.hash, self.has_page) = (None, false);
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
                let mut key = vec![0; usize::from(u16::from_le_bytes(self.take()?))];
                let _value: [u8; 4] = self.take()?;
                let stored = u64::from(u32::from_le_bytes(self.take()?));
                self.fill(&mut key)?;
                self.has_page |= (self.is_page)(&key);
                self.skip(stored)?;
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

//! A file of lines, read page by page, and how far it has been read.

use std::path::Path;

use alluvium_model::Cursor;
use alluvium_runtime::PushRun;
use alluvium_wire::LineFormat;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use xxhash_rust::xxh3::xxh3_64;

use crate::exit::UsageError;

/// So much is read before it is published as one page.
const PAGE_BYTES: usize = 4 << 20;
/// No line may be longer.
const LINE_LIMIT: usize = 8 << 20;
/// So much of a message its headers have at most.
const HEADERS: usize = 4 << 10;
/// So much of a file's beginning tells it from others.
const HEAD_BYTES: u64 = 64 << 10;

/// How far a file was read: the cursor of what is pushed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The file's name; none for stdin, which cannot be gone on with.
    file: Option<String>,
    pub(super) size: Option<u64>,
    /// A hash of the file's beginning.
    head: String,
    /// What its lines are.
    format: String,
    /// Bytes that are on the bus.
    pub(super) read: u64,
    /// Lines that are on the bus, blank ones too.
    #[serde(default)]
    lines: u64,
    /// Records that are on the bus.
    pub(super) records: u64,
    /// Whether the file was published to its end, and waited for if that was asked for.
    pub(super) done: bool,
    /// The delivery's id, the same when a file is gone on with.
    delivery: Option<String>,
}

impl Place {
    /// The place as a cursor.
    pub(super) fn cursor(&self) -> anyhow::Result<Cursor> {
        Ok(Cursor(serde_json::json!({ "published": serde_json::to_value(self)? })))
    }

    /// The delivery's id: that of the run which began the file.
    pub(super) fn delivery(&mut self, run: &PushRun) -> String {
        self.delivery.get_or_insert_with(|| run.run().to_string()).clone()
    }

    fn is_of_the_same_file(&self, other: &Self) -> bool {
        self.file.is_some()
            && (&self.file, self.size, &self.head, &self.format)
                == (&other.file, other.size, &other.head, &other.format)
    }
}

/// An open file.
pub(super) struct Input {
    file: File,
    /// What errors call it.
    name: String,
    /// No line may have more bytes.
    limit: usize,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    pub(super) place: Place,
}

impl Input {
    /// Opens a file, or stdin for `-`. The bus takes messages of `most` bytes.
    pub(super) async fn open(path: &Path, format: &LineFormat, most: u64) -> anyhow::Result<Self> {
        let stdin = path == Path::new("-");
        let opened = File::open(if stdin { Path::new("/dev/stdin") } else { path }).await;
        let mut file = opened
            .map_err(|error| UsageError(format!("cannot read {}: {error}", path.display())))?;
        let metadata = file.metadata().await.context("cannot read the input")?;
        let mut place = Place {
            file: None,
            size: None,
            head: String::new(),
            format: format!("{format:?}"),
            read: 0,
            lines: 0,
            records: 0,
            done: false,
            delivery: None,
        };
        if metadata.is_dir() {
            return Err(UsageError(format!("{} is a folder", path.display())).into());
        }
        if !stdin && metadata.is_file() {
            let mut head = Vec::new();
            (&mut file).take(HEAD_BYTES).read_to_end(&mut head).await?;
            file.rewind().await?;
            place.file = path.file_name().map(|name| name.to_string_lossy().into_owned());
            place.size = Some(metadata.len());
            place.head = format!("{:016x}", xxh3_64(&head));
        }
        let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let limit = LINE_LIMIT.min(most.saturating_sub(HEADERS).max(most / 2));
        Ok(Self { file, name, limit, rest: Vec::new(), place })
    }

    /// Goes on where `cursor` says that this file was left. Returns the records before that.
    pub(super) async fn take_up(&mut self, cursor: Option<&Cursor>) -> anyhow::Result<u64> {
        let left = cursor.and_then(|cursor| cursor.0.get("published"));
        let left: Option<Place> = left.and_then(|left| serde_json::from_value(left.clone()).ok());
        if let Some(left) = left.filter(|left| !left.done && left.is_of_the_same_file(&self.place))
        {
            self.file.seek(std::io::SeekFrom::Start(left.read)).await?;
            self.place = left;
        }
        Ok(self.place.records)
    }

    /// What to know before that is published again which cannot be gone on with.
    pub(super) fn warning(&self) -> Option<String> {
        let Place { file, records, .. } = &self.place;
        (file.is_none() && *records > 0).then(|| {
            format!(
                "up to {records} records of {} are published, and it cannot be gone on with, as a \
                 file can: given again, all of it is published anew. Silver knows again what it has \
                 where the entity has `sequence_by`; else it is there twice",
                self.name
            )
        })
    }

    /// About a page of whole lines; `None` at the end. The place moves past them.
    pub(super) async fn read_lines(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut buffer = std::mem::take(&mut self.rest);
        buffer.reserve(PAGE_BYTES);
        loop {
            let wanted = (PAGE_BYTES.saturating_sub(buffer.len())).max(64 << 10) as u64;
            let read = self.read(&mut buffer, wanted).await?;
            let end = match buffer.iter().rposition(|byte| *byte == b'\n') {
                Some(end) if read > 0 => end + 1,
                _ if read == 0 => buffer.len(),
                _ if buffer.len() > self.limit => buffer.len(),
                _ => continue,
            };
            let mut rest = buffer.split_off(end);
            let taken = self.fitting(&buffer);
            if taken == 0 && !buffer.is_empty() {
                return Err(self.too_long(&buffer).await?);
            }
            // A line that does not fit is told once those before it are published.
            self.rest = buffer.split_off(taken);
            self.rest.append(&mut rest);
            self.place.read += buffer.len() as u64;
            self.place.lines += newlines(&buffer);
            return Ok((!buffer.is_empty()).then_some(buffer));
        }
    }

    async fn read(&mut self, buffer: &mut Vec<u8>, wanted: u64) -> anyhow::Result<usize> {
        let mut part = (&mut self.file).take(wanted);
        part.read_to_end(buffer).await.context("cannot read the input")
    }

    /// How much of these lines comes before the first that is too long.
    fn fitting(&self, lines: &[u8]) -> usize {
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        let fits = |line: &&[u8]| line.strip_suffix(b"\n").unwrap_or(line).len() <= self.limit;
        lines.take_while(fits).map(<[u8]>::len).sum()
    }

    /// The error about the line that these bytes begin with. The bus would not take it, and raw is to
    /// keep every line as it is.
    async fn too_long(&mut self, bytes: &[u8]) -> anyhow::Result<anyhow::Error> {
        let size = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => end as u64,
            None => bytes.len() as u64 + self.rest_of_line().await?,
        };
        let (name, number, limit) = (&self.name, self.place.lines + 1, self.limit);
        Ok(anyhow::anyhow!(
            "{name}:{number}: this line has {size} bytes, and a line may have {limit} at most; is \
             this NDJSON? The lines before it are published"
        ))
    }

    /// How much more there is of the line that was read last.
    async fn rest_of_line(&mut self) -> anyhow::Result<u64> {
        let (mut size, mut buffer) = (0, Vec::new());
        loop {
            buffer.clear();
            let read = self.read(&mut buffer, PAGE_BYTES as u64).await?;
            match buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => return Ok(size + end as u64),
                None if read == 0 => return Ok(size),
                None => size += read as u64,
            }
        }
    }
}

fn newlines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are read until the end, or until the error.
    async fn read(text: &str, most: u64) -> (String, Option<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut input = Input::open(file.path(), &LineFormat::Plain, most).await.unwrap();
        input.name = "in".to_owned();
        let mut lines = String::new();
        loop {
            match input.read_lines().await {
                Ok(Some(page)) => lines.push_str(std::str::from_utf8(&page).unwrap()),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_told_by_its_number_after_those_before_it() {
        let longest = "y".repeat(100);
        for (text, size) in [
            (format!("a\n\n{longest}\n{longest}y\nb\n"), 101),
            (format!("a\n\n{longest}\n{longest}y"), 101),
            (format!("a\n\n{longest}\n{}\nb\n", "z".repeat(9 << 20)), 9 << 20),
        ] {
            let (lines, error) = read(&text, 200).await;
            assert_eq!(lines, format!("a\n\n{longest}\n"));
            let expected = format!("in:4: this line has {size} bytes, and a line may have 100 at");
            assert!(error.unwrap().starts_with(&expected));
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_warned_of_once_some_of_it_is_published() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut input = Input::open(file.path(), &LineFormat::Plain, 200).await.unwrap();
        input.place.records = 7;
        assert_eq!(input.warning(), None, "it is gone on with");
        input.place.file = None;
        assert!(input.warning().unwrap().starts_with("up to 7 records of "));
        input.place.records = 0;
        assert_eq!(input.warning(), None);
    }

    #[tokio::test]
    async fn lines_that_fit_are_read_to_the_end_however_many_pages_they_fill() {
        let long = "x".repeat(3 << 20);
        let text = format!("{long}\n{long}\n{long}\nlast");
        assert_eq!(read(&text, u64::MAX).await, (text, None));
        let most = "x".repeat(LINE_LIMIT);
        assert_eq!(read(&most, u64::MAX).await, (most, None));
        let (_, error) = read(&format!("{}\n", "x".repeat(LINE_LIMIT + 1)), u64::MAX).await;
        assert!(error.unwrap().starts_with("in:1: this line has 8388609 bytes"));
    }
}

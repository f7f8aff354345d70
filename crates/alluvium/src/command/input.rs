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
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    pub(super) place: Place,
}

impl Input {
    /// Opens a file, or stdin for `-`.
    pub(super) async fn open(path: &Path, format: &LineFormat) -> anyhow::Result<Self> {
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
        Ok(Self { file, rest: Vec::new(), place })
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

    /// About a page of whole lines; `None` at the end. The place moves past them.
    pub(super) async fn read_lines(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut buffer = std::mem::take(&mut self.rest);
        buffer.reserve(PAGE_BYTES);
        loop {
            let wanted = (PAGE_BYTES.saturating_sub(buffer.len())).max(64 << 10) as u64;
            let read = (&mut self.file)
                .take(wanted)
                .read_to_end(&mut buffer)
                .await
                .context("cannot read the input")?;
            let end = match buffer.iter().rposition(|byte| *byte == b'\n') {
                Some(end) if read > 0 => end + 1,
                _ if read == 0 => buffer.len(),
                _ if buffer.len() > LINE_LIMIT => {
                    anyhow::bail!(
                        "a line is longer than {} MiB; is this NDJSON?",
                        LINE_LIMIT >> 20
                    );
                }
                _ => continue,
            };
            self.rest = buffer.split_off(end);
            self.place.read += buffer.len() as u64;
            return Ok((!buffer.is_empty()).then_some(buffer));
        }
    }
}

//! Side files: what is remembered beside the table, durable before the commit that names it.
//!
//! One compressed file per commit that adds something: a header line with the columns, then a line
//! per event. A file is named by its contents and names the one before it; the table's `txn` names
//! the last. A file that no commit names is left over from a commit that never was, and whatever
//! another writer leaves behind, it never takes the place of one that counts.

use std::io::Read;

use alluvium_lake::index::{EventMeta, HiddenEntry, continues};
use alluvium_lake::{Lake, LakeError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The application id of the `txn` that names the last side file.
pub(super) const TXN: &str = "alluvium/hidden";

/// How the names of their objects end.
const ENDING: &str = ".ndjson.zst";

/// No side file is larger than this once decompressed: it holds part of one batch.
const LARGEST: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Header {
    alluvium: String,
    columns: String,
    previous: Option<i64>,
}

const FORMAT: &str = "hidden/2";

#[derive(Serialize, Deserialize)]
struct SideLine {
    #[serde(rename = "key")]
    key: String,
    run: String,
    batch: String,
    /// The entry as the index keeps it; its numbers for run and batch mean nothing here.
    entry: String,
}

/// A line that tells the state of the entity as a whole; the last one counts.
#[derive(Serialize, Deserialize)]
struct WholeLine {
    entity: String,
}

/// All that side files tell.
#[derive(Default)]
pub(super) struct SideState {
    /// The events, oldest first.
    pub(super) events: Vec<SideEvent>,
    /// The state of the entity as a whole, as it was last told.
    pub(super) whole: Option<String>,
}

/// A hidden event as a side file tells it.
#[derive(Clone)]
pub(super) struct SideEvent {
    pub(super) key: u128,
    pub(super) run: String,
    pub(super) batch: String,
    entry: Vec<u8>,
}

impl SideEvent {
    /// What a side file would tell of a hidden event.
    pub(super) fn new(key: u128, run: String, batch: String, event: &HiddenEntry<'_>) -> Self {
        let mut entry = Vec::new();
        event.put(&mut entry);
        Self { key, run, batch, entry }
    }

    /// The event, its run and batch under the numbers given.
    pub(super) fn entry(&self, run: u32, batch: u32) -> Option<HiddenEntry<'_>> {
        let entry = HiddenEntry::parse(&self.entry)?;
        Some(HiddenEntry { meta: EventMeta { run, batch, ..entry.meta }, ..entry })
    }
}

/// Collects the events of one side file.
pub(super) struct SideFile {
    lines: String,
}

impl SideFile {
    /// A file for values of `columns`, to follow `previous`.
    pub(super) fn new(columns: &str, previous: Option<i64>) -> Self {
        let (alluvium, columns) = (FORMAT.to_owned(), columns.to_owned());
        let header = Header { alluvium, columns, previous };
        let lines = serde_json::json!(header).to_string() + "\n";
        Self { lines }
    }

    /// Adds an event.
    pub(super) fn push(&mut self, key: u128, run: &str, batch: &str, entry: &HiddenEntry<'_>) {
        let mut bytes = Vec::new();
        entry.put(&mut bytes);
        let line = SideLine {
            key: format!("{key:032x}"),
            run: run.to_owned(),
            batch: batch.to_owned(),
            entry: STANDARD.encode(bytes),
        };
        self.lines.push_str(&serde_json::json!(line).to_string());
        self.lines.push('\n');
    }

    /// Adds the state of the entity as a whole.
    pub(super) fn whole(&mut self, state: &str) {
        let line = WholeLine { entity: state.to_owned() };
        self.lines.push_str(&serde_json::json!(line).to_string());
        self.lines.push('\n');
    }

    /// Writes the file, durably. Returns its name and its size.
    pub(super) async fn write(self, lake: &Lake, table: &Path) -> Result<(i64, u64), LakeError> {
        let compressed = zstd::bulk::compress(self.lines.as_bytes(), 1)
            .map_err(|e| LakeError::Bug(format!("compressing a side file: {e}")))?;
        let (name, size) = (name_of(&self.lines), compressed.len() as u64);
        lake.put(&path(table, name), compressed.into()).await?;
        Ok((name, size))
    }
}

/// What the side files from the first to `last` tell. Values are of `columns`.
pub(super) async fn read_all(
    lake: &Lake,
    table: &Path,
    last: Option<i64>,
    columns: &str,
) -> Result<SideState, LakeError> {
    let (mut files, mut whole) = (Vec::new(), None);
    let mut next = last;
    while let Some(name) = next {
        let (previous, state) = read(lake, table, name, Some(columns)).await?;
        // The newest one counts, and is long: those before it are let go.
        whole = whole.or(state.whole);
        files.push(state.events);
        next = previous;
    }
    let events = files.into_iter().rev().flatten().collect();
    Ok(SideState { events, whole })
}

/// The state of the entity as a whole, as the side files up to `last` told it last.
pub(super) async fn read_whole(
    lake: &Lake,
    table: &Path,
    last: Option<i64>,
) -> Result<Option<String>, LakeError> {
    let mut next = last;
    while let Some(name) = next {
        let (previous, state) = read(lake, table, name, None).await?;
        if state.whole.is_some() {
            return Ok(state.whole);
        }
        next = previous;
    }
    Ok(None)
}

/// Reads a side file, for values of `columns` if any are given. Returns the name of the one before
/// it, and what it tells.
pub(super) async fn read(
    lake: &Lake,
    table: &Path,
    name: i64,
    columns: Option<&str>,
) -> Result<(Option<i64>, SideState), LakeError> {
    let path = path(table, name);
    let damaged = |what: &str| LakeError::Corrupt(format!("side file {path}: {what}"));
    let bytes = lake.get(&path).await?.ok_or_else(|| damaged("it is not there"))?;
    let mut text = String::new();
    zstd::stream::read::Decoder::new(bytes.as_ref())
        .and_then(|decoder| decoder.take(LARGEST).read_to_string(&mut text))
        .map_err(|_| damaged("it does not decompress"))?;
    if name_of(&text) != name {
        return Err(damaged("it does not hold what it is named by"));
    }
    let mut lines = text.lines();
    let header: Header = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| damaged("it has no header"))?;
    if header.alluvium != FORMAT {
        return Err(damaged("it is of a format that this release does not know"));
    }
    if columns.is_some_and(|columns| !continues(&header.columns, columns)) {
        return Err(LakeError::Mismatch(format!(
            "{path} holds values of other columns; rebuild the table from raw"
        )));
    }
    let mut state = SideState::default();
    for line in lines {
        match serde_json::from_str::<WholeLine>(line) {
            Ok(whole) => state.whole = Some(whole.entity),
            Err(_) => {
                state.events.push(event(line).ok_or_else(|| damaged("a line does not read"))?);
            }
        }
    }
    Ok((header.previous, state))
}

fn event(line: &str) -> Option<SideEvent> {
    let line: SideLine = serde_json::from_str(line).ok()?;
    Some(SideEvent {
        key: u128::from_str_radix(&line.key, 16).ok()?,
        run: line.run,
        batch: line.batch,
        entry: STANDARD.decode(line.entry).ok()?,
    })
}

/// A hash of the contents; of 63 bits, for a `txn` carries no more.
fn name_of(lines: &str) -> i64 {
    (xxh3_64(lines.as_bytes()) >> 1) as i64
}

/// Where a side file stands.
pub(super) fn path(table: &Path, name: i64) -> Path {
    table.clone().join("_alluvium").join("hidden").join(format!("{name:016x}{ENDING}"))
}

/// The name of the side file at a path, if it could be one.
pub(super) fn name_in(path: &Path) -> Option<i64> {
    i64::from_str_radix(path.filename()?.strip_suffix(ENDING)?, 16).ok()
}

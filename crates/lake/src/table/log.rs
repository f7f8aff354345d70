//! The table's log: loaded at open, read on entry by entry, appended by put-if-absent.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use super::checkpoint::{self, Checkpoint};
use super::deletion;
use super::entry::{self, Entry};
use super::state::State;
use crate::store::Created;
use crate::{Lake, LakeError};

/// How many entries are fetched ahead of the one being applied.
const AHEAD: usize = 8;

/// What to do about a newest entry that is torn. Ours are whole or not there, so such a one comes
/// of a copy that broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    /// Move it out of the log: the writer's way. What it committed is applied again from the bus
    /// or from raw.
    SetAside,
    /// Say so: a reader's way.
    Refuse,
}

/// What stands in the log's folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Entries by version, with the time when each was written.
    pub(super) entries: BTreeMap<i64, DateTime<Utc>>,
    /// Checkpoints, likewise.
    pub(super) checkpoints: BTreeMap<i64, DateTime<Utc>>,
}

/// Loads the newest state; `None` if there is no table.
pub(super) async fn load(
    lake: &Lake,
    table: &Path,
    torn: Torn,
) -> Result<Option<State>, LakeError> {
    let Some(mut state) = load_entries(lake, table, torn).await? else { return Ok(None) };
    deletion::read_all(lake, table, &mut state).await?;
    Ok(Some(state))
}

/// Loads the state at a version; `None` if the log does not tell of it.
pub(super) async fn load_at(
    lake: &Lake,
    table: &Path,
    version: i64,
) -> Result<Option<State>, LakeError> {
    let mut listing = list(lake, table).await?;
    listing.entries.retain(|entry, _| *entry <= version);
    listing.checkpoints.retain(|checkpoint, _| *checkpoint <= version);
    let state = load_listed(lake, table, Torn::Refuse, &listing).await?;
    let Some(mut state) = state.filter(|state| state.version == version) else { return Ok(None) };
    deletion::read_all(lake, table, &mut state).await?;
    Ok(Some(state))
}

/// [`load`], but which rows are deleted is left unread: of nothing but the log anything is asked.
pub(super) async fn load_entries(
    lake: &Lake,
    table: &Path,
    torn: Torn,
) -> Result<Option<State>, LakeError> {
    let listing = list(lake, table).await?;
    load_listed(lake, table, torn, &listing).await
}

async fn load_listed(
    lake: &Lake,
    table: &Path,
    torn: Torn,
    listing: &Listing,
) -> Result<Option<State>, LakeError> {
    let mut state = State::empty();
    for version in listing.checkpoints.keys().rev() {
        // A damaged one is none: the entries from the one before it on are still there.
        match checkpoint::read(lake, table, *version).await {
            Ok(Checkpoint { entry, .. }) => {
                state.apply(*version, entry)?;
                // What was read is not the version's entry.
                (state.checkpoint, state.entry) = (*version, None);
                break;
            }
            Err(LakeError::Corrupt(how)) => tracing::warn!(how, "a checkpoint is passed over"),
            Err(error) => return Err(error),
        }
    }
    let newer: Vec<i64> =
        listing.entries.range(state.version + 1..).map(|(version, _)| *version).collect();
    let newest = newer.last().copied();
    let mut entries = stream::iter(newer)
        .map(|version| async move { Ok((version, fetch(lake, table, version).await?)) })
        .buffered(AHEAD);
    while let Some((version, bytes)) = entries.try_next().await? {
        let bytes = bytes.filter(|_| version == state.version + 1);
        let bytes = bytes.ok_or_else(|| missing(table, state.version + 1))?;
        match Entry::parse(&bytes) {
            Ok(entry) => state.apply(version, entry)?,
            Err(_) if torn == Torn::SetAside && Some(version) == newest => {
                set_aside(lake, table, version).await?;
            }
            Err(how) => return Err(unreadable(table, version, &how)),
        }
    }
    drop(entries);
    if state.version < 0 {
        return Ok(None);
    }
    if state.metadata.schema_string.is_empty() {
        return Err(LakeError::Corrupt(format!(
            "{table}/_delta_log does not say what the table is"
        )));
    }
    if state.entry.is_none() {
        state.entry = hash_at(lake, table, state.version).await?;
    }
    if state.info.is_none() {
        state.info = look_back(lake, table, listing).await?;
    }
    state.number_by_path();
    Ok(Some(state))
}

/// The entry of a version; `None` if there is none.
pub(super) async fn entry_at(
    lake: &Lake,
    table: &Path,
    version: i64,
) -> Result<Option<Entry>, LakeError> {
    let Some(bytes) = fetch(lake, table, version).await? else { return Ok(None) };
    Entry::parse(&bytes).map(Some).map_err(|how| unreadable(table, version, &how))
}

/// A hash of the entry of a version; `None` if there is none.
pub(super) async fn hash_at(
    lake: &Lake,
    table: &Path,
    version: i64,
) -> Result<Option<u128>, LakeError> {
    Ok(fetch(lake, table, version).await?.map(|bytes| entry::hash(&bytes)))
}

/// Writes the entry of `version` if there is none; durable when it returns.
pub(super) async fn append(
    lake: &Lake,
    table: &Path,
    version: i64,
    entry: &[u8],
) -> Result<Created, LakeError> {
    lake.create(&entry_path(table, version), PutPayload::from(entry.to_vec())).await
}

/// Whether an entry of this version stands there.
pub(super) async fn is_there(lake: &Lake, table: &Path, version: i64) -> Result<bool, LakeError> {
    Ok(lake.head(&entry_path(table, version), 1).await?.is_some())
}

/// What was said last, of what a checkpoint covers that is not ours, and so does not keep it: an
/// entry before it tells, or a checkpoint of ours.
async fn look_back(
    lake: &Lake,
    table: &Path,
    listing: &Listing,
) -> Result<Option<serde_json::Value>, LakeError> {
    let Listing { entries, checkpoints } = listing;
    let covered = checkpoints.keys().last().copied().unwrap_or(-1);
    let versions: BTreeSet<i64> =
        entries.range(..=covered).chain(checkpoints).map(|(version, _)| *version).collect();
    for version in versions.into_iter().rev() {
        if entries.contains_key(&version) {
            let Some(entry) = entry_at(lake, table, version).await? else { break };
            if entry.info.is_some() {
                return Ok(entry.info);
            }
        }
        if checkpoints.contains_key(&version) {
            match checkpoint::read(lake, table, version).await {
                Ok(Checkpoint { entry, .. }) if entry.info.is_some() => return Ok(entry.info),
                Ok(_) | Err(LakeError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}

/// What stands in the log's folder.
pub(super) async fn list(lake: &Lake, table: &Path) -> Result<Listing, LakeError> {
    let mut listing = Listing::default();
    for meta in lake.list(&folder(table)).await? {
        let Some((number, suffix)) = meta.location.filename().and_then(|n| n.split_once('.'))
        else {
            continue;
        };
        let Ok(version) = number.parse() else { continue };
        match suffix {
            "json" => drop(listing.entries.insert(version, meta.last_modified)),
            "checkpoint.parquet" => {
                listing.checkpoints.insert(version, meta.last_modified);
            }
            _ => {}
        }
    }
    Ok(listing)
}

async fn fetch(lake: &Lake, table: &Path, version: i64) -> Result<Option<bytes::Bytes>, LakeError> {
    lake.get(&entry_path(table, version)).await
}

async fn set_aside(lake: &Lake, table: &Path, version: i64) -> Result<(), LakeError> {
    let from = entry_path(table, version);
    lake.guard(|| format!("moving {from} aside"))?;
    let now = lake.clock().now().as_millisecond();
    let to = table.clone().join("_torn").join(format!("{version:020}.json.{now}"));
    let moved = lake.store().rename(&from, &to).await;
    moved.map_err(|e| LakeError::store(format!("moving {from} aside"), e))?;
    tracing::warn!(
        %table, version, aside = %to,
        "the newest log entry was torn and is set aside; what it committed is applied again"
    );
    Ok(())
}

/// Where the log of a table stands.
pub(super) fn folder(table: &Path) -> Path {
    table.clone().join("_delta_log")
}

/// Where the entry of a version stands.
pub(super) fn entry_path(table: &Path, version: i64) -> Path {
    folder(table).join(format!("{version:020}.json"))
}

fn missing(table: &Path, version: i64) -> LakeError {
    LakeError::Corrupt(format!("{} is not there, but newer ones are", entry_path(table, version)))
}

fn unreadable(table: &Path, version: i64, how: &str) -> LakeError {
    LakeError::Corrupt(format!(
        "{} cannot be read ({how}); if it is the newest, it was torn in copying: copy it anew, or \
         move it out of the log, and what it committed is applied again",
        entry_path(table, version)
    ))
}

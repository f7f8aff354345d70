//! Which versions of a table can still be read, and when each was committed.
//!
//! The times are those that the commits themselves tell, so that a copied lake keeps them.

use std::collections::BTreeMap;

use object_store::ObjectMeta;
use object_store::path::Path;
use serde::Deserialize;

use crate::{Lake, LakeError};

/// So much of an entry is read first: what a commit says of itself is its first line.
const HEAD: u64 = 8 << 10;

/// The versions of a table that can be read, as the log's folder stood when it was listed.
#[derive(Debug, Clone)]
pub struct Versions {
    lake: Lake,
    /// Ascending, at least one.
    readable: Vec<Version>,
}

/// A version, and the object that its time is read from.
#[derive(Debug, Clone)]
struct Version {
    number: i64,
    source: ObjectMeta,
}

/// What stands in the log's folder under one number.
#[derive(Debug, Default)]
struct Stored {
    entry: Option<ObjectMeta>,
    checkpoint: Option<ObjectMeta>,
}

impl Versions {
    /// The versions of the table at `table`; `None` if there is none.
    pub async fn of(lake: &Lake, table: &Path) -> Result<Option<Self>, LakeError> {
        let listed = lake.list(&table.clone().join("_delta_log")).await?;
        let readable = readable(listed);
        Ok((!readable.is_empty()).then(|| Self { lake: lake.clone(), readable }))
    }

    /// The oldest. It is 0 unless log entries were cleaned away.
    pub fn oldest(&self) -> i64 {
        self.readable.first().map_or(0, |version| version.number)
    }

    /// The newest.
    pub fn newest(&self) -> i64 {
        self.readable.last().map_or(0, |version| version.number)
    }

    /// Whether the version can be read.
    pub fn contains(&self, version: i64) -> bool {
        self.place(version).is_some()
    }

    /// When the version was committed, in milliseconds since 1970; `None` if it cannot be read. Of
    /// one that only a checkpoint is left of, when that was written.
    pub async fn committed_at(&self, version: i64) -> Result<Option<i64>, LakeError> {
        match self.place(version) {
            Some(place) => self.time(&self.readable[place]).await.map(Some),
            None => Ok(None),
        }
    }

    /// The newest version committed at `millis` since 1970 or before; `None` if the oldest came
    /// later. Reads few entries however many there are, for which it takes times to ascend: of
    /// commits on both sides of a clock that was set back it finds one, not always the newest.
    pub async fn newest_at(&self, millis: i64) -> Result<Option<i64>, LakeError> {
        let (mut not_later, mut later) = (0, self.readable.len());
        while not_later < later {
            let middle = not_later.midpoint(later);
            match self.time(&self.readable[middle]).await? <= millis {
                true => not_later = middle + 1,
                false => later = middle,
            }
        }
        Ok(self.readable[..not_later].last().map(|version| version.number))
    }

    fn place(&self, version: i64) -> Option<usize> {
        self.readable.binary_search_by_key(&version, |known| known.number).ok()
    }

    async fn time(&self, version: &Version) -> Result<i64, LakeError> {
        let path = &version.source.location;
        let written = version.source.last_modified.timestamp_millis();
        if path.extension() != Some("json") {
            return Ok(written);
        }
        let gone = || LakeError::Unavailable {
            what: format!("reading {path}"),
            source: "it was cleaned away meanwhile".into(),
        };
        let head = self.lake.head(path, HEAD).await?.ok_or_else(gone)?;
        if let Some(time) = told(&head) {
            return Ok(time);
        }
        let all = self.lake.get(path).await?.ok_or_else(gone)?;
        Ok(told(&all).unwrap_or(written))
    }
}

/// A version can be read if there is a checkpoint of it, or its entry and the version before it.
fn readable(listed: Vec<ObjectMeta>) -> Vec<Version> {
    let mut stored: BTreeMap<i64, Stored> = BTreeMap::new();
    for meta in listed {
        let name = meta.location.filename().and_then(|name| name.split_once('.'));
        let Some((number, suffix)) = name else { continue };
        let Ok(number) = number.parse() else { continue };
        match suffix {
            "json" => stored.entry(number).or_default().entry = Some(meta),
            "checkpoint.parquet" => stored.entry(number).or_default().checkpoint = Some(meta),
            _ => {}
        }
    }
    let mut readable = Vec::with_capacity(stored.len());
    let mut before = Some(-1);
    for (number, Stored { entry, checkpoint }) in stored {
        let follows = before.is_some_and(|before| before + 1 == number) && entry.is_some();
        before = (follows || checkpoint.is_some()).then_some(number);
        if let Some((_, source)) = before.zip(entry.or(checkpoint)) {
            readable.push(Version { number, source });
        }
    }
    readable
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    commit_info: Option<Told>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    timestamp: Option<i64>,
    in_commit_timestamp: Option<i64>,
}

/// The time that an entry, or the beginning of one, tells.
fn told(entry: &[u8]) -> Option<i64> {
    let mut lines = entry.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.find_map(|line| {
        let told = serde_json::from_slice::<Line>(line).ok()?.commit_info?;
        told.in_commit_timestamp.or(told.timestamp)
    })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn numbers(names: &[&str]) -> Vec<i64> {
        let meta = |name: &&str| ObjectMeta {
            location: Path::from(format!("t/_delta_log/{name}")),
            last_modified: DateTime::<Utc>::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        readable(names.iter().map(meta).collect()).iter().map(|version| version.number).collect()
    }

    #[test]
    fn what_can_be_read_begins_at_the_first_entry_or_at_a_checkpoint() {
        assert_eq!(numbers(&["0.json", "1.json", "2.json"]), [0, 1, 2]);
        assert_eq!(numbers(&["2.json", "3.json", "3.checkpoint.parquet", "4.json"]), [3, 4]);
        assert_eq!(numbers(&["3.checkpoint.parquet", "4.json"]), [3, 4]);
        assert_eq!(numbers(&["0.json", "2.json", "_last_checkpoint", "0.crc"]), [0]);
        assert_eq!(numbers(&["5.json"]), [0i64; 0]);
    }

    #[test]
    fn the_time_is_the_commits_own_even_if_the_entry_is_cut_behind_it() {
        let entry = br#"{"commitInfo":{"operation":"MERGE","timestamp":5}}
{"add":{"path":"#;
        assert_eq!(told(entry), Some(5));
        assert_eq!(told(br#"{"commitInfo":{"timestamp":5,"inCommitTimestamp":6}}"#), Some(6));
        assert_eq!(told(&entry[..20]), None);
    }
}

//! The side files that count: the table names the last one, and each names the one before it.

use std::collections::BTreeSet;

use alluvium_lake::{Lake, LakeError, Table};
use object_store::path::Path;
use serde::Deserialize;

use super::hidden;

/// So many are looked at in one step, one after the other: batches wait meanwhile.
const STEP: usize = 100;

/// The files of a table's chain, as far as they are known.
#[derive(Default)]
pub(super) struct Chain {
    /// Their names. Each file before one that is among them is too. Where a table's chain branched off
    /// from an earlier one, files of that one's end may be among them.
    known: BTreeSet<i64>,
    walk: Option<Walk>,
}

/// A walk back to what is known.
struct Walk {
    next: Option<i64>,
    found: Vec<i64>,
}

impl Chain {
    /// Whether an object is one of the files that are known, of the table at `table`.
    pub(super) fn has(&self, table: &Path, object: &Path) -> bool {
        let name = hidden::name_in(object).filter(|name| self.known.contains(name));
        name.is_some_and(|name| hidden::path(table, name) == *object)
    }

    /// Looks at further files, some of them, or `all`. Whether the table's whole chain is known now.
    pub(super) async fn look(
        &mut self,
        lake: &Lake,
        table: &Table,
        all: bool,
    ) -> Result<bool, LakeError> {
        let Some(last) = table.txn(hidden::TXN) else {
            *self = Self::default();
            return Ok(true);
        };
        let mut left = if all { usize::MAX } else { STEP };
        while !self.known.contains(&last) {
            let walk = self.walk.take();
            let mut walk = walk.unwrap_or(Walk { next: Some(last), found: Vec::new() });
            let next = walk.next.filter(|name| !self.known.contains(name));
            let Some(name) = next else {
                // What it did not meet on its way to the beginning is of another chain, whose table
                // has been replaced.
                if walk.next.is_none() {
                    self.known.clear();
                }
                self.known.extend(walk.found);
                continue;
            };
            if left == 0 {
                self.walk = Some(walk);
                return Ok(false);
            }
            left -= 1;
            match before(lake, &hidden::path(table.path(), name)).await {
                Ok(before) => {
                    walk.next = before;
                    walk.found.push(name);
                    self.walk = Some(walk);
                }
                // Another chain may have taken its place: the next step begins anew.
                Err(error @ LakeError::Corrupt(_)) => return Err(error),
                Err(error) => {
                    self.walk = Some(walk);
                    return Err(error);
                }
            }
        }
        Ok(true)
    }
}

/// The line that a side file begins with, as far as it tells of the one before it.
#[derive(Deserialize)]
struct Header {
    previous: Option<i64>,
}

/// The name of the file before the one at `path`.
async fn before(lake: &Lake, path: &Path) -> Result<Option<i64>, LakeError> {
    let damaged = |what: &str| LakeError::Corrupt(format!("side file {path}: {what}"));
    let bytes = lake.get(path).await?.ok_or_else(|| damaged("it is not there"))?;
    let header = header(&bytes).ok_or_else(|| damaged("it has no header"))?;
    Ok(header.previous)
}

fn header(bytes: &[u8]) -> Option<Header> {
    use std::io::{BufRead, BufReader};
    let decoder = zstd::stream::read::Decoder::new(bytes).ok()?;
    let mut line = String::new();
    BufReader::new(decoder).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

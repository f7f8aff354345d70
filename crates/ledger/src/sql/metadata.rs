//! Metadata and their history.

use std::collections::BTreeMap;

use jiff::Timestamp;

use alluvium_model::{EntitySpec, SystemSpec};

use super::fields::Fields;
use super::statement::statement;
use super::{SqlLedger, Tx};
use crate::metadata::{MetadataEntry, MetadataKind, MetadataVersion, completes, masked};
use crate::{LedgerError, time};

const LIST: &str = include_str!("../../queries/metadata_list.sql");
const HISTORY: &str = include_str!("../../queries/metadata_history.sql");
const END: &str = include_str!("../../queries/metadata_end.sql");
const COMPLETE: &str = include_str!("../../queries/metadata_complete.sql");
const REOPEN: &str = include_str!("../../queries/metadata_reopen.sql");
const REVISED: &str = include_str!("../../queries/metadata_revised.sql");
const BEGIN: &str = include_str!("../../queries/metadata_begin.sql");

const DOING: &str = "store metadata";

pub(super) async fn store(
    ledger: &SqlLedger,
    systems: &[SystemSpec],
    entities: &[EntitySpec],
    at: Timestamp,
) -> Result<(), LedgerError> {
    let specs = masked(systems, entities).map_err(|error| LedgerError::Bug {
        doing: DOING,
        source: sqlx::Error::Encode(Box::new(error)),
    })?;
    let mut tx = ledger.begin(DOING).await?;
    let mut known = known(&mut tx).await?;
    let mut revised = false;
    for (kind, name, spec) in specs {
        let before = known.remove(&(kind, name.clone()));
        revised |= before.as_ref() != Some(&spec);
        put(&mut tx, Put { kind, name: &name, spec: &spec }, before.as_deref(), at).await?;
    }
    for (kind, name) in known.into_keys() {
        end(&mut tx, kind, &name, at).await?;
        revised = true;
    }
    if revised {
        statement(REVISED).execute(&mut tx, DOING).await?;
    }
    tx.commit(DOING).await
}

/// What is to hold from now on.
#[derive(Clone, Copy)]
struct Put<'p> {
    kind: MetadataKind,
    name: &'p str,
    spec: &'p str,
}

/// Begins a version, if it is one. What a process declares at its start and a source completes, or
/// finds again, at the run after is one version: no run has ended by the other.
async fn put(
    tx: &mut Tx,
    put: Put<'_>,
    before: Option<&str>,
    at: Timestamp,
) -> Result<(), LedgerError> {
    match before {
        Some(before) if before == put.spec => return Ok(()),
        Some(before) if completes(put.spec, before) && mend(tx, COMPLETE, put).await? => {
            return Ok(());
        }
        Some(_) => end(tx, put.kind, put.name, at).await?,
        None if mend(tx, REOPEN, put).await? => return Ok(()),
        None => {}
    }
    let begun = statement(BEGIN)
        .bind(put.kind.as_str())
        .bind(put.name)
        .bind(put.spec)
        .bind(time::text(at))
        .execute(&mut *tx, DOING)
        .await;
    begun.map(drop)
}

/// Alters the latest version in place; whether that was possible.
async fn mend(tx: &mut Tx, sql: &'static str, put: Put<'_>) -> Result<bool, LedgerError> {
    let system = put.name.split_once('.').map_or(put.name, |(system, _)| system);
    let done = statement(sql)
        .bind(put.kind.as_str())
        .bind(put.name)
        .bind(put.spec)
        .bind(system)
        .execute(&mut *tx, DOING)
        .await?;
    Ok(done > 0)
}

pub(super) async fn list(ledger: &SqlLedger) -> Result<Vec<MetadataEntry>, LedgerError> {
    statement(LIST)
        .fetch_all(ledger.readers(), "read metadata")
        .await?
        .iter()
        .map(|row| {
            let row = Fields(row);
            Ok(MetadataEntry {
                kind: row.word("kind", MetadataKind::parse)?,
                name: row.get("name")?,
                spec: row.json("spec")?,
                since: row.time("since")?,
            })
        })
        .collect()
}

pub(super) async fn history(
    ledger: &SqlLedger,
    kind: MetadataKind,
    name: &str,
) -> Result<Vec<MetadataVersion>, LedgerError> {
    statement(HISTORY)
        .bind(kind.as_str())
        .bind(name)
        .fetch_all(ledger.readers(), "read the history of metadata")
        .await?
        .iter()
        .map(|row| {
            let row = Fields(row);
            Ok(MetadataVersion {
                spec: row.json("spec")?,
                valid_from: row.time("valid_from")?,
                valid_to: row.time_if_any("valid_to")?,
            })
        })
        .collect()
}

async fn known(tx: &mut Tx) -> Result<BTreeMap<(MetadataKind, String), String>, LedgerError> {
    statement(LIST)
        .fetch_all(&mut *tx, DOING)
        .await?
        .iter()
        .map(|row| {
            let row = Fields(row);
            let kind = row.word("kind", MetadataKind::parse)?;
            Ok(((kind, row.get("name")?), row.get("spec")?))
        })
        .collect()
}

async fn end(
    tx: &mut Tx,
    kind: MetadataKind,
    name: &str,
    at: Timestamp,
) -> Result<(), LedgerError> {
    statement(END)
        .bind(kind.as_str())
        .bind(name)
        .bind(time::text(at))
        .execute(&mut *tx, DOING)
        .await?;
    Ok(())
}

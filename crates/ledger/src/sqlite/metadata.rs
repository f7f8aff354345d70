//! Metadata and their history.

use std::collections::BTreeMap;

use jiff::Timestamp;

use alluvium_model::{EntitySpec, SystemSpec};

use super::failure::failed;
use super::fields::Fields;
use super::{SqliteLedger, Tx};
use crate::metadata::{MetadataEntry, MetadataKind, MetadataVersion, masked};
use crate::{LedgerError, time};

const LIST: &str = include_str!("../../queries/sqlite/metadata_list.sql");
const HISTORY: &str = include_str!("../../queries/sqlite/metadata_history.sql");
const END: &str = include_str!("../../queries/sqlite/metadata_end.sql");
const BEGIN: &str = include_str!("../../queries/sqlite/metadata_begin.sql");

const DOING: &str = "store metadata";

pub(super) async fn store(
    ledger: &SqliteLedger,
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
    for (kind, name, spec) in specs {
        let before = known.remove(&(kind, name.clone()));
        if before.as_ref() == Some(&spec) {
            continue;
        }
        if before.is_some() {
            end(&mut tx, kind, &name, at).await?;
        }
        sqlx::query(BEGIN)
            .bind(kind.as_str())
            .bind(&name)
            .bind(&spec)
            .bind(time::text(at))
            .execute(&mut *tx)
            .await
            .map_err(failed(DOING))?;
    }
    for (kind, name) in known.into_keys() {
        end(&mut tx, kind, &name, at).await?;
    }
    tx.commit().await.map_err(failed(DOING))
}

pub(super) async fn list(ledger: &SqliteLedger) -> Result<Vec<MetadataEntry>, LedgerError> {
    sqlx::query(LIST)
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("read metadata"))?
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
    ledger: &SqliteLedger,
    kind: MetadataKind,
    name: &str,
) -> Result<Vec<MetadataVersion>, LedgerError> {
    sqlx::query(HISTORY)
        .bind(kind.as_str())
        .bind(name)
        .fetch_all(&ledger.readers)
        .await
        .map_err(failed("read the history of metadata"))?
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
    sqlx::query(LIST)
        .fetch_all(&mut **tx)
        .await
        .map_err(failed(DOING))?
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
    sqlx::query(END)
        .bind(kind.as_str())
        .bind(name)
        .bind(time::text(at))
        .execute(&mut **tx)
        .await
        .map_err(failed(DOING))?;
    Ok(())
}

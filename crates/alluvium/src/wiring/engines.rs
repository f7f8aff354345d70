//! The engines that the settings name: the lake, the ledger, the key index.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_config::{BucketCredentials, BucketPlace, LakePlace, Settings};
use alluvium_lake::index::{IndexError, IndexStore};
use alluvium_lake::{Credentials, Lake, S3Settings};
use alluvium_ledger::{Ledger, LedgerTables, Place, Server, SqlLedger};
use alluvium_model::SystemClock;
use anyhow::Context;

/// The lake, for who only reads.
pub(crate) fn lake(settings: &Settings) -> anyhow::Result<Lake> {
    let clock = Arc::new(SystemClock);
    Ok(match settings.lake_place()? {
        LakePlace::Folder(folder) => Lake::local(&folder, clock)?,
        LakePlace::Bucket(place) => Lake::s3(&s3_settings(settings, *place)?, clock)?,
    })
}

/// The lake, for who writes: its store has proved to be fit.
pub(crate) async fn lake_to_write(settings: &Settings) -> anyhow::Result<Lake> {
    Ok(lake(settings)?.fit_to_write().await?)
}

fn s3_settings(settings: &Settings, place: BucketPlace) -> anyhow::Result<S3Settings> {
    let of = &settings.lake.s3;
    let credentials = match place.credentials {
        BucketCredentials::Keys(id, secret, token) => Credentials::Keys { id, secret, token },
        BucketCredentials::Machine(told) => Credentials::Machine(told),
    };
    Ok(S3Settings {
        bucket: place.bucket,
        prefix: place.prefix,
        endpoint: place.endpoint.as_deref().map(str::parse).transpose()?,
        region: place.region,
        path_style: of.path_style,
        allow_http: of.allow_http,
        credentials,
        request_time: of.request_time.duration(),
        retry_time: of.retry_time.duration(),
    })
}

/// Where tables are made anew: the indexes of their shadows.
pub(crate) fn scratch(settings: &Settings) -> PathBuf {
    settings.data_path().join("shadow")
}

/// The ledger, for who reads and decides.
pub(crate) async fn ledger(settings: &Settings) -> anyhow::Result<Arc<dyn Ledger>> {
    let place = ledger_place(settings)?;
    if let Place::File(path) = &place {
        make_folder(path.parent())?;
    }
    Ok(Arc::new(SqlLedger::open(place, Arc::new(SystemClock)).await?))
}

/// The ledger's tables, for who asks in SQL.
pub(crate) fn ledger_tables(settings: &Settings) -> anyhow::Result<LedgerTables> {
    Ok(LedgerTables::at(ledger_place(settings)?))
}

fn ledger_place(settings: &Settings) -> anyhow::Result<Place> {
    let of = &settings.ledger;
    let Some(url) = &of.url else { return Ok(settings.ledger_path().into()) };
    let server = Server::new(url.as_str(), settings.ledger_password()?);
    let (max_connections, statement_time) = (of.max_connections, of.statement_time.duration());
    // A worker prolongs its leases several times before half of them is over, and may have to wait for
    // one that hangs.
    let lease = settings.runtime.lease_time.duration();
    let hang_time = (lease / 8).clamp(Duration::from_secs(1), Duration::from_secs(2));
    Ok(Server { max_connections, statement_time, hang_time, ..server }.into())
}

/// Makes a folder and those above it.
pub(super) fn make_folder(path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// The key index, which one process has open.
pub(super) fn open_index(settings: &Settings) -> anyhow::Result<IndexStore> {
    IndexStore::open(&settings.data_path().join("index")).map_err(|error| match error {
        IndexError::Locked(_) => anyhow::anyhow!(
            "another alluvium process uses this data folder: {}; stop it, or give this command a data \
             folder of its own: `--set data=FOLDER`",
            settings.data_path().display()
        ),
        other => other.into(),
    })
}

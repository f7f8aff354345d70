//! `alluvium history`: all versions of a row.

use alluvium_config::Settings;

use crate::cli::{Cli, History};
use crate::exit::{Exit, UsageError};
use crate::wiring;

/// Shows the versions of a key, the oldest first.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &History) -> anyhow::Result<Exit> {
    let metadata = wiring::metadata(settings)?;
    let keys = match metadata.entity(&args.entity).map(|entity| entity.keys.clone()) {
        Some(keys) if !keys.is_empty() => keys,
        _ => discovered_keys(settings, args).await?,
    };
    let query = super::query::open(settings, None)?.at(super::query::moment(&args.moment));
    let rows = query.history(&args.entity, &keys, &args.key).await?;
    super::query::write(cli, rows).await
}

/// The keys of an entity that its source described, as the ledger keeps them.
async fn discovered_keys(settings: &Settings, args: &History) -> anyhow::Result<Vec<String>> {
    let ledger = wiring::ledger(settings).await?;
    let name = args.entity.to_string();
    let entries = ledger.metadata().await?;
    let keys = entries
        .iter()
        .find(|entry| entry.name == name)
        .and_then(|entry| serde_json::from_value(entry.spec.get("keys")?.clone()).ok());
    keys.filter(|keys: &Vec<String>| !keys.is_empty()).ok_or_else(|| {
        UsageError(format!("the keys of {name} are not known: is it an entity?")).into()
    })
}

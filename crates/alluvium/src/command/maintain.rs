//! `alluvium maintain`: all the upkeep that `alluvium run` does by and by, to its end.

use alluvium_config::Settings;
use alluvium_model::{EntitySpec, Layer, Maintained, Upkeep};
use serde::Serialize;

use super::known::{Known, known};
use super::progress::Bar;
use crate::cli::{Cli, Maintain};
use crate::exit::{Exit, UsageError};
use crate::output;
use crate::wiring::{self, Wired};

#[derive(Serialize)]
struct Row {
    entity: String,
    layer: String,
    #[serde(flatten)]
    done: Maintained,
}

/// Looks after the tables of the entities meant. Where workers share the work, the one that has a
/// table gives it back for so long.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Maintain) -> anyhow::Result<Exit> {
    let wired = wiring::wire(settings, wiring::metadata(settings)?).await?;
    let done = all(cli, settings, args, &wired).await;
    wired.bus.close().await;
    wired.ledger.close().await;
    output::rows(cli.output, &done?)?;
    Ok(Exit::Done)
}

async fn all(
    cli: &Cli,
    settings: &Settings,
    args: &Maintain,
    wired: &Wired,
) -> anyhow::Result<Vec<Row>> {
    let mut meant = known(settings, wired.ledger.as_ref()).await?;
    meant.retain(|known| args.target.as_ref().is_none_or(|t| t.includes(&known.spec.id())));
    if meant.is_empty() && args.target.is_some() {
        return Err(UsageError("there is no such system or entity".to_owned()).into());
    }
    let tables: Vec<(EntitySpec, String, Layer)> = meant.into_iter().flat_map(tables_of).collect();
    let bar = Bar::new(cli.quiet, "maintaining");
    let mut rows = Vec::new();
    for ((entity, timezone, layer), at) in tables.iter().zip(0..) {
        bar.set(at, tables.len() as u64);
        bar.say(&format!("maintaining {layer} of {}", entity.id()));
        // Nothing has landed: nothing is there to look after, and nothing is to be made.
        let totals = wired.ledger.totals(&entity.id()).await?;
        if !totals.iter().any(|total| total.layer == *layer) {
            continue;
        }
        let done = one(wired, entity, timezone, *layer).await?;
        rows.push(Row { entity: entity.id().to_string(), layer: layer.to_string(), done });
    }
    bar.finish();
    Ok(rows)
}

async fn one(
    wired: &Wired,
    entity: &EntitySpec,
    timezone: &str,
    layer: Layer,
) -> anyhow::Result<Maintained> {
    let claim = wired.claim(&entity.id(), &[layer]).await?;
    let owner = claim.as_ref().and_then(|claim| claim.owner(layer));
    let done = match wired.platform.stages.open(entity, timezone, layer, owner).await {
        Ok(mut stage) => stage.maintain(Upkeep::All).await,
        Err(error) => Err(error),
    };
    if let Some(claim) = claim {
        claim.give_back().await;
    }
    Ok(done?)
}

/// The layers of an entity that keep a table, with the zone of its system.
fn tables_of(known: Known) -> Vec<(EntitySpec, String, Layer)> {
    let Known { spec, timezone } = known;
    let (bronze, silver) = (spec.layers.bronze.enabled, spec.layers.silver.enabled);
    let layers = [(Layer::Bronze, bronze), (Layer::Silver, silver)].into_iter();
    let kept = layers.filter(|(_, enabled)| *enabled);
    kept.map(|(layer, _)| (spec.clone(), timezone.clone(), layer)).collect()
}

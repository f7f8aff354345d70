//! `alluvium maintain`: all the upkeep that `alluvium run` does by and by, to its end.

use alluvium_config::Settings;
use alluvium_model::{EntitySpec, Layer, Maintained, Upkeep};
use alluvium_runtime::Stages;
use serde::Serialize;

use super::known::{Known, known};
use super::progress::Bar;
use crate::cli::{Cli, Maintain};
use crate::exit::{Exit, UsageError};
use crate::{output, wiring};

#[derive(Serialize)]
struct Row {
    entity: String,
    layer: String,
    #[serde(flatten)]
    done: Maintained,
}

/// Looks after the tables of the entities meant.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Maintain) -> anyhow::Result<Exit> {
    let ledger = wiring::ledger(settings).await?;
    let mut meant = known(settings, ledger.as_ref()).await?;
    meant.retain(|known| args.target.as_ref().is_none_or(|t| t.includes(&known.spec.id())));
    if meant.is_empty() && args.target.is_some() {
        return Err(UsageError("there is no such system or entity".to_owned()).into());
    }
    let tables: Vec<(EntitySpec, String, Layer)> = meant.into_iter().flat_map(tables_of).collect();
    let stages = wiring::stages(settings).await?;
    let bar = Bar::new(cli.quiet, "maintaining");
    let mut rows = Vec::new();
    for ((entity, timezone, layer), at) in tables.iter().zip(0..) {
        bar.set(at, tables.len() as u64);
        bar.say(&format!("maintaining {layer} of {}", entity.id()));
        let mut stage = stages.open(entity, timezone, *layer, None).await?;
        // Nothing has landed: nothing is there to look after, and nothing is to be made.
        if !ledger.totals(&entity.id()).await?.iter().any(|total| total.layer == *layer) {
            continue;
        }
        let done = stage.maintain(Upkeep::All).await?;
        rows.push(Row { entity: entity.id().to_string(), layer: layer.to_string(), done });
    }
    bar.finish();
    output::rows(cli.output, &rows)?;
    Ok(Exit::Done)
}

/// The layers of an entity that keep a table, with the zone of its system.
fn tables_of(known: Known) -> Vec<(EntitySpec, String, Layer)> {
    let Known { spec, timezone } = known;
    let (bronze, silver) = (spec.layers.bronze.enabled, spec.layers.silver.enabled);
    let layers = [(Layer::Bronze, bronze), (Layer::Silver, silver)].into_iter();
    let kept = layers.filter(|(_, enabled)| *enabled);
    kept.map(|(layer, _)| (spec.clone(), timezone.clone(), layer)).collect()
}

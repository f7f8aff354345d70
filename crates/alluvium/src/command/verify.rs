//! `alluvium verify`: proof that nothing was lost or counted twice.

use alluvium_config::Settings;
use alluvium_ledger::{LayerTotals, Ledger};
use alluvium_model::{EntityId, EntitySpec, Epoch, Layer};
use serde::Serialize;

use super::progress::Bar;
use crate::cli::{Cli, Verify};
use crate::exit::{Exit, UsageError};
use crate::{output, wiring};

#[derive(Serialize)]
pub(crate) struct Row {
    entity: String,
    layer: String,
    check: String,
    pub(crate) holds: bool,
    detail: String,
}

/// Verifies entities against raw, and the ledger against itself.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Verify) -> anyhow::Result<Exit> {
    let rows = rows(cli, settings, args).await?;
    output::rows(cli.output, &rows)?;
    let wrong = rows.iter().filter(|row| !row.holds).count();
    if !cli.quiet {
        eprintln!("{} checks, {wrong} do not hold", rows.len());
    }
    Ok(Exit::of(wrong == 0))
}

/// The checks of the entities meant.
pub(crate) async fn rows(
    cli: &Cli,
    settings: &Settings,
    args: &Verify,
) -> anyhow::Result<Vec<Row>> {
    let lake = wiring::lake(settings)?;
    let ledger = wiring::ledger(settings).await?;
    let entities = entities(settings, ledger.as_ref(), args).await?;
    let mut rows = Vec::new();
    for entity in entities {
        let id = entity.id();
        let bar = Bar::new(cli.quiet, &format!("verifying {id}"));
        let found =
            alluvium_layers::verify::verify(&lake, &entity, |done, of| bar.set(done, of)).await?;
        bar.finish();
        rows.extend(ends(&id, &found.reached, &ledger.totals(&id).await?));
        rows.extend(found.checks.into_iter().map(|check| Row {
            entity: id.to_string(),
            layer: check.layer.to_string(),
            check: check.check.to_owned(),
            holds: check.holds,
            detail: check.detail,
        }));
        let findings = ledger.conservation(&id).await?;
        rows.push(Row {
            entity: id.to_string(),
            layer: "ledger".to_owned(),
            check: "conservation".to_owned(),
            holds: findings.is_empty(),
            detail: findings.first().map(|f| f.to_string()).unwrap_or_default(),
        });
    }
    Ok(rows)
}

/// What the ledger counted must still be in the lake: a table or the newest raw objects may have
/// been removed, of which nothing in the lake would tell.
fn ends(id: &EntityId, reached: &[(Layer, Epoch, u64)], totals: &[LayerTotals]) -> Vec<Row> {
    let newest = totals.iter().map(|total| total.epoch).max();
    let counted = totals.iter().filter(|total| Some(total.epoch) == newest);
    let row = |total: &LayerTotals| {
        let there = reached
            .iter()
            .find(|(layer, epoch, _)| *layer == total.layer && *epoch == total.epoch)
            .map_or(0, |(.., offset)| *offset);
        Row {
            entity: id.to_string(),
            layer: total.layer.to_string(),
            check: "all that was counted".to_owned(),
            holds: there >= total.offset,
            detail: format!("the lake is at offset {there}, the ledger at {}", total.offset),
        }
    };
    counted.map(row).collect()
}

/// The entities meant, as the ledger knows them: with what their sources described.
async fn entities(
    settings: &Settings,
    ledger: &dyn Ledger,
    args: &Verify,
) -> anyhow::Result<Vec<EntitySpec>> {
    let mut entities = wiring::metadata(settings)?.entities;
    for entry in ledger.metadata().await? {
        let Ok(known) = serde_json::from_value::<EntitySpec>(entry.spec) else { continue };
        if !entities.iter().any(|entity| entity.id() == known.id()) {
            entities.push(known);
        }
    }
    if let Some(target) = &args.target {
        entities.retain(|entity| target.includes(&entity.id()));
        if entities.is_empty() {
            return Err(UsageError("there is no such system or entity".to_owned()).into());
        }
    }
    Ok(entities)
}

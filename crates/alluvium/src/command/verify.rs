//! `alluvium verify`: proof that nothing was lost or counted twice, and with `--rebuild` that silver
//! is what raw makes it.

use std::time::Duration;

use alluvium_config::Settings;
use alluvium_layers::verify::{
    Check, Difference, DifferenceKind, RebuildOptions, Rebuilt, Step, verify_rebuild,
};
use alluvium_ledger::{LayerStop, LayerTotals};
use alluvium_model::{EntityId, EntitySpec, Epoch, Layer};
use serde::Serialize;

use super::known::{Known, known};
use super::progress::Bar;
use crate::cli::{Cli, Format, Verify};
use crate::exit::{Exit, UsageError};
use crate::{output, wiring};

/// Raw lands what lingers within its time, and then a little is needed to write it.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Serialize)]
pub(crate) struct Row {
    entity: String,
    layer: String,
    check: String,
    pub(crate) holds: bool,
    detail: String,
    /// What a rebuild showed, where rows may be nested. People are shown it as a table of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

/// A difference, for people.
#[derive(Serialize)]
struct Shown {
    entity: String,
    found: &'static str,
    key: String,
    valid_from: String,
    column: Option<String>,
    table: Option<String>,
    rebuilt: Option<String>,
}

/// Verifies entities against raw, and the ledger against itself.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Verify) -> anyhow::Result<Exit> {
    let mut rows = rows(cli, settings, args).await?;
    let mut shown = Vec::new();
    if matches!(cli.output, Format::Table | Format::Csv) {
        for row in &mut rows {
            let differences = std::mem::take(&mut row.differences).into_iter();
            shown.extend(differences.map(|difference| Shown::of(&row.entity, difference)));
        }
    }
    output::rows(cli.output, &rows)?;
    if cli.output == Format::Table {
        output::rows(cli.output, &shown)?;
    }
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
    let lake = match args.rebuild {
        true => wiring::lake_to_write(settings).await?,
        false => wiring::lake(settings)?,
    };
    let ledger = wiring::ledger(settings).await?;
    let mut entities = known(settings, ledger.as_ref()).await?;
    if let Some(target) = &args.target {
        entities.retain(|known| target.includes(&known.spec.id()));
        if entities.is_empty() {
            return Err(UsageError("there is no such system or entity".to_owned()).into());
        }
    }
    let stops = ledger.stops().await?;
    let mut rows = Vec::new();
    for known in entities {
        let (id, entity) = (known.spec.id(), &known.spec);
        let bar = Bar::new(cli.quiet, &format!("verifying {id}"));
        let found =
            alluvium_layers::verify::verify(&lake, entity, |done, of| bar.set(done, of)).await?;
        bar.finish();
        rows.extend(ends(&id, &found.reached, &ledger.totals(&id).await?));
        rows.extend(found.checks.into_iter().map(|check| Row::of(&id, check)));
        let stopped = stops.iter().filter(|stop| stop.entity == id && has(entity, stop.layer));
        rows.extend(stopped.map(Row::stopped));
        if args.rebuild {
            rows.extend(rebuild(cli, settings, args, &lake, &known).await?);
        }
        let findings = ledger.conservation(&id).await?;
        rows.push(Row {
            entity: id.to_string(),
            layer: "ledger".to_owned(),
            check: "conservation".to_owned(),
            holds: findings.is_empty(),
            detail: findings.first().map(|f| f.to_string()).unwrap_or_default(),
            differences: Vec::new(),
        });
    }
    Ok(rows)
}

/// Makes silver anew beside its table, and compares.
async fn rebuild(
    cli: &Cli,
    settings: &Settings,
    args: &Verify,
    lake: &alluvium_lake::Lake,
    known: &Known,
) -> anyhow::Result<Vec<Row>> {
    let id = known.spec.id();
    let scratch = wiring::scratch(settings);
    let options = RebuildOptions {
        timezone: &known.timezone,
        scratch: &scratch,
        limit: args.limit,
        patience: settings.layers.raw_linger_time.duration() + PATIENCE,
    };
    let bar = Bar::new(cli.quiet, &format!("replaying {id}"));
    let mut step = Step::Replay;
    let mut progress = |now: Step, done, of| {
        if now != step {
            step = now;
            bar.say(&match now {
                Step::Replay => format!("replaying {id}"),
                Step::WaitForRaw => format!("waiting until raw of {id} has landed"),
                Step::Compare => format!("comparing {id}"),
            });
        }
        bar.set(done, of);
    };
    let rebuilt = verify_rebuild(lake, &known.spec, options, &mut progress).await;
    bar.finish();
    let Rebuilt { checks, differences } = rebuilt?;
    let mut rows: Vec<Row> = checks.into_iter().map(|check| Row::of(&id, check)).collect();
    if let Some(last) = rows.last_mut() {
        last.differences = differences;
    }
    Ok(rows)
}

impl Row {
    fn of(id: &EntityId, check: Check) -> Self {
        Self {
            entity: id.to_string(),
            layer: check.layer.to_string(),
            check: check.check.to_owned(),
            holds: check.holds,
            detail: check.detail,
            differences: Vec::new(),
        }
    }

    /// The layer has stopped, as the last process that ran it told.
    fn stopped(stop: &LayerStop) -> Self {
        Self {
            entity: stop.entity.to_string(),
            layer: stop.layer.to_string(),
            check: "at work".to_owned(),
            holds: false,
            detail: format!("it stopped at {}: {}", stop.stopped_at, stop.reason),
            differences: Vec::new(),
        }
    }
}

/// Whether the layer is one of those that the entity has.
fn has(entity: &EntitySpec, layer: Layer) -> bool {
    match layer {
        Layer::Raw => true,
        Layer::Bronze => entity.layers.bronze.enabled,
        Layer::Silver => entity.layers.silver.enabled,
    }
}

impl Shown {
    fn of(entity: &str, difference: Difference) -> Self {
        let found = match difference.kind {
            DifferenceKind::OnlyInTable => "only in the table",
            DifferenceKind::OnlyInRebuild => "only in the rebuild",
            DifferenceKind::Column => "another value",
        };
        let Difference { key, valid_from, column, table, rebuilt, .. } = difference;
        Self { entity: entity.to_owned(), found, key, valid_from, column, table, rebuilt }
    }
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
            differences: Vec::new(),
        }
    };
    counted.map(row).collect()
}

//! What the demo shows at its end: what landed, one history, the proof, and where to look next.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use alluvium_config::Settings;
use alluvium_ledger::LayerTotals;
use alluvium_model::EntityId;
use alluvium_query::Query;
use anyhow::Context;
use arrow::util::display::array_value_to_string;
use serde::Serialize;

use crate::cli::{Cli, Format, Verify};
use crate::command::{query, verify};
use crate::{output, wiring};

/// Shows it all on stdout; whether everything that was checked holds.
pub(super) async fn show(cli: &Cli, settings: &Settings, folder: &Path) -> anyhow::Result<bool> {
    let landed = landed(settings).await?;
    let lake = query::open(settings, None)?;
    let id = most_versions(&lake).await?;
    let versions = lake.sql(&versions(&id)).await?;
    let checks = verify::rows(cli, settings, &Verify::default()).await?;
    if cli.output == Format::Table {
        print(&"\nWhat became of the records, by entity and layer")?;
        output::rows(cli.output, &landed)?;
        print(&format!("\nThe versions of earthquake {id} in silver"))?;
        query::write(cli, versions).await?;
        print(&"\nNothing was lost or counted twice")?;
        output::rows(cli.output, &checks)?;
        print(&next_steps(folder, &id))?;
    } else {
        let landed = ("landed", output::objects(&landed)?);
        let versions = ("versions", query::objects(versions).await?);
        output::sections(
            cli.output,
            vec![landed, versions, ("checks", output::objects(&checks)?)],
        )?;
    }
    let failed = checks.iter().filter(|check| !check.holds).count();
    if failed > 0 {
        eprintln!("{failed} of {} checks do not hold", checks.len());
    }
    Ok(failed == 0)
}

#[derive(Serialize)]
struct Landed {
    entity: String,
    layer: String,
    records: u64,
    inserted: u64,
    updated: u64,
    deleted: u64,
    unchanged: u64,
    duplicate: u64,
    stale: u64,
    control: u64,
    quarantined: u64,
}

impl Landed {
    fn new(entity: &EntityId, totals: &LayerTotals) -> Self {
        let counts = totals.counts;
        Self {
            entity: entity.to_string(),
            layer: totals.layer.to_string(),
            records: counts.records,
            inserted: counts.inserted,
            updated: counts.updated,
            deleted: counts.deleted,
            unchanged: counts.unchanged,
            duplicate: counts.duplicate,
            stale: counts.stale,
            control: counts.control,
            quarantined: counts.quarantined,
        }
    }
}

async fn landed(settings: &Settings) -> anyhow::Result<Vec<Landed>> {
    let ledger = wiring::ledger(settings).await?;
    let mut rows = Vec::new();
    for entity in wiring::metadata(settings)?.entities {
        let totals = ledger.totals(&entity.id()).await?;
        rows.extend(totals.iter().map(|totals| Landed::new(&entity.id(), totals)));
    }
    ledger.close().await;
    Ok(rows)
}

/// The earthquake with the most versions; among equals, the most significant one.
async fn most_versions(lake: &Query) -> anyhow::Result<String> {
    let sql = "SELECT id FROM silver.usgs.events \
               GROUP BY id ORDER BY count(*) DESC, max(sig) DESC, id LIMIT 1";
    let batches = lake.sql(sql).await?.collect().await?;
    let first = batches.first().context("silver has no earthquakes")?;
    Ok(array_value_to_string(first.column(0), 0)?)
}

fn versions(id: &str) -> String {
    let id = id.replace('\'', "''");
    format!(
        "SELECT _valid_from, _valid_to, _is_current, status, mag, place \
         FROM silver.usgs.events WHERE id = '{id}' ORDER BY _valid_from, _seq"
    )
}

/// Commands that can be copied as they are.
fn next_steps(folder: &Path, id: &str) -> String {
    let program = std::env::args_os().next().unwrap_or_else(|| "alluvium".into());
    let alluvium =
        format!("{} -C {}", quoted(Path::new(&program).display()), quoted(folder.display()));
    format!(
        "\nAll of it is in {}. Look further:
  {alluvium} query \"SELECT place, mag, status FROM silver.usgs.events WHERE _is_current ORDER BY mag DESC LIMIT 10\"
  {alluvium} query \"SELECT status, count(*) FROM silver.shop.orders WHERE _is_current GROUP BY status\"
  {alluvium} query \"SHOW TABLES\"
  {alluvium} history usgs.events --key {id}
  {alluvium} history shop.customers --key 1
  {alluvium} verify
With `demo --keep` the feed and the shop go on until you interrupt it. More in docs/.",
        folder.display()
    )
}

/// A word that a shell takes as it is.
fn quoted(word: impl Display) -> String {
    let word = word.to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn print(text: &dyn Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("cannot write to stdout")
}

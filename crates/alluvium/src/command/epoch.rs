//! `alluvium epoch accept`: the lake goes on with topics that are not those it knows, because the
//! bus was lost; and what was lost with it is told.

use alluvium_config::Settings;
use alluvium_lake::raw::EpochStart;
use alluvium_layers::epoch;
use alluvium_ledger::{Ledger, RunFilter};
use alluvium_model::{Clock, Cursor, CursorRecord, EntityId, Layer, SystemClock};
use alluvium_runtime::polled_page;
use jiff::Timestamp;
use serde::Serialize;

use super::known::known;
use crate::cli::{Cli, Epoch, Format, Target};
use crate::exit::{Exit, UsageError};
use crate::output;
use crate::wiring::{self, Wired};

#[derive(Serialize)]
struct Row {
    entity: String,
    from_epoch: u64,
    to_epoch: u64,
    /// The offset up to which raw has the epoch that is over.
    raw_end: u64,
    /// Records that a layer has of it and raw has not.
    only_in_bronze: u64,
    only_in_silver: u64,
    /// Records that were published and that no layer has, at least; empty if nobody knows.
    gone: Option<u64>,
    /// From where the source is read next: from `cursor`, or from its `beginning`.
    source_from: &'static str,
}

/// Accepts new epochs. Nobody else may have the data folder open meanwhile.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Epoch) -> anyhow::Result<Exit> {
    let Epoch::Accept { target } = args;
    let wired = wiring::wire(settings, wiring::metadata(settings)?).await?;
    let rows = accept(settings, &wired, target).await;
    wired.bus.close().await;
    wired.ledger.close().await;
    let rows = rows?;
    output::rows(cli.output, &rows)?;
    if !cli.quiet && cli.output == Format::Table {
        tell(&rows);
    }
    Ok(Exit::Done)
}

async fn accept(settings: &Settings, wired: &Wired, target: &Target) -> anyhow::Result<Vec<Row>> {
    let mut ids: Vec<EntityId> =
        known(settings, wired.ledger.as_ref()).await?.iter().map(|known| known.spec.id()).collect();
    ids.retain(|id| target.includes(id));
    if ids.is_empty() {
        return Err(UsageError("there is no such system or entity".to_owned()).into());
    }
    let mut rows = Vec::new();
    for id in ids {
        let (on_bus, _) = wired.bus.end(&id).await?;
        // Nobody lands anything of the entity meanwhile.
        let claim = wired.claim(&id, &Layer::ALL).await?;
        let lake = wired.lake_of(claim.as_ref(), Layer::Raw);
        let accepted = epoch::accept(&lake, &id, on_bus).await;
        if let Some(claim) = claim {
            claim.give_back().await;
        }
        for start in accepted? {
            rows.push(row(wired, &id, &start).await?);
        }
    }
    Ok(rows)
}

async fn row(wired: &Wired, id: &EntityId, start: &EpochStart) -> anyhow::Result<Row> {
    let only_in = |layer| {
        let beyond = start.beyond.iter().find(|beyond| beyond.layer == layer);
        beyond.map_or(0, |beyond| beyond.records)
    };
    let (only_in_bronze, only_in_silver) = (only_in(Layer::Bronze), only_in(Layer::Silver));
    let landed = epoch::landed_before(&wired.lake, id, start.step.to).await?;
    let begun = Timestamp::from_millisecond(i64::try_from(start.step.to.0)?)?;
    let published = published(wired.ledger.as_ref(), id, begun).await?;
    let source_from = go_on(wired, id).await?;
    Ok(Row {
        entity: id.to_string(),
        from_epoch: start.step.from.0,
        to_epoch: start.step.to.0,
        raw_end: start.step.end,
        only_in_bronze,
        only_in_silver,
        gone: published.checked_sub(landed + only_in_bronze.max(only_in_silver)),
        source_from,
    })
}

/// Where the pages that were polled last are not in raw, the source is read from its beginning: what
/// is gone comes again, and what did not is known by its ids. Pages are numbered on, so that none is
/// taken for one that was. Answers from where the source is read.
async fn go_on(wired: &Wired, id: &EntityId) -> anyhow::Result<&'static str> {
    const CURSOR: &str = "cursor";
    let copy = wired.ledger.cursor(id).await?;
    let (Some(copy), None) = (copy, wired.bus.cursor(id).await?) else { return Ok(CURSOR) };
    let landed = epoch::last_delivery(&wired.lake, id, polled_page).await?;
    if landed == Some(copy.page) {
        return Ok(CURSOR);
    }
    let page = copy.page.max(landed.unwrap_or_default()) + 1;
    let anew = CursorRecord { page, cursor: Cursor::beginning(), ..copy };
    wired.ledger.note_cursor(id, &anew, SystemClock.now()).await?;
    Ok("beginning")
}

/// How many records were published before an epoch began, in the runs that the ledger remembers.
async fn published(ledger: &dyn Ledger, id: &EntityId, begun: Timestamp) -> anyhow::Result<u64> {
    let all = RunFilter { system: Some(id.system.clone()), status: None, limit: u32::MAX };
    let mut records = 0;
    for run in ledger.runs(&all).await? {
        if run.ended_at.is_none_or(|ended| ended > begun) {
            continue;
        }
        let steps = ledger.steps(&run.id).await?.into_iter();
        let published = steps.filter(|s| s.layer.is_none() && s.entity.as_ref() == Some(id));
        records += published.map(|step| step.counts.records).sum::<u64>();
    }
    Ok(records)
}

fn tell(rows: &[Row]) {
    if rows.is_empty() {
        eprintln!("the lake knows the epochs that the bus has: there is nothing to accept");
    }
    for row in rows {
        let (entity, gone) = (&row.entity, row.gone.unwrap_or_default());
        if gone > 0 {
            eprintln!("{entity}: at least {gone} records were published and are in no layer: gone");
        }
        if row.source_from == "beginning" {
            eprintln!("{entity}: its source is read from the beginning; what is there comes again");
        }
        if row.only_in_silver > 0 {
            eprintln!(
                "{entity}: silver has {} records that raw never got, and keeps them; `alluvium \
                 rebuild silver {entity}` makes the table of what raw has, without them",
                row.only_in_silver
            );
        }
    }
}

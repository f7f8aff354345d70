//! `alluvium rebuild`: a table made anew from raw, swapped in in one commit.

use alluvium_config::Settings;
use alluvium_layers::rebuild::{Shadow, Swap, Swapped};
use alluvium_ledger::Ledger;
use alluvium_model::{Applied, Clock, EntityId, FencingToken, Layer, Ownership, Span, SystemClock};
use serde::Serialize;

use super::known::{Known, known};
use super::progress::Bar;
use crate::cli::{Cli, Format, Rebuild, RebuiltLayer};
use crate::exit::{Exit, UsageError};
use crate::output;
use crate::wiring::{self, Wired};

#[derive(Serialize)]
struct Row {
    entity: String,
    layer: &'static str,
    records: u64,
    versions: u64,
    offset: u64,
    table_version: i64,
}

/// Makes a table anew. Nobody else may have the data folder open meanwhile; where workers share the
/// work, the one that has silver gives it back for so long.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Rebuild) -> anyhow::Result<Exit> {
    let RebuiltLayer::Silver = args.layer;
    let wired = wiring::wire(settings, wiring::metadata(settings)?).await?;
    let done = rebuild(cli, settings, &wired, &args.entity).await;
    wired.bus.close().await;
    wired.ledger.close().await;
    let Swapped { version, progress, rows } = done?;
    let row = Row {
        entity: args.entity.to_string(),
        layer: Layer::Silver.as_str(),
        records: progress.former.counts.records + progress.totals.records,
        versions: rows,
        offset: progress.offset,
        table_version: version,
    };
    output::rows(cli.output, &[row])?;
    let quarantined = progress.former.counts.quarantined + progress.totals.quarantined;
    if quarantined > 0 && !cli.quiet && cli.output == Format::Table {
        eprintln!("{quarantined} records are in quarantine");
    }
    Ok(Exit::Done)
}

async fn rebuild(
    cli: &Cli,
    settings: &Settings,
    wired: &Wired,
    id: &EntityId,
) -> anyhow::Result<Swapped> {
    let ledger = wired.ledger.as_ref();
    let entity = entity(settings, ledger, id).await?;
    let scratch = wiring::scratch(settings);
    let claim = wired.claim(id, &[Layer::Silver]).await?;
    let lake = wired.lake_of(claim.as_ref(), Layer::Silver);
    let mut shadow = Shadow::begin(&lake, &entity.spec, &entity.timezone, &scratch, None).await?;
    let owner = claim.as_ref().and_then(|claim| claim.owner(Layer::Silver)).map(Ownership::token);
    let swapped = fill_and_swap(cli, wired, id, owner, &mut shadow).await;
    let removed = shadow.remove().await;
    if let Some(claim) = claim {
        claim.give_back().await;
    }
    let swapped = swapped?;
    if let Err(error) = removed {
        tracing::warn!(%error, "what the rebuild was made in could not be removed");
    }
    Ok(swapped)
}

/// The entity, if it has what is to be made anew.
async fn entity(settings: &Settings, ledger: &dyn Ledger, id: &EntityId) -> anyhow::Result<Known> {
    let mut entities = known(settings, ledger).await?.into_iter();
    let entity = entities.find(|known| known.spec.id() == *id);
    let entity = entity.ok_or_else(|| UsageError(format!("there is no entity `{id}`")))?;
    if !entity.spec.layers.silver.enabled {
        return Err(UsageError(format!("silver of `{id}` is switched off")).into());
    }
    Ok(entity)
}

async fn fill_and_swap(
    cli: &Cli,
    wired: &Wired,
    id: &EntityId,
    owner: Option<FencingToken>,
    shadow: &mut Shadow,
) -> anyhow::Result<Swapped> {
    if shadow.offsets().1 == 0 {
        let text =
            format!("raw has nothing of `{id}` yet: there is nothing to make its table from");
        return Err(UsageError(text).into());
    }
    let ledger = wired.ledger.as_ref();
    let bar = Bar::new(cli.quiet, &format!("replaying {id}"));
    while let Some(applied) = shadow.next().await? {
        let (done, of) = shadow.records();
        bar.set(done, of);
        quarantine(ledger, id, applied).await?;
    }
    bar.say(&format!("swapping {id}"));
    let swap = Swap::prepare(shadow, &mut |done, of| bar.set(done, of)).await?;
    // The ledger's batches are those of the table that goes. It forgets them first: should this
    // break off, it hears from the lake at the next start how far silver is.
    let now = || SystemClock.now();
    ledger.reconcile(id, Layer::Silver, None, owner, now()).await?;
    let swapped = swap.commit(&wired.index.entity(id)?).await?;
    ledger.reconcile(id, Layer::Silver, Some(&swapped.progress), owner, now()).await?;
    bar.finish();
    Ok(swapped)
}

/// Puts into quarantine what could not be applied; what stands there stays as it is. As batches of
/// nothing, for which the ledger counts nothing.
async fn quarantine(
    ledger: &dyn Ledger,
    id: &EntityId,
    applied: Vec<Applied>,
) -> anyhow::Result<()> {
    let refused = applied.into_iter().filter(|batch| !batch.quarantined.is_empty());
    let refused: Vec<Applied> = refused
        .map(|batch| Applied { span: Span { after: 0, to: 0, ..batch.span }, ..batch })
        .collect();
    Ok(ledger.record_batches(id, &refused, None, SystemClock.now()).await?)
}

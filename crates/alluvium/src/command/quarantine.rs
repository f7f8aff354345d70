//! `alluvium quarantine`: records that could not be applied, and what to do about them.

use alluvium_config::Settings;
use alluvium_layers::RawReplay;
use alluvium_ledger::{Ledger, QuarantineFilter, QuarantineRow, QuarantineStatus, Resolution};
use alluvium_model::change::Decision;
use alluvium_model::{
    Clock, Control, EncodedMessage, EncodedPage, EntityId, FetchLimit, Position, Record,
    Subscriber, SystemClock,
};
use alluvium_runtime::{Runtime, RuntimeHandle, Triggers};
use alluvium_wire::{PublishContext, encode_page, headers};
use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;

use super::ingest::finish;
use crate::cli::{Cli, Decide, Format, Quarantine};
use crate::exit::{Exit, UsageError};
use crate::{output, wiring};

/// So many records are decided on at once.
const AT_ONCE: u32 = 10_000;

#[derive(Serialize)]
struct Row {
    id: i64,
    entity: String,
    layer: String,
    position: String,
    code: String,
    reason: String,
    status: &'static str,
    at: String,
}

/// What silver holds back until an operator has approved it.
const HELD: &str = "snapshot_held";

/// Lists, shows, or decides.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Quarantine) -> anyhow::Result<Exit> {
    match args {
        Quarantine::List { entity, all, limit } => {
            let ledger = wiring::ledger(settings).await?;
            let filter = QuarantineFilter {
                entity: entity.clone(),
                status: (!all).then_some(QuarantineStatus::Open),
                limit: *limit,
                ..QuarantineFilter::default()
            };
            let rows: Vec<Row> =
                ledger.quarantine_list(&filter).await?.iter().map(summary).collect();
            if rows.is_empty() && cli.output == Format::Table && !cli.quiet {
                eprintln!("nothing is in quarantine");
            }
            output::rows(cli.output, &rows)?;
            Ok(Exit::Done)
        }
        Quarantine::Show { id } => show(cli, settings, *id).await,
        Quarantine::Replay(decide) => decided(cli, settings, decide, Resolution::Replayed).await,
        Quarantine::Discard(decide) => decided(cli, settings, decide, Resolution::Discarded).await,
        Quarantine::Approve(decide) => decided(cli, settings, decide, Resolution::Approved).await,
    }
}

fn summary(row: &QuarantineRow) -> Row {
    Row {
        id: row.id,
        entity: row.entity.to_string(),
        layer: row.layer.to_string(),
        position: row.position.to_string(),
        code: row.code.clone(),
        reason: row.reason.clone(),
        status: row.status.as_str(),
        at: row.quarantined_at.to_string(),
    }
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    summary: Row,
    record: String,
}

async fn show(cli: &Cli, settings: &Settings, id: i64) -> anyhow::Result<Exit> {
    let ledger = wiring::ledger(settings).await?;
    let row = get(ledger.as_ref(), id).await?;
    let record = String::from_utf8_lossy(&row.bytes).into_owned();
    let shown = Shown { summary: summary(&row), record };
    if cli.output == Format::Table {
        let Shown { summary, record } = shown;
        output::rows(cli.output, &[summary])?;
        println!("{record}");
    } else {
        output::rows(cli.output, &[shown])?;
    }
    Ok(Exit::Done)
}

async fn get(ledger: &dyn Ledger, id: i64) -> anyhow::Result<QuarantineRow> {
    ledger
        .quarantine_get(id)
        .await?
        .ok_or_else(|| UsageError(format!("there is no record {id} in quarantine")).into())
}

/// Carries out a decision. It goes onto the topic first: a rebuild repeats it.
async fn decided(
    cli: &Cli,
    settings: &Settings,
    decide: &Decide,
    resolution: Resolution,
) -> anyhow::Result<Exit> {
    let wired = wiring::wire(settings, wiring::metadata(settings)?).await?;
    let rows = chosen(wired.ledger.as_ref(), decide, resolution).await?;
    let handle = Runtime::start(wired.platform.clone(), Triggers::Ignored).await?;
    let mut carried_out = Ok(0);
    for row in &rows {
        carried_out = carry_out(settings, &handle, wired.ledger.as_ref(), row, resolution)
            .await
            .and_then(|()| carried_out.map(|n: u64| n + 1));
        if carried_out.is_err() {
            break;
        }
    }
    finish(&handle, &wired, settings).await;
    let done = carried_out?;
    if !cli.quiet {
        eprintln!("{done} records {}", resolution.status().as_str());
    }
    Ok(Exit::Done)
}

async fn chosen(
    ledger: &dyn Ledger,
    decide: &Decide,
    resolution: Resolution,
) -> anyhow::Result<Vec<QuarantineRow>> {
    let may = |row: &QuarantineRow| match resolution {
        Resolution::Approved => row.code == HELD,
        Resolution::Replayed => row.code != HELD,
        Resolution::Discarded => true,
    };
    let mut rows = Vec::new();
    for id in &decide.ids {
        let row = get(ledger, *id).await?;
        if row.status != QuarantineStatus::Open {
            let text = format!("record {id} was {} before", row.status.as_str());
            return Err(UsageError(text).into());
        }
        if !may(&row) {
            let text = if row.code == HELD {
                format!(
                    "record {id} is `{HELD}`: nothing is wrong with it, so approve or discard it"
                )
            } else {
                format!(
                    "record {id} is `{}`, and only `{HELD}` can be approved: replay it after a \
                     mend, or discard it",
                    row.code
                )
            };
            return Err(UsageError(text).into());
        }
        rows.push(row);
    }
    if let Some(entity) = &decide.entity {
        let filter = QuarantineFilter {
            entity: Some(entity.clone()),
            status: Some(QuarantineStatus::Open),
            limit: AT_ONCE,
            ..QuarantineFilter::default()
        };
        let waiting = ledger.quarantine_list(&filter).await?;
        if waiting.len() >= AT_ONCE as usize {
            eprintln!("{AT_ONCE} records at once: give the command again, should more wait");
        }
        rows.extend(waiting.into_iter().filter(may));
    }
    rows.sort_by_key(|row| (row.position, row.id));
    // Named twice, or by number and with its entity: decided on once.
    rows.dedup_by_key(|row| row.id);
    Ok(rows)
}

async fn carry_out(
    settings: &Settings,
    handle: &RuntimeHandle,
    ledger: &dyn Ledger,
    row: &QuarantineRow,
    resolution: Resolution,
) -> anyhow::Result<()> {
    let page = match resolution {
        Resolution::Replayed => again(settings, &row.entity, row.position).await?,
        Resolution::Discarded => decision(&row.entity, row.position, Decision::Discard)?,
        Resolution::Approved => decision(&row.entity, row.position, Decision::Approve)?,
    };
    let published = handle.publish(&row.entity, page).await?;
    let end = Position { epoch: published.span.epoch, offset: published.span.to, index: 0 };
    ledger.quarantine_resolve(row.id, resolution, SystemClock.now()).await?;
    handle.wait_applied(&row.entity, end, |_| ()).await?;
    Ok(())
}

/// The record as raw has it, under its own headers, to be published once more.
async fn again(
    settings: &Settings,
    entity: &EntityId,
    position: Position,
) -> anyhow::Result<EncodedPage> {
    let mut raw = RawReplay::open(wiring::lake(settings)?, entity.clone()).await?;
    raw.seek(&Position { offset: position.offset - 1, ..position }).await?;
    let limit = FetchLimit { records: 1, bytes: 1, ..FetchLimit::default() };
    let delivery = raw.fetch(limit).await?;
    let message = delivery
        .messages
        .first()
        .filter(|message| message.offset == position.offset)
        .with_context(|| format!("raw does not hold the message at {position}"))?;
    let line = message
        .lines()
        .nth(position.index as usize)
        .with_context(|| format!("raw does not hold the record at {position}"))?;
    let mut headers = message.headers.clone().with(headers::REPLAY_OF, position.to_string());
    if let Some((_, first)) = headers::delivered_in(&message.headers) {
        // Alone in its message, it keeps its ordinal, and so its id.
        let ordinal = first.saturating_add(u64::from(position.index));
        headers = headers.with(headers::ORDINAL, ordinal.to_string());
    }
    let payload = Bytes::copy_from_slice(line);
    Ok(EncodedPage { messages: vec![EncodedMessage { headers, payload, records: 1 }] })
}

fn decision(
    entity: &EntityId,
    position: Position,
    decision: Decision,
) -> anyhow::Result<EncodedPage> {
    let context = PublishContext {
        entity: entity.clone(),
        run: None,
        traceparent: None,
        delivery: format!("decision/{position}"),
        ordinal: 0,
        now: SystemClock.now(),
    };
    let control = Control::Decision { decision, position };
    Ok(encode_page(&[Record::Control(control)], &context)?)
}

//! `alluvium publish`: changes from a file onto the entity's topic.

use alluvium_config::{Metadata, Reach, Settings};
use alluvium_connector::Connector;
use alluvium_ledger::RunStatus;
use alluvium_model::{Clock, EncodedPage, SystemClock};
use alluvium_runtime::{PushRun, Runtime, RuntimeHandle, Triggers};
use alluvium_wire::{LineFormat, Mapping, PublishContext, encode_lines};
use bytes::Bytes;
use serde::Serialize;

use super::ingest::{Tracker, finish};
use super::input::Input;
use super::order;
use super::progress::Bar;
use crate::cli::{Cli, Publish};
use crate::exit::{Exit, UsageError};
use crate::push::Push;
use crate::{output, wiring};

#[derive(Serialize)]
struct Row {
    run: String,
    entity: String,
    status: String,
    records: u64,
    seconds: f64,
}

/// Publishes a file or stdin; with `--wait`, until all layers have applied it. A file that was
/// published in part before the process ended is gone on with, not begun anew.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Publish) -> anyhow::Result<Exit> {
    let format = format(args)?;
    let most = settings.max_message_bytes().bytes();
    let mut input = Input::open(&args.file, &format, most).await?;
    let metadata = metadata(settings, args)?;
    if metadata.system(&args.entity.system).is_none() {
        let text = format!("there is no system `{}` in systems.json", args.entity.system);
        return Err(UsageError(text).into());
    }
    fits(&metadata, args, &format)?;
    let wired = wiring::wire(settings, metadata).await?;
    let clock = SystemClock;
    let started = clock.instant();
    let handle = Runtime::start(wired.platform.clone(), Triggers::Ignored).await?;
    let mut run = match handle.push(&args.entity).await {
        Ok(run) => run,
        Err(error) => {
            finish(&handle, &wired, settings).await;
            return Err(error.into());
        }
    };
    let pushed = push(cli, args, &handle, &mut run, &mut input, &format).await;
    let report = run.finish(pushed.as_ref().err().map(|error| error.to_string())).await;
    let seconds = clock.since(started).as_secs_f64();
    finish(&handle, &wired, settings).await;
    let row = Row {
        run: report.run.to_string(),
        entity: args.entity.to_string(),
        status: report.status.as_str().to_owned(),
        records: report.polled(),
        seconds: (seconds * 1000.0).round() / 1000.0,
    };
    output::rows(cli.output, &[row])?;
    if let Some(warning) = pushed.as_ref().err().and(input.warning()) {
        eprintln!("warning: {warning}");
    }
    pushed?;
    if let Some(reason) = &report.reason {
        eprintln!("run {} failed: {reason}", report.run);
    }
    Ok(Exit::of(report.status == RunStatus::Succeeded))
}

/// Publishes what is left of the input, and waits for the layers if that was asked for. Only then
/// the file counts as done.
async fn push(
    cli: &Cli,
    args: &Publish,
    handle: &RuntimeHandle,
    run: &mut PushRun,
    input: &mut Input,
    format: &LineFormat,
) -> anyhow::Result<()> {
    let cursor = run.resume().await?;
    let before = input.take_up(cursor.as_ref()).await?;
    if before > 0 && !cli.quiet {
        eprintln!("going on after {before} records of this file that were published before");
    }
    let bar = Bar::new(cli.quiet, &format!("publishing {}", args.entity));
    let mut by_arrival = *format == LineFormat::Envelope
        && handle.entity(&args.entity).is_ok_and(|entity| entity.sequence_by.is_empty());
    loop {
        let ordinal = input.place.records;
        let Some(lines) = input.read_lines().await? else { break };
        let context = PublishContext {
            entity: args.entity.clone(),
            run: Some(run.run().clone()),
            traceparent: run.traceparent().map(str::to_owned),
            delivery: input.place.delivery(run),
            ordinal,
            now: SystemClock.now(),
        };
        let page = EncodedPage { messages: encode_lines(Bytes::from(lines), format, &context) };
        if by_arrival && order::is_carried(&page.messages) {
            by_arrival = false; // once is enough
            eprintln!("warning: {}", order::carried(&args.entity));
        }
        input.place.records += page.records();
        run.publish_at(page, input.place.cursor()?).await?;
        bar.set(input.place.read, input.place.size.unwrap_or(input.place.read));
    }
    if run.position().is_none() {
        run.publish_at(EncodedPage::default(), input.place.cursor()?).await?;
    }
    bar.finish();
    if let Some(position) = run.position().filter(|_| args.wait) {
        let tracker = Tracker::new(cli.quiet, "landing");
        let waited =
            handle.wait_applied(&args.entity, position, |update| tracker.note(&update)).await;
        tracker.finish();
        waited?;
    }
    input.place.done = true;
    run.publish_at(EncodedPage::default(), input.place.cursor()?).await?;
    Ok(())
}

/// The metadata. An entity that leaves open what its source tells cannot be published to without its
/// source, and so not without what the connection refers to.
fn metadata(settings: &Settings, args: &Publish) -> anyhow::Result<Metadata> {
    let metadata = wiring::metadata(settings)?;
    let declared = metadata.entity(&args.entity);
    if declared.is_some_and(|entity| !entity.keys.is_empty() && !entity.columns.is_empty()) {
        return Ok(metadata);
    }
    wiring::metadata_for(settings, Reach::One(&args.entity.system))
}

/// That the entity is declared where only a declaration makes one, and orders its changes by the
/// sequence that the mapping names: nobody is to believe in an order that is not kept.
fn fits(metadata: &Metadata, args: &Publish, format: &LineFormat) -> Result<(), UsageError> {
    let id = &args.entity;
    let pushed =
        metadata.system(&id.system).is_some_and(|system| system.kind == <Push as Connector>::TYPE);
    if !pushed {
        return Ok(());
    }
    let Some(entity) = metadata.entities.iter().find(|entity| entity.id() == *id) else {
        return Err(UsageError(format!("there is no entity `{id}` in entities.json")));
    };
    match format {
        LineFormat::Map(map) if !map.sequence.is_empty() && entity.sequence_by.is_empty() => {
            Err(UsageError(order::mapped(id)))
        }
        _ => Ok(()),
    }
}

fn format(args: &Publish) -> anyhow::Result<LineFormat> {
    match &args.map {
        Some(map) => {
            let mapping: Mapping =
                map.parse().map_err(|error| UsageError(format!("--map: {error}")))?;
            Ok(LineFormat::Map(mapping))
        }
        None if args.rows => Ok(LineFormat::Plain),
        None => Ok(LineFormat::Envelope),
    }
}

//! `alluvium publish`: changes from a file onto the entity's topic.

use std::path::Path;

use alluvium_config::Settings;
use alluvium_model::{Clock, EncodedPage, EntityId, SystemClock};
use alluvium_runtime::{PushRun, Runtime, Triggers};
use alluvium_wire::{LineFormat, Mapping, PublishContext, encode_lines};
use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::ingest::{Tracker, finish};
use super::progress::Bar;
use crate::cli::{Cli, Publish};
use crate::exit::{Exit, UsageError};
use crate::{output, wiring};

/// So much is read before it is published as one page.
const PAGE_BYTES: usize = 4 << 20;
/// No line may be longer.
const LINE_LIMIT: usize = 8 << 20;

#[derive(Serialize)]
struct Row {
    run: String,
    entity: String,
    status: String,
    records: u64,
    seconds: f64,
}

/// Publishes a file or stdin; with `--wait`, until all layers have applied it.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Publish) -> anyhow::Result<Exit> {
    let format = format(args)?;
    let (mut input, size) = open(&args.file).await?;
    let wired = wiring::wire(settings, wiring::metadata(settings)?).await?;
    let clock = SystemClock;
    let started = clock.instant();
    let handle = Runtime::start(wired.platform.clone(), Triggers::Ignored).await?;
    let mut run = handle.push(&args.entity).await?;
    let bar = Bar::new(cli.quiet, &format!("publishing {}", args.entity));
    let pushed = push(&mut run, &args.entity, &format, input.as_mut(), |done| {
        bar.set(done, size.unwrap_or(done));
    })
    .await;
    bar.finish();
    let report = run.finish(pushed.as_ref().err().map(|error| error.to_string())).await;
    let position = report.entities.iter().find_map(|entity| entity.position);
    let mut waited = Ok(());
    if let Some(position) = position.filter(|_| args.wait && pushed.is_ok()) {
        let tracker = Tracker::new(cli.quiet, "landing");
        waited = handle.wait_applied(&args.entity, position, |update| tracker.note(&update)).await;
        tracker.finish();
    }
    let seconds = clock.since(started).as_secs_f64();
    finish(&handle, &wired, settings).await;
    pushed?;
    waited?;
    let row = Row {
        run: report.run.to_string(),
        entity: args.entity.to_string(),
        status: report.status.as_str().to_owned(),
        records: report.polled(),
        seconds: (seconds * 1000.0).round() / 1000.0,
    };
    output::rows(cli.output, &[row])?;
    Ok(Exit::Done)
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

type Input = Box<dyn AsyncRead + Unpin + Send>;

async fn open(file: &Path) -> anyhow::Result<(Input, Option<u64>)> {
    if file == Path::new("-") {
        let stdin = tokio::fs::File::open("/dev/stdin").await.context("cannot read stdin")?;
        return Ok((Box::new(stdin), None));
    }
    let opened = tokio::fs::File::open(file)
        .await
        .map_err(|error| UsageError(format!("cannot read {}: {error}", file.display())))?;
    let size = opened.metadata().await.ok().map(|metadata| metadata.len());
    Ok((Box::new(opened), size))
}

/// Reads whole lines, page by page, and publishes them. `told` hears how many bytes are durable.
async fn push(
    run: &mut PushRun,
    entity: &EntityId,
    format: &LineFormat,
    input: &mut (dyn AsyncRead + Unpin + Send),
    told: impl Fn(u64),
) -> anyhow::Result<()> {
    let mut rest: Vec<u8> = Vec::new();
    let (mut done, mut ordinal) = (0u64, 0u64);
    loop {
        let (lines, more) = read_lines(input, &mut rest).await?;
        if !lines.is_empty() {
            let size = lines.len() as u64;
            let context = PublishContext {
                entity: entity.clone(),
                run: Some(run.run().clone()),
                traceparent: run.traceparent().map(str::to_owned),
                delivery: run.run().to_string(),
                ordinal,
                now: SystemClock.now(),
            };
            let page = EncodedPage { messages: encode_lines(Bytes::from(lines), format, &context) };
            ordinal += page.records();
            if !page.messages.is_empty() {
                run.publish(page).await?;
            }
            done += size;
            told(done);
        }
        if !more {
            return Ok(());
        }
    }
}

/// About a page of whole lines; `rest` holds the beginning of the next line. False at the end.
async fn read_lines(
    input: &mut (dyn AsyncRead + Unpin + Send),
    rest: &mut Vec<u8>,
) -> anyhow::Result<(Vec<u8>, bool)> {
    let mut buffer = std::mem::take(rest);
    buffer.reserve(PAGE_BYTES);
    loop {
        let wanted = (PAGE_BYTES.saturating_sub(buffer.len())).max(64 << 10) as u64;
        let read = (&mut *input)
            .take(wanted)
            .read_to_end(&mut buffer)
            .await
            .context("cannot read the input")?;
        if read == 0 {
            return Ok((buffer, false));
        }
        match buffer.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                *rest = buffer.split_off(end + 1);
                return Ok((buffer, true));
            }
            None if buffer.len() > LINE_LIMIT => {
                anyhow::bail!("a line is longer than {} MiB; is this NDJSON?", LINE_LIMIT >> 20);
            }
            None => {}
        }
    }
}

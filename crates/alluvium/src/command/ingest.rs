//! `alluvium ingest`: one run by hand, until all layers have applied what came.

use std::collections::BTreeMap;
use std::sync::Mutex;

use alluvium_config::Settings;
use alluvium_ledger::RunStatus;
use alluvium_model::{EntityId, Layer};
use alluvium_runtime::{ProgressUpdate, RunReport, Runtime, RuntimeHandle, Triggers};
use serde::Serialize;

use super::progress::Bar;
use crate::cli::{Cli, Format, Ingest, Target};
use crate::exit::{Exit, UsageError};
use crate::output;
use crate::wiring::{self, Wired};

#[derive(Serialize)]
struct Row {
    run: String,
    entity: String,
    status: String,
    polled: u64,
    published: u64,
    reason: Option<String>,
}

/// Runs a system or an entity once.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Ingest) -> anyhow::Result<Exit> {
    let metadata = wiring::metadata(settings)?;
    let (Target::System(system) | Target::Entity(EntityId { system, .. })) = &args.target;
    if metadata.system(system).is_none() {
        let text = format!("there is no system `{system}` in systems.json");
        return Err(UsageError(text).into());
    }
    let wired = wiring::wire(settings, metadata).await?;
    let handle = Runtime::start(wired.platform.clone(), Triggers::Ignored).await?;
    let (system, entity) = match &args.target {
        Target::System(system) => (system.clone(), None),
        Target::Entity(id) => (id.system.clone(), Some(id.entity.clone())),
    };
    let tracker = Tracker::new(cli.quiet, &format!("ingesting {system}"));
    let outcome = handle.ingest(&system, entity.as_ref(), |update| tracker.note(&update)).await;
    tracker.finish();
    finish(&handle, &wired, settings).await;
    let report = outcome?;
    tell(cli, &report)?;
    Ok(Exit::of(report.status == RunStatus::Succeeded))
}

/// Stops the runtime, and closes what it worked with.
pub(crate) async fn finish(handle: &RuntimeHandle, wired: &Wired, settings: &Settings) {
    let left = handle.shutdown(settings.runtime.drain_time.duration()).await;
    for (entity, layer, messages) in left.behind {
        eprintln!("{layer} of {entity} has {messages} messages left; they are safe on the bus");
    }
    wired.bus.close().await;
    wired.ledger.close().await;
}

/// Tells how a run went: for people in a line per entity, otherwise as data.
fn tell(cli: &Cli, report: &RunReport) -> anyhow::Result<()> {
    if let Some(reason) = report.reason.as_ref().filter(|_| cli.output == Format::Table) {
        eprintln!("run {} failed: {reason}", report.run);
    }
    let rows: Vec<Row> = report
        .entities
        .iter()
        .map(|entity| Row {
            run: report.run.to_string(),
            entity: entity.entity.to_string(),
            status: entity.status.as_str().to_owned(),
            polled: entity.polled,
            published: entity.published,
            reason: entity.reason.clone(),
        })
        .collect();
    output::rows(cli.output, &rows)
}

/// One bar over all layers: how many messages they have landed of those that are waited for.
pub(crate) struct Tracker {
    bar: Bar,
    layers: Mutex<BTreeMap<(EntityId, Layer), (u64, u64)>>,
}

impl Tracker {
    /// A bar for `what`.
    pub(crate) fn new(quiet: bool, what: &str) -> Self {
        Self { bar: Bar::new(quiet, what), layers: Mutex::default() }
    }

    /// Takes a step into account.
    pub(crate) fn note(&self, update: &ProgressUpdate) {
        let Ok(mut layers) = self.layers.lock() else { return };
        let at = (update.applied.min(update.target), update.target);
        layers.insert((update.entity.clone(), update.layer), at);
        let (done, of) = layers.values().fold((0, 0), |sum, at| (sum.0 + at.0, sum.1 + at.1));
        self.bar.say(&format!("{} of {}", update.layer, update.entity));
        self.bar.set(done, of);
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish();
    }
}

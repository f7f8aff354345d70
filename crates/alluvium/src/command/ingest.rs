//! `alluvium ingest`: one run by hand, until all layers have applied what came.

use std::collections::BTreeMap;
use std::sync::Mutex;

use alluvium_config::{Reach, Settings};
use alluvium_ledger::RunStatus;
use alluvium_model::{EntityId, Layer};
use alluvium_runtime::{ProgressUpdate, RunReport, Runtime, RuntimeHandle, Triggers};
use serde::Serialize;

use super::progress::Bar;
use crate::cli::{Cli, Format, Ingest, Target};
use crate::exit::{Exit, UsageError, blames_configuration};
use crate::output;
use crate::wiring::{self, Wired};

#[derive(Serialize)]
struct Row {
    run: String,
    /// None where the run ended before it came to an entity.
    entity: Option<String>,
    status: String,
    polled: u64,
    published: u64,
    reason: Option<String>,
}

/// Runs a system or an entity once.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &Ingest) -> anyhow::Result<Exit> {
    let (Target::System(system) | Target::Entity(EntityId { system, .. })) = &args.target;
    let metadata = wiring::metadata_for(settings, Reach::One(system))?;
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
    tell(cli, args, &report)?;
    Ok(exit(&report))
}

/// A run that failed by its configuration alone was not asked for rightly.
fn exit(report: &RunReport) -> Exit {
    let failed = report.entities.iter().filter(|entity| entity.status == RunStatus::Failed);
    let mut reasons: Vec<_> = failed.filter_map(|entity| entity.reason.as_deref()).collect();
    if reasons.is_empty() {
        reasons.extend(report.reason.as_deref());
    }
    match report.status {
        RunStatus::Succeeded => Exit::Done,
        _ if !reasons.is_empty() && reasons.iter().all(|why| blames_configuration(why)) => {
            Exit::Usage
        }
        _ => Exit::Failed,
    }
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

/// Tells how a run went: a row for each entity, and one for the run where it ended without them.
fn tell(cli: &Cli, args: &Ingest, report: &RunReport) -> anyhow::Result<()> {
    if let Some(reason) = report.reason.as_ref().filter(|_| cli.output == Format::Table) {
        eprintln!("run {} failed: {reason}", report.run);
    }
    let mut rows: Vec<Row> = report
        .entities
        .iter()
        .map(|entity| Row {
            run: report.run.to_string(),
            entity: Some(entity.entity.to_string()),
            status: entity.status.as_str().to_owned(),
            polled: entity.polled,
            published: entity.published,
            reason: entity.reason.clone(),
        })
        .collect();
    let told = report.entities.iter().any(|entity| entity.status == report.status);
    if report.status != RunStatus::Succeeded && !told {
        let entity = match &args.target {
            Target::Entity(id) => Some(id.to_string()),
            Target::System(_) => None,
        };
        rows.push(Row {
            run: report.run.to_string(),
            entity,
            status: report.status.as_str().to_owned(),
            polled: 0,
            published: 0,
            reason: report.reason.clone(),
        });
    }
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

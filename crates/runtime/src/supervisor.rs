//! Starting and stopping.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_ledger::MetadataKind;
use alluvium_model::{EntityId, EntitySpec};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::board::LayerPhase;
use crate::context::Context;
use crate::crew::{lands_alike, layers_of};
use crate::error::RuntimeError;
use crate::handle::{Left, RuntimeHandle};
use crate::housekeeping;
use crate::platform::Platform;
use crate::scheduler;
use crate::status::Phase;
use crate::trigger::Schedule;

/// The runtime: starts everything.
#[derive(Debug, Clone, Copy)]
pub struct Runtime;

/// Whether triggers are heeded. A command that does one thing and ends has no use for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triggers {
    /// Runs start when they are due.
    Heeded,
    /// Runs start by hand only.
    Ignored,
}

/// Watches over what is at work.
pub(crate) struct Supervisor {
    pub(crate) phase: watch::Sender<Phase>,
    /// What goes on beside the data; ends when dropped.
    beside: Mutex<JoinSet<()>>,
    stopping: Mutex<Option<Left>>,
}

impl Runtime {
    /// Writes the metadata to the ledger, marks runs that a crash left open, starts the layers of
    /// all entities that have something on the bus, then the triggers.
    pub async fn start(
        platform: Platform,
        triggers: Triggers,
    ) -> Result<RuntimeHandle, RuntimeError> {
        let schedules = read_triggers(&platform, triggers)?;
        let context = Arc::new(Context::new(platform));
        let interrupted = context.platform.ledger.interrupt_open_runs(context.now()).await?;
        if interrupted > 0 {
            tracing::warn!(interrupted, "runs were under way when the process ended last time");
        }
        let known = recall(&context).await?;
        let supervisor = Arc::new(Supervisor {
            phase: watch::channel(Phase::Starting).0,
            beside: Mutex::default(),
            stopping: Mutex::default(),
        });
        let mut beside = supervisor.beside.lock().await;
        beside.spawn(start_layers(Arc::clone(&context), Arc::clone(&supervisor), known));
        beside.spawn(housekeeping::measure(Arc::clone(&context)));
        beside.spawn(housekeeping::deliver(Arc::clone(&context)));
        beside.spawn(housekeeping::retain(Arc::clone(&context)));
        for (system, schedules) in schedules {
            beside.spawn(scheduler::schedule(Arc::clone(&context), system, schedules));
        }
        drop(beside);
        Ok(RuntimeHandle { context, supervisor })
    }
}

/// All triggers are read before anything starts, so that a wrong one is told at once.
fn read_triggers(
    platform: &Platform,
    triggers: Triggers,
) -> Result<Vec<(alluvium_model::SystemName, Vec<Schedule>)>, RuntimeError> {
    let mut all = Vec::new();
    for system in platform.systems.iter() {
        let name = system.name.clone();
        let read = Schedule::of(system);
        let schedules =
            read.map_err(|source| RuntimeError::Trigger { system: name.clone(), source })?;
        if system.enabled && triggers == Triggers::Heeded && !schedules.is_empty() {
            all.push((name, schedules));
        }
    }
    Ok(all)
}

/// Takes from the ledger what sources told of their entities before, where it still fits what is
/// declared, and writes the metadata. Gives the entities that are known so.
async fn recall(context: &Context) -> Result<Vec<EntityId>, RuntimeError> {
    let platform = &context.platform;
    let entries = platform.ledger.metadata().await?.into_iter();
    let remembered: BTreeMap<EntityId, EntitySpec> = entries
        .filter(|entry| entry.kind == MetadataKind::Entity)
        .filter_map(|entry| serde_json::from_value::<EntitySpec>(entry.spec).ok())
        .map(|spec| (spec.id(), spec))
        .collect();
    let mut known = Vec::new();
    for declared in &platform.entities {
        let id = declared.id();
        if let Some(completed) = remembered.get(&id).filter(|r| completes(r, declared)) {
            // The connector's own part is masked in the ledger.
            let source = declared.source.clone();
            context.learn(&[EntitySpec { source, ..completed.clone() }]);
            known.push(id);
        }
    }
    for found in remembered.values().filter(|spec| is_unfinished(context, spec)) {
        context.learn(std::slice::from_ref(found));
        known.push(found.id());
    }
    let entities = context.entities();
    platform.ledger.store_metadata(&platform.systems, &entities, context.now()).await?;
    Ok(known)
}

/// Whether it is an entity that nobody declared, that its source told of before, and whose topic
/// holds what a layer has not landed.
fn is_unfinished(context: &Context, spec: &EntitySpec) -> bool {
    let id = spec.id();
    let is_found = context.entity(&id).is_err() && context.system(&id.system).is_ok();
    let topics = (context.platform.topics)();
    let topic = topics.iter().find(|topic| topic.topic == id);
    is_found && topic.is_some_and(|t| t.layers.iter().any(|layer| layer.waiting_records > 0))
}

/// Whether `known` is `declared`, completed by its source.
fn completes(known: &EntitySpec, declared: &EntitySpec) -> bool {
    let mut completed = declared.clone();
    if completed.keys.is_empty() {
        completed.keys.clone_from(&known.keys);
    }
    if completed.sequence_by.is_empty() {
        completed.sequence_by.clone_from(&known.sequence_by);
    }
    if completed.columns.is_empty() {
        completed.columns.clone_from(&known.columns);
    }
    lands_alike(&completed, known)
}

/// Starts the layers of entities that have something on the bus. The others wait until they have.
async fn start_layers(context: Arc<Context>, supervisor: Arc<Supervisor>, known: Vec<EntityId>) {
    for spec in context.entities() {
        let id = spec.id();
        let layers: Vec<_> = layers_of(&spec).collect();
        context.platform.metrics.entity_known(&id, &layers);
        match context.platform.publisher.end(&id).await {
            Ok((_, 0)) => {}
            Ok(_) if known.contains(&id) => context.crew.ensure(&context, &spec).await,
            Ok(_) => {
                if let Err(error) = context.crew.ensure_known(&context, &id).await {
                    tracing::warn!(entity = %id, %error, "what is on the bus waits for the next run");
                }
            }
            Err(error) => tracing::error!(entity = %id, %error, "the bus did not tell of a topic"),
        }
    }
    for (_, slot) in context.board.all() {
        let mut watch = slot.watch();
        let started = watch.wait_for(|state| state.phase != LayerPhase::Starting).await;
        drop(started);
    }
    supervisor.phase.send_if_modified(|phase| {
        let starting = *phase == Phase::Starting;
        if starting {
            *phase = Phase::Running;
        }
        starting
    });
}

impl Supervisor {
    pub(crate) async fn shutdown(&self, context: &Arc<Context>, drain: Duration) -> Left {
        let mut stopping = self.stopping.lock().await;
        if let Some(left) = &*stopping {
            return left.clone();
        }
        self.phase.send_replace(Phase::Draining);
        tracing::info!("stopping: what is under way is brought to its end");
        context.stop.polls.cancel();
        context.runs.close();
        let drained = tokio::time::timeout(drain, drained(context)).await.is_ok();
        if !drained {
            tracing::warn!("the time to stop in is over; what is still under way is broken off");
            context.stop.all.cancel();
            context.runs.wait().await;
            context.crew.ended().await;
        }
        context.stop.all.cancel();
        self.beside.lock().await.shutdown().await;
        housekeeping::deliver_pending(context).await;
        let left = Left { behind: behind(context).await, broken_off: !drained };
        self.phase.send_replace(Phase::Stopped);
        *stopping = Some(left.clone());
        left
    }
}

/// Polls end first, so that the layers have an end to reach.
async fn drained(context: &Context) {
    context.runs.wait().await;
    context.stop.layers.cancel();
    context.crew.ended().await;
}

async fn behind(context: &Context) -> Vec<(EntityId, alluvium_model::Layer, u64)> {
    let mut behind = Vec::new();
    for ((entity, layer), slot) in context.board.all() {
        let Ok((_, end)) = context.platform.publisher.end(&entity).await else { continue };
        let missing = end.saturating_sub(slot.state().applied);
        if missing > 0 {
            behind.push((entity, layer, missing));
        }
    }
    behind
}

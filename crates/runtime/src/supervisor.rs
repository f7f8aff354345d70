//! Starting and stopping.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::EntityId;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::board::LayerPhase;
use crate::context::Context;
use crate::crew::layers_of;
use crate::error::RuntimeError;
use crate::handle::{Left, RuntimeHandle};
use crate::housekeeping;
use crate::platform::Platform;
use crate::recall::recall;
use crate::scheduler;
use crate::share;
use crate::standby;
use crate::status::Phase;
use crate::trigger::Schedule;
use crate::workforce::{Schedules, Workforce};

/// So long a stop waits for the delivery of audit events.
const DELIVERY: Duration = Duration::from_secs(5);

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
        let context = Arc::new(Context::new(platform, triggers == Triggers::Heeded));
        if let Some(workforce) = &context.workforce {
            // Others have runs open too; those of the dead are told from ours once we are listed.
            workforce.pulse.begin().await.map_err(RuntimeError::from)?;
        }
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
        beside.spawn(housekeeping::measure(Arc::clone(&context)));
        if context.workforce.is_some() {
            beside.spawn(share::share(Arc::clone(&context), schedules));
            beside.spawn(standby::stand_by(Arc::clone(&context)));
            beside.spawn(await_roster(Arc::clone(&context), Arc::clone(&supervisor)));
        } else {
            beside.spawn(start_layers(Arc::clone(&context), Arc::clone(&supervisor), known));
            beside.spawn(housekeeping::deliver(Arc::clone(&context)));
            beside.spawn(housekeeping::retain(Arc::clone(&context)));
            for (system, schedules) in schedules {
                beside.spawn(scheduler::schedule(Arc::clone(&context), system, schedules));
            }
        }
        drop(beside);
        Ok(RuntimeHandle { context, supervisor })
    }
}

/// All triggers are read before anything starts, so that a wrong one is told at once.
fn read_triggers(platform: &Platform, triggers: Triggers) -> Result<Schedules, RuntimeError> {
    let mut all = Schedules::new();
    for system in platform.systems.iter() {
        let name = system.name.clone();
        let read = Schedule::of(system);
        let schedules =
            read.map_err(|source| RuntimeError::Trigger { system: name.clone(), source })?;
        if system.enabled && triggers == Triggers::Heeded && !schedules.is_empty() {
            all.insert(name, schedules);
        }
    }
    Ok(all)
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
    supervisor.runs();
}

/// Everything is at work once it is known who else works.
async fn await_roster(context: Arc<Context>, supervisor: Arc<Supervisor>) {
    for spec in context.entities() {
        let layers: Vec<_> = layers_of(&spec).collect();
        context.platform.metrics.entity_known(&spec.id(), &layers);
    }
    if let Some(workforce) = &context.workforce {
        workforce.settle(&context).await;
    }
    supervisor.runs();
}

impl Supervisor {
    fn runs(&self) {
        self.phase.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Running;
            }
            starting
        });
    }

    pub(crate) async fn shutdown(&self, context: &Arc<Context>, drain: Duration) -> Left {
        let mut stopping = self.stopping.lock().await;
        if let Some(left) = &*stopping {
            return left.clone();
        }
        self.phase.send_replace(Phase::Draining);
        tracing::info!("stopping: what is under way is brought to its end");
        context.stop.polls.cancel();
        if let Some(workforce) = &context.workforce {
            workforce.leave();
        }
        context.runs.close();
        let drained = tokio::time::timeout(drain, drained(context)).await.is_ok();
        if !drained {
            tracing::warn!("the time to stop in is over; what is still under way is broken off");
            context.stop.all.cancel();
            context.runs.wait().await;
            context.crew.ended().await;
        }
        context.stop.all.cancel();
        // The house was given back; where nobody else is there to keep it, events would wait.
        let delivers = |of: &Workforce| of.keeps_house() || of.is_alone();
        if context.workforce.as_ref().is_none_or(delivers) {
            let delivered = housekeeping::deliver_pending(context);
            // What is not delivered now stays in the outbox.
            if tokio::time::timeout(DELIVERY, delivered).await.is_err() {
                tracing::warn!("audit events wait for the next start: the bus does not take them");
            }
        }
        // Before the worker is signed off: it must not tell once more that it is alive.
        self.beside.lock().await.shutdown().await;
        if let Some(workforce) = &context.workforce {
            workforce.left().await;
        }
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

/// What others may go on with is not left behind.
async fn behind(context: &Context) -> Vec<(EntityId, alluvium_model::Layer, u64)> {
    let mut behind = Vec::new();
    if context.workforce.is_some() {
        return behind;
    }
    for ((entity, layer), slot) in context.board.all() {
        let Ok((_, end)) = context.platform.publisher.end(&entity).await else { continue };
        let missing = end.saturating_sub(slot.state().applied);
        if missing > 0 {
            behind.push((entity, layer, missing));
        }
    }
    behind
}

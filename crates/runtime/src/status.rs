//! How everything stands, for people and for the readiness probe.

use std::collections::BTreeSet;

use alluvium_ledger::{LeaseName, Worker};
use alluvium_model::{EntityId, Epoch, Layer, Role, RunId, SystemName};
use jiff::Timestamp;
use serde::Serialize;

use crate::board::{LayerPhase, LayerState};
use crate::context::{Context, SystemState};
use crate::housekeeping::waited;
use crate::report::RunReport;
use crate::standby::StandbyState;
use crate::workforce::Workforce;

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Layers are asking the lake how far they got.
    Starting,
    /// Everything is at work.
    Running,
    /// It was asked to stop; what is under way is brought to its end.
    Draining,
    /// It has stopped.
    Stopped,
}

/// How everything stands.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// What the process is doing.
    pub phase: Phase,
    /// Who works, where several processes share the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerStatus>,
    /// All systems, by name.
    pub systems: Vec<SystemStatus>,
    /// All entities that are known, by name.
    pub entities: Vec<EntityStatus>,
}

/// How this process stands among those that share the work.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerStatus {
    /// What this process is called.
    pub id: String,
    /// What it does of the work.
    pub roles: BTreeSet<Role>,
    /// Whether the ledger heard of it in time; if not, others may have its work.
    pub is_heard: bool,
    /// What it holds: layers of entities, triggers of systems.
    pub holds: Vec<LeaseName>,
    /// The entities whose silver another process writes, and this one is to be ready for.
    pub stands_by: Vec<StandbyStatus>,
    /// All that work, as the ledger told last.
    pub workers: Vec<Worker>,
}

/// How far a process is that stands by for an entity's silver.
#[derive(Debug, Clone, Serialize)]
pub struct StandbyStatus {
    /// The entity.
    pub entity: EntityId,
    /// How far it is.
    #[serde(flatten)]
    pub state: StandbyState,
}

/// How a system stands.
#[derive(Debug, Clone, Serialize)]
pub struct SystemStatus {
    /// The system.
    pub system: SystemName,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether its triggers are heeded.
    pub enabled: bool,
    /// The run that is under way.
    pub running: Option<RunId>,
    /// When the next run is due by itself.
    pub next_run: Option<Timestamp>,
    /// The last run that ended since the process started.
    pub last_run: Option<RunReport>,
    /// Runs that were due while another was under way, since the process started.
    pub skipped_triggers: u64,
}

/// How an entity stands.
#[derive(Debug, Clone, Serialize)]
pub struct EntityStatus {
    /// The entity.
    pub entity: EntityId,
    /// The topic's incarnation, if the bus has the topic.
    pub epoch: Option<Epoch>,
    /// The offset of the last message on the topic.
    pub end: u64,
    /// Its layers, as far as they were started.
    pub layers: Vec<LayerStatus>,
}

/// How a layer of an entity stands.
#[derive(Debug, Clone, Serialize)]
pub struct LayerStatus {
    /// The layer.
    pub layer: Layer,
    /// Where it is, and its last error.
    #[serde(flatten)]
    pub state: LayerState,
    /// Records on the bus that it has not landed; 0 where it is at work in another process.
    pub lag_records: u64,
    /// How long the oldest of them has waited, in seconds.
    pub lag_seconds: f64,
}

impl Status {
    /// Layers that have failed for good.
    pub fn stopped_layers(&self) -> impl Iterator<Item = (&EntityId, &LayerStatus)> {
        self.entities.iter().flat_map(|entity| {
            let stopped = entity.layers.iter().filter(|l| l.state.phase == LayerPhase::Stopped);
            stopped.map(|layer| (&entity.entity, layer))
        })
    }

    pub(crate) fn of(context: &Context, phase: Phase) -> Self {
        let systems = context.systems().map(SystemStatus::of).collect();
        let topics = (context.platform.topics)();
        let entities = context.entities().into_iter().map(|spec| {
            let id = spec.id();
            let topic = topics.iter().find(|topic| topic.topic == id);
            EntityStatus {
                epoch: topic.map(|topic| topic.epoch),
                end: topic.map_or(0, |topic| topic.end),
                layers: layers(context, &id, topic),
                entity: id,
            }
        });
        let worker = context.workforce.as_ref().map(|force| WorkerStatus::of(context, force));
        Self { phase, worker, systems, entities: entities.collect() }
    }
}

impl WorkerStatus {
    fn of(context: &Context, workforce: &Workforce) -> Self {
        let (pulse, roster) = (&workforce.pulse, workforce.roster());
        let since = roster.asked.map(|asked| context.platform.clock.since(asked));
        let worker = pulse.worker();
        let stands_by = workforce.standby().into_iter();
        let stands_by = stands_by.map(|(entity, state)| StandbyStatus { entity, state });
        Self {
            id: worker.id,
            roles: worker.roles,
            is_heard: since.is_some_and(|since| since < pulse.ttl() / 2),
            holds: pulse.held().into_keys().collect(),
            stands_by: stands_by.collect(),
            workers: roster.workers,
        }
    }
}

impl SystemStatus {
    fn of(system: &SystemState) -> Self {
        let seen = system.seen();
        Self {
            system: system.spec.name.clone(),
            kind: system.spec.kind.clone(),
            enabled: system.spec.enabled,
            running: seen.running,
            next_run: seen.next,
            last_run: seen.last,
            skipped_triggers: seen.skipped,
        }
    }
}

fn layers(
    context: &Context,
    entity: &EntityId,
    topic: Option<&alluvium_bus::TopicStats>,
) -> Vec<LayerStatus> {
    let now_us = context.now().as_microsecond();
    let slots = context.board.of(entity).into_iter();
    slots
        .map(|(layer, slot)| {
            // Of a layer that is at work elsewhere, what is known here is old.
            let topic = topic.filter(|_| context.does(entity, layer));
            let lag = topic.and_then(|t| t.layers.iter().find(|l| l.layer == layer));
            let since = lag.and_then(|lag| lag.waiting_since_us);
            LayerStatus {
                layer,
                state: slot.state(),
                lag_records: lag.map_or(0, |lag| lag.waiting_records),
                lag_seconds: waited(since, now_us).as_secs_f64(),
            }
        })
        .collect()
}

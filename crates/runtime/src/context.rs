//! What all tasks of the runtime share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alluvium_model::{EntityId, EntitySpec, Layer, RunId, SystemName, SystemSpec};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::Board;
use crate::budget::Budget;
use crate::crew::Crew;
use crate::error::RuntimeError;
use crate::platform::Platform;
use crate::report::RunReport;
use crate::workforce::Workforce;

/// What all tasks share.
pub(crate) struct Context {
    pub(crate) platform: Platform,
    pub(crate) board: Board,
    pub(crate) budget: Budget,
    pub(crate) crew: Crew,
    /// Who else works, and what is ours of the work; `None` where this process does everything.
    pub(crate) workforce: Option<Workforce>,
    pub(crate) stop: Stop,
    /// Told when the ledger's outbox may have something.
    pub(crate) outbox: Notify,
    /// How many runs may still begin.
    pub(crate) turns: Semaphore,
    pub(crate) runs: TaskTracker,
    entities: RwLock<BTreeMap<EntityId, EntitySpec>>,
    /// Whether the ledger lacks what sources told of them.
    pub(crate) is_untold: AtomicBool,
    systems: BTreeMap<SystemName, SystemState>,
}

/// The steps of a stop, in their order.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// No further runs, and running ones end after their page.
    pub(crate) polls: CancellationToken,
    /// Layers end once they have everything.
    pub(crate) layers: CancellationToken,
    /// Everything ends now.
    pub(crate) all: CancellationToken,
}

/// A system, and what happens to it.
pub(crate) struct SystemState {
    pub(crate) spec: SystemSpec,
    /// Held by its run.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    seen: Mutex<SystemSeen>,
}

/// What is known of a system's runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct SystemSeen {
    pub(crate) running: Option<RunId>,
    pub(crate) last: Option<RunReport>,
    pub(crate) next: Option<Timestamp>,
    pub(crate) skipped: u64,
}

impl Context {
    /// `stays` tells whether the process goes on until it is stopped.
    pub(crate) fn new(platform: Platform, stays: bool) -> Self {
        let settings = &platform.settings;
        let workforce = settings.shared.then(|| Workforce::new(&platform, stays));
        let systems = platform.systems.iter().map(|s| (s.name.clone(), SystemState::new(s)));
        let entities = platform.entities.iter().map(|e| (e.id(), e.clone()));
        Self {
            board: Board::default(),
            budget: Budget::new(settings.memory_bytes),
            crew: Crew::default(),
            workforce,
            stop: Stop::default(),
            outbox: Notify::new(),
            turns: Semaphore::new(settings.max_concurrent_runs.max(1)),
            runs: TaskTracker::new(),
            entities: RwLock::new(entities.collect()),
            is_untold: AtomicBool::new(false),
            systems: systems.collect(),
            platform,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.platform.clock.now()
    }

    pub(crate) fn system(&self, name: &SystemName) -> Result<&SystemState, RuntimeError> {
        self.systems.get(name).ok_or_else(|| RuntimeError::UnknownSystem(name.clone()))
    }

    pub(crate) fn systems(&self) -> impl Iterator<Item = &SystemState> {
        self.systems.values()
    }

    /// Whether the layer is at work in this process, or would be.
    pub(crate) fn does(&self, entity: &EntityId, layer: Layer) -> bool {
        self.workforce.as_ref().is_none_or(|workforce| workforce.has(entity, layer))
    }

    /// The entity as it is known now: as declared, or as its source completed it.
    pub(crate) fn entity(&self, id: &EntityId) -> Result<EntitySpec, RuntimeError> {
        let entities = self.entities.read().unwrap_or_else(PoisonError::into_inner);
        entities.get(id).cloned().ok_or_else(|| RuntimeError::UnknownEntity(id.clone()))
    }

    pub(crate) fn entities(&self) -> Vec<EntitySpec> {
        let entities = self.entities.read().unwrap_or_else(PoisonError::into_inner);
        entities.values().cloned().collect()
    }

    /// The entities of a system as they were declared.
    pub(crate) fn declared(&self, system: &SystemName) -> Vec<EntitySpec> {
        let all = self.platform.entities.iter();
        all.filter(|entity| entity.system == *system).cloned().collect()
    }

    /// Whether an entity was declared.
    pub(crate) fn is_declared(&self, id: &EntityId) -> bool {
        self.platform.entities.iter().any(|entity| entity.id() == *id)
    }

    /// Remembers entities as they are known now; whether any of them is news.
    pub(crate) fn learn(&self, specs: &[EntitySpec]) -> bool {
        let mut entities = self.entities.write().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for spec in specs {
            let known = entities.insert(spec.id(), spec.clone());
            news |= known.as_ref() != Some(spec);
        }
        news
    }
}

impl SystemState {
    fn new(spec: &SystemSpec) -> Self {
        Self { spec: spec.clone(), turn: Arc::default(), seen: Mutex::default() }
    }

    pub(crate) fn seen(&self) -> SystemSeen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut SystemSeen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

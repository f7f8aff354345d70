//! Fakes and a platform for tests: real bus and ledger in a temp folder, scripted sources and
//! layers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what goes wrong here ends the test that asked for it"
)]

pub mod lake;
pub mod source;
pub mod subscribe;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_bus::testkit::ScriptedPublisher;
use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_connector::{ConnectContext, Registry};
use alluvium_ledger::{Ledger, OutboxEvent, SqlLedger};
use alluvium_model::{
    Clock, Column, ColumnType, EntityId, EntitySpec, Publisher, SystemClock, SystemName, SystemSpec,
};
use alluvium_telemetry::{BuildInfo, Metrics};
use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;

use self::lake::{Lake, SharedLake};
use self::source::{Fake, Script};
use self::subscribe::ForgetfulBus;
use crate::{EventSink, Platform, RetryPolicy, Runtime, RuntimeHandle, RuntimeSettings, Triggers};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the leases of workers last: short, but long for a machine under load.
pub const LEASE: Duration = Duration::from_secs(5);

/// Everything a runtime stands on; outlives the runtimes that are started on it.
pub struct World {
    /// Where everything durable lives.
    pub folder: TempDir,
    /// The bus.
    pub bus: Arc<EmbeddedBus>,
    /// The way onto it, with scripted faults.
    pub publisher: Arc<ScriptedPublisher>,
    /// The way from it, which may forget.
    pub subscribe: Arc<ForgetfulBus>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The layers.
    pub lake: Arc<Lake>,
    /// What was measured.
    pub metrics: Arc<Metrics>,
    /// The audit events that were delivered.
    pub events: Arc<Events>,
    /// Settings with short waits; raw lingers for an hour.
    pub settings: RuntimeSettings,
    /// The systems.
    pub systems: Vec<SystemSpec>,
    /// The entities.
    pub entities: Vec<EntitySpec>,
}

/// The ids of the audit events that were delivered.
#[derive(Default)]
pub struct Events(pub Mutex<Vec<String>>);

#[async_trait]
impl EventSink for Events {
    async fn deliver(&self, event: &OutboxEvent) -> Result<(), String> {
        self.0.lock().unwrap().push(event.id.clone());
        Ok(())
    }
}

impl World {
    /// An empty world: no systems, nothing on the bus.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus = EmbeddedBus::open(
            &folder.path().join("bus"),
            BusSettings::default(),
            Arc::clone(&clock),
        );
        let bus = bus.unwrap();
        let ledger = SqlLedger::open(&folder.path().join("ledger.db"), clock).await.unwrap();
        let inner: Arc<dyn Publisher> = bus.clone();
        let build = BuildInfo { version: "0", revision: "test" };
        Self {
            publisher: Arc::new(ScriptedPublisher::over(inner)),
            subscribe: Arc::new(ForgetfulBus::over(bus.clone())),
            bus,
            folder,
            ledger: Arc::new(ledger),
            lake: Arc::default(),
            metrics: Arc::new(Metrics::new(build).unwrap()),
            events: Arc::default(),
            settings: RuntimeSettings {
                raw_linger: Duration::from_secs(3600),
                retry: RetryPolicy {
                    initial: Duration::from_millis(2),
                    max: Duration::from_millis(10),
                    attempts: 3,
                },
                lease_ttl: Duration::from_secs(8),
                sample_every: Duration::from_millis(20),
                ..RuntimeSettings::default()
            },
            systems: Vec::new(),
            entities: Vec::new(),
        }
    }

    /// A system of the fake type with these entities, and its script.
    pub fn system(&mut self, name: &str, entities: &[&str]) -> Arc<Script> {
        let key = format!("{}/{name}", self.folder.path().display());
        let system = json!({"name": name, "type": "fake", "connection": {"script": key}});
        self.systems.push(serde_json::from_value(system).unwrap());
        for entity in entities {
            let spec = json!({"system": name, "name": entity, "keys": ["id"], "load": "delta"});
            let mut spec: EntitySpec = serde_json::from_value(spec).unwrap();
            spec.columns = vec![Column::new("id", ColumnType::Long)];
            self.entities.push(spec);
        }
        source::script(&key)
    }

    /// What a runtime is started with.
    pub fn platform(&self) -> Platform {
        let mut registry = Registry::default();
        registry.register::<Fake>();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus = Arc::clone(&self.bus);
        Platform {
            publisher: self.publisher.clone(),
            subscribe: self.subscribe.clone(),
            topics: Arc::new(move || bus.topic_stats()),
            ledger: Arc::clone(&self.ledger),
            stages: Arc::new(SharedLake(Arc::clone(&self.lake))),
            registry: Arc::new(registry),
            connect: ConnectContext::new(Arc::clone(&clock)),
            metrics: Arc::clone(&self.metrics),
            clock,
            resolve: Arc::new(|system| Ok(system.clone())),
            events: self.events.clone(),
            settings: self.settings.clone(),
            systems: self.systems.clone(),
            entities: self.entities.clone(),
        }
    }

    /// What a worker is started with that shares the work with others: it is called `name`, and has
    /// a connection of its own to the ledger, which can be cut.
    pub async fn worker(&self, name: &str) -> (Platform, Arc<SqlLedger>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ledger = SqlLedger::open(&self.folder.path().join("ledger.db"), clock).await;
        let ledger = Arc::new(ledger.unwrap());
        let build = BuildInfo { version: "0", revision: "test" };
        let mut platform = self.platform();
        platform.ledger = ledger.clone();
        platform.metrics = Arc::new(Metrics::new(build).unwrap());
        platform.settings.holder = name.to_owned();
        platform.settings.node = name.to_owned();
        platform.settings.shared = true;
        platform.settings.lease_ttl = LEASE;
        (platform, ledger)
    }

    /// Starts a worker that shares the work with others.
    pub async fn join(&self, name: &str) -> RuntimeHandle {
        let (platform, _) = self.worker(name).await;
        Box::pin(Runtime::start(platform, Triggers::Heeded)).await.unwrap()
    }

    /// Starts a runtime whose triggers are not heeded.
    pub async fn start(&self) -> RuntimeHandle {
        Runtime::start(self.platform(), Triggers::Ignored).await.unwrap()
    }
}

/// Reads a system's name.
pub fn name(system: &str) -> SystemName {
    system.parse().unwrap()
}

/// Reads an entity's id.
pub fn id(entity: &str) -> EntityId {
    entity.parse().unwrap()
}

/// Waits for something that no channel tells of, looking often.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let looked = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looked).await.is_ok(), "never: {what}");
}

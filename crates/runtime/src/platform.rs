//! What the runtime is given: ports, settings and metadata. It makes none of them itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::TopicStats;
use alluvium_connector::{ConnectContext, Registry};
use alluvium_ledger::{Ledger, OutboxEvent, Retention};
use alluvium_model::port::Subscribe;
use alluvium_model::{
    BusError, Clock, Delivery, EntityId, EntitySpec, Epochs, Layer, Ownership, Position, Publisher,
    Quarantined, Role, Stage, StageError, Subscriber, SystemSpec,
};
use alluvium_telemetry::Metrics;
use async_trait::async_trait;

use crate::retry::RetryPolicy;

/// Everything the runtime works with.
#[derive(Clone)]
pub struct Platform {
    /// The way onto the bus.
    pub publisher: Arc<dyn Publisher>,
    /// The way from the bus.
    pub subscribe: Arc<dyn Subscribe>,
    /// What the bus tells of its topics, for lag and depth. Called every few seconds.
    pub topics: Arc<dyn Fn() -> Vec<TopicStats> + Send + Sync>,
    /// Runs, batches, leases, quarantine.
    pub ledger: Arc<dyn Ledger>,
    /// The layers.
    pub stages: Arc<dyn Stages>,
    /// The connectors by system type.
    pub registry: Arc<Registry>,
    /// What connectors are given beside their settings.
    pub connect: ConnectContext,
    /// Where everything is measured.
    pub metrics: Arc<Metrics>,
    /// The only source of the time.
    pub clock: Arc<dyn Clock>,
    /// Puts secrets in the place of their references in a system's `connection`, just before
    /// connecting. The error tells the reason for people, without the secret.
    pub resolve: Resolve,
    /// Who is told the audit events.
    pub events: Arc<dyn EventSink>,
    /// Bounds and times.
    pub settings: RuntimeSettings,
    /// The systems, as declared.
    pub systems: Vec<SystemSpec>,
    /// The entities, as declared.
    pub entities: Vec<EntitySpec>,
}

/// Gives a system with the secrets in its `connection` in place, or the reason why not.
pub type Resolve = Arc<dyn Fn(&SystemSpec) -> Result<SystemSpec, String> + Send + Sync>;

/// Opens the layers of entities.
#[async_trait]
pub trait Stages: Send + Sync {
    /// The layer of an entity; `timezone` is the zone of its system's times that have none. Called
    /// when the layer starts, and again after each of its errors, when the stage opened before has
    /// been dropped. Never concurrently for one layer of one entity. Where other processes could
    /// write the layer too, `owner` is the right by which it is written: nothing may become part of
    /// the lake once that is over.
    async fn open(
        &self,
        entity: &EntitySpec,
        timezone: &str,
        layer: Layer,
        owner: Option<&Ownership>,
    ) -> Result<Box<dyn Stage>, StageError>;

    /// Whether this layer of the entity puts what it refuses into quarantine. At most one does, so
    /// that a record is listed once.
    fn refuses(&self, entity: &EntitySpec, layer: Layer) -> bool;

    /// The records of a delivery that the entity's layers refuse, found from its messages alone.
    /// Called for what the layer that refuses has applied before, where the ledger was not told.
    async fn refused(
        &self,
        entity: &EntitySpec,
        timezone: &str,
        delivery: &Delivery,
    ) -> Result<Vec<Quarantined>, StageError>;

    /// The epochs that the lake knows of an entity, and which of them are over. Asked whenever a
    /// layer starts.
    async fn epochs(&self, entity: &EntityId) -> Result<Epochs, StageError>;

    /// Raw as a subscriber, standing after the message at `after` (offset 0: at the beginning of
    /// that epoch), or at the beginning of what there is. Gives an empty delivery where raw ends.
    async fn replay(
        &self,
        entity: &EntityId,
        after: Option<Position>,
    ) -> Result<Box<dyn Subscriber>, BusError>;
}

/// Takes audit events out of the ledger's outbox.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Delivers an event. `Ok` means that it need not come again; it may all the same, with the
    /// same id. Called for one event after the other, in their order. The error is for people.
    async fn deliver(&self, event: &OutboxEvent) -> Result<(), String>;
}

/// Bounds and times of the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeSettings {
    /// Who we are to other processes. Where one process does everything, it is the same after a
    /// restart, so that leases of our own are taken over at once; where several share the work, it
    /// is another one in each life.
    pub holder: String,
    /// What the place is called that we work in, where the work is shared: the same after a restart,
    /// so that the work comes back to the key indexes that are there. Kept with them, and lost with
    /// them.
    pub node: String,
    /// Whether other processes share the work.
    pub shared: bool,
    /// What this one does of it, where it is shared.
    pub roles: BTreeSet<Role>,
    /// So many systems are polled at the same time.
    pub max_concurrent_runs: usize,
    /// So many bytes all layers together may take for batches that they are working on.
    pub memory_bytes: usize,
    /// A batch ends at so many records.
    pub batch_records: u64,
    /// A batch ends at so many bytes of payload.
    pub batch_bytes: usize,
    /// So long raw may wait for more before it writes an object.
    pub raw_linger: Duration,
    /// What comes after a failure that may mend itself.
    pub retry: RetryPolicy,
    /// How long a lease lasts; its holder stops at half of it.
    pub lease_ttl: Duration,
    /// A poll, or connecting, that takes longer has failed.
    pub poll_timeout: Duration,
    /// How often lag and depth are measured.
    pub sample_every: Duration,
    /// What the ledger keeps.
    pub retention: Retention,
    /// How often the ledger forgets the rest.
    pub retention_every: Duration,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            holder: "alluvium".to_owned(),
            node: String::new(),
            shared: false,
            roles: Role::all(),
            max_concurrent_runs: 4,
            memory_bytes: 512_000_000,
            batch_records: 250_000,
            batch_bytes: 64_000_000,
            raw_linger: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            lease_ttl: Duration::from_secs(60),
            poll_timeout: Duration::from_secs(600),
            sample_every: Duration::from_secs(5),
            retention: Retention::default(),
            retention_every: Duration::from_secs(3600),
        }
    }
}

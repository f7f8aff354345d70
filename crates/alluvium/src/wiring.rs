//! Concrete parts put together: the bus that the settings name, the lake in a folder or a bucket,
//! the ledger's database, the connectors.

mod engines;
mod node;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::Bus;
use alluvium_config::{
    ConfigError, ConnectorSchemas, LoadOptions, Metadata, Part, Reach, SchemaCatalog, Settings,
};
use alluvium_connector::{ConnectContext, Registry};
use alluvium_lake::Lake;
use alluvium_lake::index::IndexStore;
use alluvium_layers::rebuild::remove_leftovers;
use alluvium_ledger::{Ledger, Retention};
use alluvium_model::{Clock, EntityId, Layer, SystemClock};
use alluvium_runtime::{Claim, Platform, RetryPolicy, RuntimeSettings};
use alluvium_telemetry::{BuildInfo, Metrics};
use anyhow::Context;
use uuid::Uuid;

pub(crate) use self::engines::{lake, lake_to_write, ledger, ledger_tables, scratch};
use self::engines::{make_folder, open_index};
use self::stages::stages;
use crate::buses::{self, Opened};
use crate::cli::Cli;
use crate::gate::Gate;
use crate::tenancy::Tenancy;

/// The connectors that this binary has.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register::<crate::push::Push>();
    registry.register::<alluvium_connector_message::MessageConnector>();
    registry.register::<alluvium_connector_rest::RestConnector>();
    registry.register::<alluvium_connector_sqlite::SqliteConnector>();
    registry
}

/// The shapes of the connectors' settings, for checking metadata.
pub(crate) fn catalog(registry: &Registry) -> anyhow::Result<SchemaCatalog> {
    let mut catalog = SchemaCatalog::default();
    for kind in registry.types() {
        let schemas = ConnectorSchemas {
            connection: registry.connection_schema(kind)?,
            source: registry.source_schema(kind)?,
        };
        catalog.types.insert(kind.to_owned(), schemas);
    }
    Ok(catalog)
}

/// Settings as the command line asks for them.
pub(crate) fn settings(cli: &Cli) -> Result<Settings, ConfigError> {
    Settings::load(options(cli))
}

/// The same, with these settings over all others.
pub(crate) fn settings_with(
    cli: &Cli,
    settings: Vec<(String, String)>,
) -> Result<Settings, ConfigError> {
    let mut options = options(cli);
    options.overrides.extend(settings);
    Settings::load(options)
}

/// Settings and metadata, and all that is wrong with both at once.
pub(crate) fn validate(cli: &Cli) -> anyhow::Result<(Settings, Metadata)> {
    let registry = registry();
    let catalog = catalog(&registry)?;
    Ok(alluvium_config::validate(options(cli), &catalog, &|part| check(&registry, part))?)
}

/// The metadata, checked, for who only looks at them.
pub(crate) fn metadata(settings: &Settings) -> anyhow::Result<Metadata> {
    metadata_for(settings, Reach::Nowhere)
}

/// The metadata, checked, for who connects to the systems within `reach`.
pub(crate) fn metadata_for(settings: &Settings, reach: Reach<'_>) -> anyhow::Result<Metadata> {
    let registry = registry();
    let catalog = catalog(&registry)?;
    Ok(Metadata::load_with(settings, &catalog, &|part| check(&registry, part), reach)?)
}

fn options(cli: &Cli) -> LoadOptions {
    LoadOptions {
        path: cli.config.clone(),
        overrides: cli.set.clone(),
        environment: alluvium_config::Environment::of_process(),
    }
}

/// What a schema cannot say, the connectors check.
fn check(registry: &Registry, part: Part<'_>) -> Result<(), String> {
    let checked = match part {
        Part::Connection(system) => registry.check_connection(system),
        Part::Source(kind, entity) => registry.check_source(kind, entity),
    };
    checked.map_err(|error| error.to_string())
}

/// A platform, and what the command needs of its parts besides.
pub(crate) struct Wired {
    pub(crate) platform: Platform,
    pub(crate) lake: Lake,
    pub(crate) index: IndexStore,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    /// Of a bus that others could use too.
    pub(crate) tenancy: Option<Tenancy>,
}

impl Wired {
    /// The right to write layers of an entity, where others could have it too: whoever has it gives
    /// it back first.
    pub(crate) async fn claim(
        &self,
        id: &EntityId,
        layers: &[Layer],
    ) -> anyhow::Result<Option<Claim>> {
        let Platform { ledger, clock, settings, .. } = &self.platform;
        if !settings.shared {
            return Ok(None);
        }
        let claim =
            Claim::take(ledger, clock, &settings.holder, settings.lease_ttl, (id, layers)).await?;
        Ok(Some(claim))
    }

    /// The lake, in the hands of whoever has claimed the layer.
    pub(crate) fn lake_of(&self, claim: Option<&Claim>, layer: Layer) -> Lake {
        match claim.and_then(|claim| claim.owner(layer)) {
            Some(owner) => self.lake.held_by(owner.clone()),
            None => self.lake.clone(),
        }
    }
}

/// Opens everything that ingesting needs. Only one process may have the data folder open so.
pub(crate) async fn wire(settings: &Settings, metadata: Metadata) -> anyhow::Result<Wired> {
    enter(settings)?;
    let opened = buses::open(settings, Arc::new(SystemClock)).await?;
    let mut wired = wire_on(settings, metadata, opened).await?;
    if wired.bus.is_shared() {
        if settings.ledger.url.is_none() {
            tracing::info!(
                ledger = %settings.ledger_path().display(),
                "the ledger is a file: nobody else may use this bus but processes on this machine \
                 whose `ledger.path` names the same file"
            );
        }
        wired.tenancy = Some(Tenancy::take(&wired.bus, wired.ledger.as_ref()).await?);
        let gate = Arc::new(Gate::of(&wired.bus));
        wired.platform.publisher = Arc::clone(&gate) as _;
        wired.platform.subscribe = gate;
    }
    Ok(wired)
}

/// The same around a bus whatever stands on it of a move, for who moves.
pub(crate) async fn wire_to_move(settings: &Settings, metadata: Metadata) -> anyhow::Result<Wired> {
    enter(settings)?;
    let opened = buses::open_any(settings, Arc::new(SystemClock)).await?;
    wire_on(settings, metadata, opened).await
}

/// Makes the data folder. Relative paths in systems.json, such as a database file's, begin where
/// alluvium.toml stands.
fn enter(settings: &Settings) -> anyhow::Result<()> {
    make_folder(Some(&settings.data_path()))?;
    std::env::set_current_dir(settings.folder())
        .with_context(|| format!("cannot enter {}", settings.folder().display()))
}

async fn wire_on(
    settings: &Settings,
    metadata: Metadata,
    (bus, events): Opened,
) -> anyhow::Result<Wired> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let lake = lake_to_write(settings).await?;
    let index = open_index(settings)?;
    if let Err(error) = remove_leftovers(&lake, &scratch(settings)).await {
        tracing::warn!(%error, "what a rebuild left behind could not be removed");
    }
    let ledger = ledger(settings).await?;
    let metrics = Arc::new(Metrics::new(BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("ALLUVIUM_REVISION"),
    })?);
    let secrets = settings.secrets();
    let topics = Arc::clone(&bus);
    let platform = Platform {
        publisher: Arc::clone(&bus) as _,
        subscribe: Arc::clone(&bus) as _,
        topics: Arc::new(move || topics.topic_stats()),
        ledger: Arc::clone(&ledger),
        stages: Arc::new(stages(settings, lake.clone(), index.clone())?),
        registry: Arc::new(registry()),
        connect: ConnectContext::new(Arc::clone(&clock)),
        metrics: Arc::clone(&metrics),
        clock,
        resolve: Arc::new(move |system| {
            let connection = secrets
                .resolve(&system.connection)
                .map_err(|error| alluvium_model::error::chain(&error))?;
            Ok(alluvium_model::SystemSpec { connection, ..system.clone() })
        }),
        events,
        settings: runtime_settings(settings, bus.is_shared())?,
        systems: metadata.systems,
        entities: metadata.entities,
    };
    Ok(Wired { platform, lake, index, bus, ledger, metrics, tenancy: None })
}

fn runtime_settings(settings: &Settings, shared: bool) -> anyhow::Result<RuntimeSettings> {
    let (runtime, layers) = (&settings.runtime, &settings.layers);
    let kept = settings.ledger.retention.duration();
    Ok(RuntimeSettings {
        max_concurrent_runs: runtime.max_concurrent_runs as usize,
        memory_bytes: usize::try_from(runtime.memory_bytes.bytes())?,
        batch_records: layers.batch_records,
        batch_bytes: usize::try_from(layers.batch_bytes.bytes())?,
        raw_linger: layers.raw_linger_time.duration(),
        retry: RetryPolicy {
            initial: runtime.retry.initial.duration(),
            max: runtime.retry.max.duration(),
            attempts: runtime.retry.attempts,
        },
        retention: Retention {
            runs_age: kept,
            batches_age: kept,
            resolved_age: kept,
            ..Retention::default()
        },
        ..who(settings, shared)?
    })
}

/// Who we are to other processes. Alone, the same in each life, so that what a life that was killed
/// had is taken up at once; among others a new one each time, so that no two are taken for one.
fn who(settings: &Settings, shared: bool) -> anyhow::Result<RuntimeSettings> {
    let alone = RuntimeSettings::default();
    Ok(match shared {
        false => RuntimeSettings { lease_ttl: Duration::from_secs(60), ..alone },
        true => RuntimeSettings {
            shared,
            holder: worker_name(),
            node: node::name_of(&settings.data_path())?,
            lease_ttl: settings.runtime.lease_time.duration(),
            ..alone
        },
    })
}

/// A name that no other process has, and no later one will have.
pub(crate) fn worker_name() -> String {
    let unique = Uuid::new_v4().simple().to_string();
    format!("{}-{}", std::process::id(), &unique[..12])
}

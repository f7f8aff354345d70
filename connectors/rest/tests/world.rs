//! What the tests share: a system around a server, and entities.

use std::sync::Arc;
use std::time::Duration;

use alluvium_connector::contract::{Walked, drain};
use alluvium_connector::server::Server;
use alluvium_connector::{ConnectContext, Registry};
use alluvium_connector_rest::RestConnector;
use alluvium_model::clock::ManualClock;
use alluvium_model::{Cursor, EntitySpec, Source, SourceError, SystemSpec};
use serde_json::{Value, json};
use url::Url;

pub(crate) fn registry() -> Registry {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut registry = Registry::default();
    registry.register::<RestConnector>();
    registry
}

pub(crate) fn system(url: &Url, connection: Value) -> SystemSpec {
    let mut connection = connection;
    connection["base_url"] = Value::from(url.as_str());
    let spec = json!({"name": "api", "type": "rest", "connection": connection});
    serde_json::from_value(spec).unwrap()
}

/// An entity of rows `{id, value, updated}`.
pub(crate) fn entity(load: &str, source: Value) -> EntitySpec {
    serde_json::from_value(json!({
        "system": "api", "name": "things", "load": load, "source": source, "keys": ["id"],
        "columns": [
            {"name": "id", "type": "long", "nullable": false},
            {"name": "value", "type": "string"},
            {"name": "updated", "type": "timestamp"},
        ],
    }))
    .unwrap()
}

pub(crate) struct Api {
    pub(crate) server: Server,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entity: EntitySpec,
    source: Box<dyn Source>,
}

impl Api {
    pub(crate) async fn new(server: Server, declared: EntitySpec) -> Self {
        Self::with(server, declared, json!({})).await
    }

    pub(crate) async fn with(server: Server, declared: EntitySpec, connection: Value) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap()));
        let system = system(server.url(), connection);
        let context = ConnectContext::new(clock.clone());
        let mut source = registry().connect(&system, context).await.unwrap();
        let entity = source.discover(&[declared]).await.unwrap().all().unwrap().remove(0);
        Self { server, clock, entity, source }
    }

    /// A run to its end.
    pub(crate) async fn run(&mut self, from: Option<Cursor>) -> Result<Walked, SourceError> {
        self.clock.advance(Duration::from_secs(1));
        drain(&mut *self.source, &self.entity, from).await
    }

    pub(crate) fn source(&mut self) -> &mut dyn Source {
        &mut *self.source
    }
}

/// The ids of the rows of a run, in order.
pub(crate) fn ids(run: &Walked) -> Vec<i64> {
    let rows = run.changes().into_iter().map(|c| c.after.as_ref().unwrap().get());
    rows.map(|row| serde_json::from_str::<Value>(row).unwrap()["id"].as_i64().unwrap()).collect()
}

//! What the tests share: a database in a temporary folder, and a source that reads it.

use std::sync::Arc;
use std::time::Duration;

use alluvium_connector::contract::{Walked, drain};
use alluvium_connector::{ConnectContext, Registry};
use alluvium_connector_sqlite::SqliteConnector;
use alluvium_model::clock::ManualClock;
use alluvium_model::{Cursor, EntitySpec, Source, SourceError, SystemSpec};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqliteConnection};
use tempfile::TempDir;

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register::<SqliteConnector>();
    registry
}

pub(crate) fn entity(table: &str, load: &str, source: Value) -> EntitySpec {
    let mut source = source;
    source["table"] = Value::from(table);
    let name = table.to_lowercase().replace(' ', "_");
    let spec = json!({"system": "shop", "name": name, "load": load, "source": source});
    serde_json::from_value(spec).unwrap()
}

pub(crate) struct Shop {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) connection: Value,
    pub(crate) writer: SqliteConnection,
}

impl Shop {
    pub(crate) async fn new(sql: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let writer = options.connect().await.unwrap();
        let clock = Arc::new(ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap()));
        let connection = json!({"path": path, "busy_timeout_ms": 50});
        let mut shop = Self { folder, clock, connection, writer };
        shop.sql(sql).await;
        shop
    }

    pub(crate) async fn sql(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.writer).await.unwrap();
    }

    pub(crate) fn system(&self) -> SystemSpec {
        let spec = json!({"name": "shop", "type": "sqlite", "connection": self.connection});
        serde_json::from_value(spec).unwrap()
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Source>, SourceError> {
        registry().connect(&self.system(), ConnectContext::new(self.clock.clone())).await
    }

    pub(crate) async fn discover(
        &self,
        declared: &[EntitySpec],
    ) -> Result<Vec<EntitySpec>, SourceError> {
        self.connect().await?.discover(declared).await?.all()
    }

    /// A run to its end, by a new source.
    pub(crate) async fn run(
        &self,
        entity: &EntitySpec,
        from: Option<Cursor>,
    ) -> Result<Walked, SourceError> {
        self.clock.advance(Duration::from_secs(1));
        let mut source = self.connect().await?;
        let entity = source.discover(std::slice::from_ref(entity)).await?.all()?.remove(0);
        drain(&mut *source, &entity, from).await
    }
}

/// The rows of a run, in order.
pub(crate) fn rows(run: &Walked) -> Vec<String> {
    run.changes().iter().map(|c| c.after.as_ref().unwrap().get().to_owned()).collect()
}

/// A member of the rows of a run, in order.
pub(crate) fn values(run: &Walked, member: &str) -> Vec<Value> {
    let parse = |row: &String| serde_json::from_str::<Value>(row).unwrap()[member].clone();
    rows(run).iter().map(parse).collect()
}

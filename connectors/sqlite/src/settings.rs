//! What `systems.json` and `entities.json` say about a SQLite database.

use std::path::PathBuf;

use alluvium_connector::{ConnectContext, Connector};
use alluvium_model::metadata::Load;
use alluvium_model::{Source, SourceError, SystemSpec};
use async_trait::async_trait;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::source::SqliteSource;

/// The connector for systems of type `sqlite`.
pub struct SqliteConnector;

#[async_trait]
impl Connector for SqliteConnector {
    type Connection = SqliteConnection;
    type EntitySource = SqliteEntity;
    const TYPE: &'static str = "sqlite";

    async fn connect(
        system: &SystemSpec,
        connection: SqliteConnection,
        context: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        let zone = TimeZone::get(&system.timezone).map_err(|_| {
            let text = format!("system `{}`: unknown time zone `{}`", system.name, system.timezone);
            SourceError::Misconfigured(text)
        })?;
        let database = Database::new(&connection);
        drop(database.open().await?);
        let (name, tables) = (system.name.clone(), connection.tables);
        Ok(Box::new(SqliteSource { name, database, tables, zone, clock: context.clock }))
    }
}

/// How to reach a SQLite database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteConnection {
    /// The database file. It is only read.
    pub path: PathBuf,
    /// How long to wait for a writer that has locked the database, in milliseconds. Default 5000.
    #[serde(default = "default_busy")]
    #[schemars(range(max = 600_000))]
    pub busy_timeout_ms: u64,
    /// Which tables become entities without being declared. Default: none.
    #[serde(default)]
    pub tables: Option<Tables>,
}

/// Tables that become entities without being declared, and how they are loaded.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// The tables, by name or with `*` and `?`. Default: all.
    #[serde(default = "all")]
    pub include: Vec<String>,
    /// The tables to leave out, by name or with `*` and `?`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How they are loaded. Default `full`.
    #[serde(default)]
    pub load: Load,
    /// For `load: delta`: the column that tells when a row changed. Tables without it are loaded in
    /// full.
    #[serde(default)]
    pub cursor_column: Option<String>,
    /// For `load: delta`: how far each run reaches back, as in an entity.
    #[serde(default)]
    pub overlap: u64,
    /// Whether the rowid is the key of tables without a primary key. Default false: such tables
    /// are an error.
    #[serde(default)]
    pub rowid_key: bool,
}

/// Which table makes an entity.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteEntity {
    /// The table.
    pub table: String,
    /// For `load: delta`: the column that tells when a row changed; an index on it makes runs
    /// cheap. Its values must be all numbers or all texts that sort as times do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor_column: Option<String>,
    /// How far each run reaches back behind the highest value of the last: seconds for texts that
    /// are times, units for numbers. It should cover the longest transaction of the writers: rows
    /// that are committed later than this are missed. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overlap: u64,
    /// What becomes of rows whose cursor column is null. Default `read`.
    #[serde(default, skip_serializing_if = "NullCursor::is_default")]
    pub null_cursor: NullCursor,
    /// Whether the rowid is the key, of a table without a primary key. It then comes as the column
    /// `rowid`. Beware that `VACUUM` may number such rows anew. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rowid_key: bool,
    /// How many rows a page has at most. Default 10000.
    #[serde(default = "default_rows", skip_serializing_if = "is_default_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub page_rows: u32,
}

/// What becomes of rows whose cursor column is null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NullCursor {
    /// They are read at the begin of each run.
    #[default]
    Read,
    /// They are left out until they have a value.
    Skip,
}

impl NullCursor {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn default_busy() -> u64 {
    5_000
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

pub(crate) fn default_rows() -> u32 {
    10_000
}

fn is_default_rows(rows: &u32) -> bool {
    *rows == default_rows()
}

fn is_zero(overlap: &u64) -> bool {
    *overlap == 0
}

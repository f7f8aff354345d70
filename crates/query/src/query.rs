//! One read-only statement at a time, over everything there is.

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_lake::Lake;
use alluvium_ledger::LedgerTables;
use deltalake::datafusion::common::TableReference;
use deltalake::datafusion::execution::context::SQLOptions;
use deltalake::datafusion::execution::memory_pool::FairSpillPool;
use deltalake::datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use deltalake::datafusion::prelude::{DataFrame, SessionConfig, SessionContext};

use crate::catalog::{self, Places};
use crate::{Moment, QueryError, Rows, TableName, statement};

/// How much a query may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryOptions {
    /// Bytes of memory for sorting, grouping and joining, over all statements of one [`Query`] at
    /// a time. What does not fit goes to disk where it can.
    pub memory_bytes: usize,
    /// Bytes of temporary files.
    pub spill_bytes: u64,
    /// Where temporary files are written; the system's folder for them where none is given.
    pub spill_folder: Option<PathBuf>,
    /// Rows of an answer; more are kept back, and [`Rows::truncated`] says so.
    pub rows: Option<u64>,
    /// Threads that one statement may keep busy.
    pub parallelism: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            spill_bytes: 8 << 30,
            spill_folder: None,
            rows: None,
            parallelism: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// Answers statements. Cheap to clone; statements may run concurrently. To be used within a tokio
/// runtime.
#[derive(Clone)]
pub struct Query {
    pub(crate) context: SessionContext,
    places: Places,
    rows: Option<u64>,
}

impl Query {
    /// Queries over `lake`, and over the tables of a ledger, which need not be there before a
    /// statement names one of them. Reads nothing yet.
    pub fn open(lake: Lake, ledger: Option<LedgerTables>) -> Result<Query, QueryError> {
        Self::open_with(lake, ledger, QueryOptions::default())
    }

    /// [`open`](Self::open) with other limits.
    pub fn open_with(
        lake: Lake,
        ledger: Option<LedgerTables>,
        options: QueryOptions,
    ) -> Result<Query, QueryError> {
        let mut runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
            .with_max_temp_directory_size(options.spill_bytes);
        if let Some(folder) = options.spill_folder {
            runtime = runtime.with_temp_file_path(folder);
        }
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema(catalog::DEFAULT, catalog::NOWHERE)
            .with_create_default_catalog_and_schema(false)
            .with_target_partitions(options.parallelism.max(1));
        let runtime = runtime.build_arc()?;
        if let Some((store, url)) = lake.root() {
            runtime.register_object_store(&url, store);
        }
        let places = Places::new(lake, ledger);
        Ok(Query::of(config, runtime, places, options.rows))
    }

    /// The same, looking at tables from another moment. Memory and disk are shared.
    pub fn at(&self, moment: Moment) -> Query {
        let (config, runtime) = (self.context.copied_config(), self.context.runtime_env());
        Query::of(config, runtime, self.places.at(moment), self.rows)
    }

    /// The answer to one statement. `silver.shop.orders`, `bronze.…` and `raw.…` name the layers'
    /// tables, `shop.orders` is short for silver's, and `ledger.batch` names a table of the ledger.
    pub async fn sql(&self, sql: &str) -> Result<Rows, QueryError> {
        let state = self.context.state();
        let statement = statement::parse(&state, sql)?;
        let names = statement::names(&state, &statement)?;
        if names.iter().any(statement::is_about_tables) {
            self.places.refresh().await?;
        }
        for name in &names {
            self.check(name).await?;
        }
        self.places.moment().check(&names)?;
        let plan = state.statement_to_plan(statement).await?;
        read_only().verify_plan(&plan)?;
        self.run(self.context.execute_logical_plan(plan).await?).await
    }

    /// All tables there are: raw, bronze and silver by system and entity, then the ledger's.
    pub async fn list_tables(&self) -> Result<Vec<TableName>, QueryError> {
        self.places.list().await
    }

    fn of(
        config: SessionConfig,
        runtime: Arc<RuntimeEnv>,
        places: Places,
        rows: Option<u64>,
    ) -> Query {
        let context = SessionContext::new_with_config_rt(config, runtime);
        catalog::register(&context, &places);
        Query { context, places, rows }
    }

    pub(crate) async fn run(&self, frame: DataFrame) -> Result<Rows, QueryError> {
        Ok(Rows::new(frame.execute_stream().await?, self.rows))
    }

    /// Names that the engine would look for in places which are not there.
    async fn check(&self, name: &TableReference) -> Result<(), QueryError> {
        let known = match name {
            TableReference::Bare { table } => self.context.table_function(table).is_ok(),
            TableReference::Partial { .. } => true,
            TableReference::Full { catalog, .. } => catalog::NAMES.contains(&catalog.as_ref()),
        };
        if known || statement::is_about_tables(name) {
            return Ok(());
        }
        Err(self.places.missing(name.to_string()).await)
    }
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("places", &self.places).finish_non_exhaustive()
    }
}

/// What a plan may not hold, however it was worded.
fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

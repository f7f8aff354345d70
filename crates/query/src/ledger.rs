//! The ledger's tables, read-only, straight from its SQLite file.

mod batch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use deltalake::datafusion::catalog::{Session, TableProvider};
use deltalake::datafusion::error::{DataFusionError, Result};
use deltalake::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake::datafusion::logical_expr::{Expr, TableType};
use deltalake::datafusion::physical_plan::ExecutionPlan;
use deltalake::datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use deltalake::datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::QueryError;
use batch::LedgerBatch;

const TABLES: &str = include_str!("../queries/ledger_tables.sql");
const COLUMNS: &str = include_str!("../queries/ledger_columns.sql");
/// How long to wait for a writer that has locked the file.
const BUSY: Duration = Duration::from_secs(10);
/// Batches that are read ahead.
const AHEAD: usize = 2;

/// The ledger's file.
#[derive(Debug, Clone)]
pub(crate) struct LedgerFile {
    path: Arc<PathBuf>,
}

impl LedgerFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: Arc::new(path.to_owned()) }
    }

    /// The names of its tables and views; none where the file is not there yet.
    pub(crate) async fn tables(&self) -> Result<Vec<String>, QueryError> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let mut connection = self.connect().await?;
        let names = sqlx::query_scalar(TABLES).fetch_all(&mut connection).await;
        names.map_err(QueryError::ledger)
    }

    /// One of its tables; `None` if there is none of that name.
    pub(crate) async fn table(
        &self,
        name: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
        if !self.tables().await?.iter().any(|known| known == name) {
            return Ok(None);
        }
        let mut connection = self.connect().await?;
        let columns: Vec<(String, String)> = sqlx::query_as(COLUMNS)
            .bind(name)
            .fetch_all(&mut connection)
            .await
            .map_err(QueryError::ledger)?;
        let fields = columns.iter().map(|(name, kind)| Field::new(name, type_of(kind), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let table = LedgerTable { file: self.clone(), name: name.to_owned(), schema };
        Ok(Some(Arc::new(table)))
    }

    async fn connect(&self) -> Result<SqliteConnection, QueryError> {
        let options = SqliteConnectOptions::new()
            .filename(self.path.as_ref())
            .read_only(true)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        options.connect().await.map_err(QueryError::ledger)
    }
}

/// The type as which a column is shown. The ledger's tables are strict: there are no others.
fn type_of(declared: &str) -> DataType {
    match declared {
        "INTEGER" | "INT" => DataType::Int64,
        "REAL" => DataType::Float64,
        "BLOB" => DataType::Binary,
        _ => DataType::Utf8,
    }
}

#[derive(Debug)]
struct LedgerTable {
    file: LedgerFile,
    name: String,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for LedgerTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let statement = select(&self.name, &schema, limit);
        let read = Read { file: self.file.clone(), statement, schema: Arc::clone(&schema) };
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(read)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?))
    }
}

/// Names come from the file itself, and are quoted nonetheless.
fn select(table: &str, schema: &Schema, limit: Option<usize>) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|f| quoted(f.name())).collect();
    // Where only the count of rows is asked for, a column is needed all the same.
    let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    let mut statement = format!("SELECT {columns} FROM {}", quoted(table));
    if let Some(limit) = limit {
        statement.push_str(&format!(" LIMIT {limit}"));
    }
    statement
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One reading of a table.
#[derive(Debug)]
struct Read {
    file: LedgerFile,
    statement: String,
    schema: SchemaRef,
}

impl PartitionStream for Read {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), AHEAD);
        let sender = stream.tx();
        let (file, statement) = (self.file.clone(), self.statement.clone());
        let mut batch = LedgerBatch::new(&self.schema);
        stream.spawn(async move {
            let failed = |error| DataFusionError::from(QueryError::ledger(error));
            let mut connection = file.connect().await?;
            let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(&mut connection);
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                batch.push(&row).map_err(failed)?;
                if batch.is_full() && sender.send(Ok(batch.take()?)).await.is_err() {
                    return Ok(());
                }
            }
            // Nobody listening any more is no error.
            sender.send(Ok(batch.take()?)).await.ok();
            Ok(())
        });
        stream.build()
    }
}

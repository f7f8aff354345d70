//! The ledger's tables, read-only, as they stand in its database.

mod batch;

use std::sync::Arc;

use alluvium_ledger::{ColumnKind, LedgerError, LedgerReader, LedgerRow, LedgerTables};
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
use futures::stream::BoxStream;

use crate::QueryError;
use batch::LedgerBatch;

type Rows<'r> = BoxStream<'r, std::result::Result<LedgerRow, LedgerError>>;

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// The names of the tables and views; none where the ledger is not there yet.
pub(crate) async fn names(ledger: &LedgerTables) -> Result<Vec<String>, QueryError> {
    match ledger.connect().await? {
        Some(mut reader) => Ok(reader.tables().await?),
        None => Ok(Vec::new()),
    }
}

/// One of the tables; `None` if there is none of that name.
pub(crate) async fn open(
    ledger: &LedgerTables,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
    let Some(mut reader) = ledger.connect().await? else { return Ok(None) };
    if !reader.tables().await?.iter().any(|known| known == name) {
        return Ok(None);
    }
    let columns = reader.columns(name).await?;
    let fields = columns.iter().map(|(name, kind)| Field::new(name, type_of(*kind), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let table = LedgerTable { ledger: ledger.clone(), name: name.to_owned(), schema };
    Ok(Some(Arc::new(table)))
}

/// The type as which a column is shown.
fn type_of(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Number => DataType::Int64,
        ColumnKind::Bytes => DataType::Binary,
        ColumnKind::Text => DataType::Utf8,
    }
}

#[derive(Debug)]
struct LedgerTable {
    ledger: LedgerTables,
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
        let (ledger, table) = (self.ledger.clone(), self.name.clone());
        let read = Read { ledger, table, limit, schema: Arc::clone(&schema) };
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(read)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?))
    }
}

/// One reading of a table.
#[derive(Debug, Clone)]
struct Read {
    ledger: LedgerTables,
    table: String,
    limit: Option<usize>,
    schema: SchemaRef,
}

impl PartitionStream for Read {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), AHEAD);
        let sender = stream.tx();
        let read = self.clone();
        stream.spawn(async move {
            let mut batch = LedgerBatch::new(&read.schema);
            let Some(mut reader) = read.ledger.connect().await.map_err(failed)? else {
                return Ok(());
            };
            let mut rows = read.rows(&mut reader);
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

impl Read {
    fn rows<'r>(&self, reader: &'r mut LedgerReader) -> Rows<'r> {
        let columns: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        reader.rows(&self.table, &columns, self.limit)
    }
}

fn failed(error: LedgerError) -> DataFusionError {
    QueryError::from(error).into()
}

//! Raw records as a table, read object by object.

mod batch;

use std::sync::Arc;

use alluvium_lake::Lake;
use alluvium_lake::raw::{self, RawObject};
use alluvium_model::{EntityId, Position};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltalake::datafusion::catalog::{Session, TableProvider};
use deltalake::datafusion::error::{DataFusionError, Result};
use deltalake::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use deltalake::datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use deltalake::datafusion::physical_plan::ExecutionPlan;
use deltalake::datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use deltalake::datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::QueryError;
use batch::RawBatch;

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// The raw records of an entity.
#[derive(Debug)]
pub(crate) struct RawTable {
    lake: Lake,
    objects: Vec<RawObject>,
    schema: SchemaRef,
}

impl RawTable {
    /// The objects that are there now; `None` if there is none.
    pub(crate) async fn open(
        lake: &Lake,
        entity: EntityId,
    ) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
        let objects = raw::list(lake, &entity).await?;
        if objects.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self { lake: lake.clone(), objects, schema: batch::schema() })))
    }

    /// The objects that can hold rows for which all filters hold.
    fn candidates(&self, filters: &[Expr]) -> Vec<RawObject> {
        let mut objects = self.objects.clone();
        for position in filters.iter().filter_map(asked_position) {
            let holds = |object: &RawObject| {
                object.epoch == position.epoch && object.after < position.offset
            };
            // Objects ascend: of those that begin before it, the last holds it.
            objects = objects.into_iter().rev().find(holds).into_iter().collect();
        }
        objects
    }
}

#[async_trait]
impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let supported = |filter: &&Expr| match asked_position(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(supported).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let objects = self.candidates(filters);
        let records = Records { lake: self.lake.clone(), objects, schema: Arc::clone(&schema) };
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(records)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?))
    }
}

/// The position in `position = '…'`, with which a row of silver names its raw record.
fn asked_position(filter: &Expr) -> Option<Position> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else {
        return None;
    };
    let (column, literal) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(literal, _)) => (column, literal),
        (Expr::Literal(literal, _), Expr::Column(column)) => (column, literal),
        _ => return None,
    };
    if column.name != batch::POSITION {
        return None;
    }
    literal.try_as_str()??.parse().ok()
}

/// The records of some objects, in order. One object at a time is in memory.
#[derive(Debug)]
struct Records {
    lake: Lake,
    objects: Vec<RawObject>,
    schema: SchemaRef,
}

impl PartitionStream for Records {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), AHEAD);
        let sender = stream.tx();
        let (lake, objects) = (self.lake.clone(), self.objects.clone());
        let mut batch = RawBatch::new(&self.schema);
        stream.spawn(async move {
            for object in objects {
                let read = raw::read(&lake, &object).await;
                let (_, messages) = read.map_err(|e| DataFusionError::from(QueryError::from(e)))?;
                for message in messages {
                    batch.begin(&message);
                    for (index, line) in (0u32..).zip(message.lines()) {
                        batch.push(&message, index, line);
                        if batch.is_full() && sender.send(Ok(batch.take()?)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
            // Nobody listening any more is no error.
            sender.send(Ok(batch.take()?)).await.ok();
            Ok(())
        });
        stream.build()
    }
}

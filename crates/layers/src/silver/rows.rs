//! Planned rows as the columns of a silver file.

use std::sync::Arc;

use alluvium_model::{Message, SequencePart, StageError};
use arrow::array::{
    ArrayRef, BinaryBuilder, Decimal128Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::batch::{Origin, PlannedRow};
use super::closing::Closings;
use super::files::Names;
use super::gather::Incoming;
use super::values::ValueSources;
use crate::schema::timestamp_type;
use crate::text::Texts;

/// What the rows of a batch have in common.
pub(super) struct RowWriter<'w> {
    pub(super) schema: &'w SchemaRef,
    pub(super) incoming: &'w Incoming,
    pub(super) values: &'w ValueSources,
    pub(super) closings: &'w Closings,
    pub(super) batch_id: &'w str,
}

impl RowWriter<'_> {
    /// The rows as a batch of all columns but that of the partition.
    pub(super) fn write(
        &self,
        rows: &[&PlannedRow<'_>],
        names: &mut Names<'_>,
    ) -> Result<RecordBatch, StageError> {
        let bug = |what: &str| StageError::Bug(what.to_owned());
        let places = rows
            .iter()
            .map(|row| self.values.place(row.values))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| bug("a planned row has no values"))?;
        let mut columns = self.values.columns(&places)?;
        columns.extend(self.meta_columns(rows, names)?);
        let fields: Vec<_> =
            self.schema.fields().iter().filter(|f| f.name() != "_is_current").cloned().collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|error| StageError::Bug(error.to_string()))
    }

    /// The columns of ours, in the schema's order.
    fn meta_columns(
        &self,
        rows: &[&PlannedRow<'_>],
        names: &mut Names<'_>,
    ) -> Result<Vec<ArrayRef>, StageError> {
        let valid = self.valid_type()?;
        let from = parts(valid, rows.iter().map(|row| Some(row.opener_at)));
        let to = parts(valid, rows.iter().map(|row| row.closed_at));
        let n = rows.len();
        let mut key_hash = BinaryBuilder::with_capacity(n, n * 16);
        let mut row_hash = BinaryBuilder::with_capacity(n, n * 16);
        let mut op = StringBuilder::with_capacity(n, n);
        let mut seq = StringBuilder::with_capacity(n, n * 16);
        let mut last_seq = StringBuilder::with_capacity(n, n * 16);
        let mut changed =
            TimestampMicrosecondBuilder::with_capacity(n).with_data_type(timestamp_type());
        let mut run = StringBuilder::with_capacity(n, n * 36);
        let mut batch = StringBuilder::with_capacity(n, n * 32);
        let mut position = StringBuilder::with_capacity(n, n * 24);
        let mut ingested =
            TimestampMicrosecondBuilder::with_capacity(n).with_data_type(timestamp_type());
        let mut texts = Texts::default();
        let mut run_of = Runs::default();
        for row in rows {
            key_hash.append_value(row.key.to_be_bytes());
            row_hash.append_value(row.hashes.tracked.to_be_bytes());
            op.append_value(row.opener_op.as_str());
            seq.append_value(texts.hex(row.opener));
            last_seq.append_value(texts.hex(row.shown));
            position.append_value(texts.position(&row.position));
            match row.origin {
                Origin::Known(meta) => {
                    changed.append_option(meta.changed_at);
                    ingested.append_value(meta.ingested_at);
                    run.append_option(
                        Some(names.name(meta.run).map_err(super::index_error)?)
                            .filter(|name| !name.is_empty()),
                    );
                    batch.append_value(names.name(meta.batch).map_err(super::index_error)?);
                }
                Origin::Incoming(m, r) | Origin::Moved(m, r) => {
                    let (message, _, r) = self.incoming.row(m, r);
                    changed.append_option(r.changed_at);
                    ingested.append_value(message.published_at_us);
                    run.append_option(run_of.message(m, message));
                    batch.append_value(self.batch_id);
                }
                Origin::Closing(n) => {
                    let closing = &self.closings.all()[n as usize];
                    changed.append_option(closing.changed_at);
                    ingested.append_value(closing.ingested_at);
                    run.append_option(Some(&closing.run).filter(|run| !run.is_empty()));
                    batch.append_value(&closing.batch);
                }
            }
        }
        Ok(vec![
            Arc::new(key_hash.finish()),
            Arc::new(row_hash.finish()),
            from,
            to,
            Arc::new(op.finish()),
            Arc::new(seq.finish()),
            Arc::new(last_seq.finish()),
            Arc::new(changed.finish()),
            Arc::new(run.finish()),
            Arc::new(batch.finish()),
            Arc::new(position.finish()),
            Arc::new(ingested.finish()),
        ])
    }

    fn valid_type(&self) -> Result<&DataType, StageError> {
        let field = self.schema.field_with_name("_valid_from");
        field.map(|f| f.data_type()).map_err(|e| StageError::Bug(e.to_string()))
    }
}

/// The run of the message looked at last: its rows mostly follow each other.
#[derive(Default)]
struct Runs<'m>(Option<(u32, Option<&'m str>)>);

impl<'m> Runs<'m> {
    fn message(&mut self, number: u32, message: &'m Message) -> Option<&'m str> {
        match self.0 {
            Some((known, run)) if known == number => run,
            _ => {
                let run = message.headers.get(alluvium_wire::headers::RUN);
                self.0 = Some((number, run));
                run
            }
        }
    }
}

/// First parts of sequences as a column of the type that the entity's sequence has.
fn parts(kind: &DataType, values: impl Iterator<Item = Option<SequencePart>>) -> ArrayRef {
    match kind {
        DataType::Int64 => {
            let mut builder = Int64Builder::new();
            values.for_each(|value| match value {
                Some(SequencePart::Long(v)) => builder.append_value(v),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        DataType::Timestamp(..) => {
            let mut builder = TimestampMicrosecondBuilder::new().with_data_type(kind.clone());
            values.for_each(|value| match value {
                Some(SequencePart::Timestamp(v)) => builder.append_value(v),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = Decimal128Builder::new().with_data_type(kind.clone());
            values.for_each(|value| match value {
                Some(SequencePart::Decimal(v)) => builder.append_value(v),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
    }
}

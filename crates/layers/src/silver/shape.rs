//! How an entity's silver table is made: its columns, as they are declared and as the source has
//! changed them since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_lake::index::{Hashes, RowCodec};
use alluvium_lake::{TableSpec, path};
use alluvium_model::metadata::History;
use alluvium_model::{Column, ColumnType, EntitySpec, SequenceType, StageError};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use object_store::path::Path;

use super::late::Limits;
use super::mismatch;
use crate::decode::{Reshaped, RowDecoder};
use crate::schema::{EVOLVED, column_of, first_sequence_type, silver_schema, stored_columns};

/// How an entity's silver table is made.
pub(crate) struct Shape {
    /// The entity, with the columns that the source brought.
    pub(super) entity: EntitySpec,
    pub(super) timezone: String,
    /// Where the table stands.
    pub(super) path: Path,
    pub(super) decoder: RowDecoder,
    pub(super) codec: RowCodec,
    pub(super) schema: SchemaRef,
    pub(super) first: SequenceType,
    pub(super) limits: Limits,
    /// The stored columns in words, to tell whether values were stored for them.
    pub(super) columns: String,
    /// All that entries of an index depend on in words, to tell whether it was made for this.
    pub(super) fingerprint: String,
    /// Columns that the source brought, and whether they came without a type.
    evolved: BTreeMap<String, bool>,
    reshaped: Reshaped,
}

impl Shape {
    /// The shape as it is declared.
    pub(crate) fn new(entity: &EntitySpec, timezone: &str) -> Result<Self, StageError> {
        let path = path::silver(&entity.id());
        Self::of(entity.clone(), timezone, path, BTreeMap::new(), BTreeSet::new())
    }

    fn of(
        entity: EntitySpec,
        timezone: &str,
        path: Path,
        evolved: BTreeMap<String, bool>,
        dropped: BTreeSet<String>,
    ) -> Result<Self, StageError> {
        let undeclared = evolved.iter().filter(|(_, untyped)| **untyped);
        let undeclared = undeclared.map(|(name, _)| name.clone()).collect();
        let reshaped = Reshaped { undeclared, dropped };
        let decoder = RowDecoder::reshaped(&entity, timezone, &reshaped);
        let decoder = decoder.map_err(|e| mismatch(&e))?;
        let codec = RowCodec::new(Arc::clone(decoder.schema()))
            .map_err(|error| StageError::Mismatch(error.to_string()))?;
        let columns = words(stored_columns(&entity));
        let first = first_sequence_type(&entity);
        Ok(Self {
            path,
            schema: marked(&silver_schema(&entity), &evolved),
            limits: Limits::of(&entity, first)?,
            first,
            fingerprint: scoped(&entity, &columns),
            columns,
            timezone: timezone.to_owned(),
            entity,
            decoder,
            codec,
            evolved,
            reshaped,
        })
    }

    /// The same with the columns that a table has: in the table's order, those that the source
    /// brought among them, and no narrower than the table knows them.
    pub(super) fn standing(&self, table: &Schema) -> Result<Self, StageError> {
        let mut entity = self.entity.clone();
        let mut evolved = self.evolved.clone();
        let mut columns: Vec<Column> = Vec::with_capacity(entity.columns.len());
        for field in table.fields() {
            let Some(there) = column_of(field) else { continue };
            let known = entity.columns.iter().position(|column| column.name == there.name);
            match (known, field.metadata().get(EVOLVED)) {
                (Some(at), _) => columns.push(wider(entity.columns.remove(at), &there)),
                (None, Some(how)) => {
                    evolved.insert(there.name.clone(), how == UNTYPED);
                    columns.push(there);
                }
                (None, None) => {}
            }
        }
        columns.append(&mut entity.columns);
        entity.columns = columns;
        let dropped = self.reshaped.dropped.clone();
        Self::of(entity, &self.timezone, self.path.clone(), evolved, dropped)
    }

    /// The same with further columns. `untyped` are those of no type.
    pub(super) fn grown(&self, new: Vec<Column>, untyped: bool) -> Result<Self, StageError> {
        let (mut entity, mut evolved) = (self.entity.clone(), self.evolved.clone());
        evolved.extend(new.iter().map(|column| (column.name.clone(), untyped)));
        entity.columns.extend(new);
        let dropped = self.reshaped.dropped.clone();
        Self::of(entity, &self.timezone, self.path.clone(), evolved, dropped)
    }

    /// The same with a column that holds wider values.
    pub(super) fn widened(&self, column: &Column) -> Result<Self, StageError> {
        let mut entity = self.entity.clone();
        for known in entity.columns.iter_mut().filter(|known| known.name == column.name) {
            *known = wider(known.clone(), column);
        }
        let (evolved, dropped) = (self.evolved.clone(), self.reshaped.dropped.clone());
        Self::of(entity, &self.timezone, self.path.clone(), evolved, dropped)
    }

    /// The same with other columns dropped in the source.
    pub(super) fn dropping(&self, dropped: &BTreeSet<String>) -> Result<Self, StageError> {
        let (entity, evolved) = (self.entity.clone(), self.evolved.clone());
        Self::of(entity, &self.timezone, self.path.clone(), evolved, dropped.clone())
    }

    /// Whether the entity declares no order: records are in that of their arrival, and known again
    /// by the deliveries that they came in.
    pub(super) fn is_by_arrival(&self) -> bool {
        self.entity.sequence_by.is_empty()
    }

    /// The fingerprint of an index of rows that have the columns of a table, which may have had fewer
    /// then.
    pub(super) fn fingerprint_of(&self, table: &Schema) -> String {
        let there = |column: &&Column| table.field_with_name(&column.name).is_ok();
        scoped(&self.entity, &words(stored_columns(&self.entity).filter(there)))
    }

    /// A column of the table that this shape does not know.
    pub(super) fn lacks<'t>(&self, table: &'t Schema) -> Option<&'t str> {
        let mut values = table.fields().iter().filter(|field| column_of(field).is_some());
        let unknown = values.find(|field| self.entity.column(field.name()).is_none());
        unknown.map(|field| field.name().as_str())
    }

    /// The columns that the source has dropped.
    pub(super) fn dropped(&self) -> &BTreeSet<String> {
        &self.reshaped.dropped
    }

    /// The hashes of a row of the table, whose stored values are `values`, of which one is known.
    pub(super) fn hashes_of(&self, values: &RecordBatch, at: usize, tracked: u128) -> Hashes {
        let same = self.entity.columns.iter().all(|c| c.history != History::Latest);
        if same && self.entity.snapshot.scope.is_empty() {
            return Hashes { tracked, full: tracked, scope: 0 };
        }
        Hashes { tracked, ..self.decoder.hashes_of(values.columns(), at) }
    }

    /// The names of the stored columns, in their order.
    pub(super) fn stored(&self) -> Vec<&str> {
        self.codec.schema().fields().iter().map(|field| field.name().as_str()).collect()
    }

    /// What the table is to be.
    pub(super) fn table(&self) -> TableSpec {
        let mut stats = self.entity.keys.clone();
        stats.extend(["_valid_from".to_owned(), "_valid_to".to_owned()]);
        TableSpec {
            path: self.path.clone(),
            description: self.entity.description.clone(),
            schema: Arc::clone(&self.schema),
            partition_by: Some("_is_current"),
            deletion_vectors: true,
            stats,
        }
    }
}

/// Columns in words.
fn words<'c>(columns: impl Iterator<Item = &'c Column>) -> String {
    let word = |column: &Column| {
        let stored = crate::schema::stored_type(column);
        format!("{}:{stored:?}:{:?}", column.name, column.history)
    };
    columns.map(word).collect::<Vec<_>>().join(",")
}

/// Columns in words, with those before them that limit what a snapshot closes: entries carry a hash
/// of these.
fn scoped(entity: &EntitySpec, columns: &str) -> String {
    match entity.snapshot.scope.is_empty() {
        true => columns.to_owned(),
        false => format!("{},{columns}", serde_json::json!(entity.snapshot.scope)),
    }
}

const UNTYPED: &str = "untyped";
const TYPED: &str = "typed";

/// The fields of columns that the source brought say so.
fn marked(schema: &SchemaRef, evolved: &BTreeMap<String, bool>) -> SchemaRef {
    if evolved.is_empty() {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().map(|field| match evolved.get(field.name()) {
        None => Arc::clone(field),
        Some(untyped) => {
            let mut metadata = field.metadata().clone();
            let how = if *untyped { UNTYPED } else { TYPED };
            metadata.insert(EVOLVED.to_owned(), how.to_owned());
            Arc::new(field.as_ref().clone().with_metadata(metadata))
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A column that holds what either holds, where both are stored alike.
fn wider(column: Column, other: &Column) -> Column {
    let rank = |kind: ColumnType| match kind {
        ColumnType::Byte => 1,
        ColumnType::Short => 2,
        ColumnType::Integer => 3,
        ColumnType::Long | ColumnType::Double => 4,
        _ => 0,
    };
    if crate::schema::stored_type(&column) != crate::schema::stored_type(other) {
        return column;
    }
    let kind = if rank(other.kind) > rank(column.kind) { other.kind } else { column.kind };
    Column {
        kind,
        length: column.length.zip(other.length).map(|(a, b)| a.max(b)),
        precision: column.precision.zip(other.precision).map(|(a, b)| a.max(b)),
        ..column
    }
}

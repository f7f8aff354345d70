//! Silver: every version of every row, typed, in one Delta table per entity.
//!
//! A batch looks up its keys in the index, plans each of them, and writes what is new in one
//! commit: new versions, closed versions, and deletion vectors for the rows that they replace. It
//! reads nothing of the table but the closed versions that late events alter.

mod batch;
mod commit;
mod files;
mod gather;
mod hidden;
pub mod plan;
mod rebuild;
mod rows;
mod values;

use std::sync::Arc;

use alluvium_lake::index::{IndexError, KeyIndex, RowCodec};
use alluvium_lake::{Lake, Table, TableSpec, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, Counts, Delivery, EntitySpec, Layer, Outcome, RowsWritten, SequenceType,
    Stage, StageError,
};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::decode::{EntityError, RowDecoder};
use crate::ledger_note::{LayerNote, take_up};
use crate::schema::{first_sequence_type, silver_schema, stored_columns};
use files::FileNumbers;
use gather::{Incoming, Lookup};
pub(crate) use values::lake_error;

/// How an entity's silver table is made.
pub(crate) struct Shape {
    entity: EntitySpec,
    decoder: RowDecoder,
    codec: RowCodec,
    schema: SchemaRef,
    first: SequenceType,
    /// How many of the table's columns are stored ones.
    stored: usize,
    /// The stored columns in words, to tell whether an index was made for them.
    columns: String,
}

impl Shape {
    fn new(entity: &EntitySpec, timezone: &str) -> Result<Self, StageError> {
        let decoder = RowDecoder::new(entity, timezone).map_err(|e| mismatch(&e))?;
        let codec = RowCodec::new(Arc::clone(decoder.schema()))
            .map_err(|error| StageError::Mismatch(error.to_string()))?;
        let words = stored_columns(entity)
            .map(|c| format!("{}:{:?}:{:?}:{:?}", c.name, c.kind, c.scale, c.history));
        Ok(Self {
            schema: silver_schema(entity),
            first: first_sequence_type(entity),
            stored: stored_columns(entity).count(),
            columns: words.collect::<Vec<_>>().join(","),
            entity: entity.clone(),
            decoder,
            codec,
        })
    }

    fn table(&self) -> TableSpec {
        let mut stats = self.entity.keys.clone();
        stats.extend(["_valid_from".to_owned(), "_valid_to".to_owned()]);
        TableSpec {
            path: path::silver(&self.entity.id()),
            description: self.entity.description.clone(),
            schema: Arc::clone(&self.schema),
            partition_by: Some("_is_current"),
            deletion_vectors: true,
            stats,
            properties: Default::default(),
        }
    }
}

pub(crate) fn mismatch(error: &EntityError) -> StageError {
    StageError::Mismatch(error.to_string())
}

/// What the stage says of an error of the index. A damaged one is rebuilt when the stage opens
/// again, so that trying again mends it.
fn index_error(error: IndexError) -> StageError {
    if error.is_full() {
        return StageError::Full("the key index".to_owned());
    }
    StageError::Unavailable(alluvium_model::error::chain(&error))
}

/// What the stage says of an error met when the index was read for a batch. An index whose entries
/// do not read fits no version of the table from now on.
fn reading_error(index: &KeyIndex, error: IndexError) -> StageError {
    if matches!(error, IndexError::Damaged)
        && let Err(second) = index.distrust()
    {
        return index_error(second);
    }
    index_error(error)
}

/// The silver layer of one entity.
pub struct SilverStage {
    lake: Lake,
    index: KeyIndex,
    shape: Shape,
    open: Option<Open>,
}

/// The table, and what goes with its present version.
struct Open {
    table: Table,
    numbers: FileNumbers,
    progress: Option<Progress>,
}

impl SilverStage {
    /// The stage of `entity`. Opens nothing yet.
    pub fn new(
        lake: Lake,
        index: KeyIndex,
        entity: &EntitySpec,
        timezone: &str,
    ) -> Result<Self, StageError> {
        Ok(Self { lake, index, shape: Shape::new(entity, timezone)?, open: None })
    }

    /// Opens the table, and makes the index fit its version.
    async fn open(&mut self) -> Result<&mut Open, StageError> {
        if self.open.is_none() {
            let table =
                Table::open_or_create(&self.lake, self.shape.table()).await.map_err(lake_error)?;
            let reflected = self.index.version(&self.shape.columns).map_err(index_error)?;
            if reflected != Some(table.version()) {
                rebuild::rebuild(&self.lake, &table, &self.index, &self.shape).await?;
            }
            let numbers = FileNumbers::load(&self.index, &table).map_err(index_error)?;
            let note = LayerNote::read(table.commit_info(), Layer::Silver)?;
            let progress = match note {
                None => None,
                Some(note) => Some(note.check(&table, &self.shape.entity.id())?),
            };
            self.open = Some(Open { table, numbers, progress });
        }
        self.open.as_mut().ok_or_else(|| StageError::Bug("the table is not open".to_owned()))
    }

    async fn apply_open(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        let before = self.open().await?.progress;
        let Some((span, messages)) = take_up(before.as_ref(), delivery)? else {
            return Ok(Vec::new());
        };
        let mut applied = Applied {
            layer: Layer::Silver,
            batch: BatchId::of(Layer::Silver, &delivery.entity, &span),
            span,
            counts: Counts::default(),
            rows: RowsWritten::default(),
            checksum: Default::default(),
            quarantined: Vec::new(),
            version: None,
            bytes: 0,
            published_at_us: messages.iter().map(|m| m.published_at_us).max().unwrap_or_default(),
        };
        let (incoming, lookup) = tokio::task::block_in_place(|| {
            let incoming = Incoming::decode(messages, &self.shape.decoder);
            let lookup = Lookup::load(&self.index, &incoming)?;
            Ok((incoming, lookup))
        })
        .map_err(|error| reading_error(&self.index, error))?;
        for (message, decoded) in incoming.messages.iter().zip(&incoming.decoded) {
            applied.counts.records += u64::from(message.records);
            applied.checksum += decoded.checksum;
            let controls = decoded.controls.len() as u64 + decoded.tombstones;
            applied.counts.add(Outcome::Control, controls);
            applied.counts.add(Outcome::Quarantined, decoded.rejects.len() as u64);
            applied.quarantined.extend(decoded.quarantined(message));
        }
        self.commit(&incoming, &lookup, before, &mut applied).await?;
        Ok(vec![applied])
    }
}

#[async_trait]
impl Stage for SilverStage {
    fn layer(&self) -> Layer {
        Layer::Silver
    }

    async fn progress(&mut self) -> Result<Option<Progress>, StageError> {
        // Asked after errors too: what stands in memory may be behind the table then.
        self.open = None;
        Ok(self.open().await?.progress)
    }

    async fn apply(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        let applied = self.apply_open(delivery).await;
        if applied.is_err() {
            self.open = None;
        }
        applied
    }

    async fn flush(&mut self) -> Result<Vec<Applied>, StageError> {
        Ok(Vec::new())
    }
}

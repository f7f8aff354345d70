//! Bronze: one append-only Delta table of documents per entity.

use std::sync::Arc;

use alluvium_lake::table::CompactionOutcome;
use alluvium_lake::upkeep::{TableUpkeep, UpkeepPolicy};
use alluvium_lake::{Commit, CommitOutcome, Lake, Table, TableSpec, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, Counts, Delivery, EntitySpec, Layer, Maintained, Message, Outcome,
    RowsWritten, Stage, StageError, Upkeep,
};
use arrow::array::{StringBuilder, TimestampMicrosecondBuilder};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use object_store::path::Path;
use rayon::prelude::*;

use crate::decode::{self, Decoded, RowDecoder};
use crate::epoch::go_on;
use crate::ledger_note::{LayerNote, conserved, take_up};
use crate::refused::refusing;
use crate::schema::{bronze_schema, timestamp_type};
use crate::silver::{lake_error, mismatch};
use crate::text::Texts;
use crate::upkeep;

/// The bronze layer of one entity.
pub struct BronzeStage {
    lake: Lake,
    entity: EntitySpec,
    decoder: RowDecoder,
    /// Whether it puts what it refuses into quarantine; else silver does.
    refuses: bool,
    open: Option<(Table, Option<Progress>)>,
    upkeep: TableUpkeep,
}

impl BronzeStage {
    /// The stage of `entity`. Opens nothing yet.
    pub fn new(lake: Lake, entity: &EntitySpec, timezone: &str) -> Result<Self, StageError> {
        let decoder = RowDecoder::new(entity, timezone).map_err(|e| mismatch(&e))?;
        let refuses = refusing(entity) == Some(Layer::Bronze);
        let upkeep = TableUpkeep::new(UpkeepPolicy::default());
        Ok(Self { lake, entity: entity.clone(), decoder, refuses, open: None, upkeep })
    }

    /// The stage with another policy of upkeep.
    pub fn with_upkeep(self, policy: UpkeepPolicy) -> Self {
        Self { upkeep: TableUpkeep::new(policy), ..self }
    }

    async fn open(&mut self) -> Result<&mut (Table, Option<Progress>), StageError> {
        if self.open.is_none() {
            let spec = TableSpec {
                path: path::bronze(&self.entity.id()),
                description: self.entity.description.clone(),
                schema: bronze_schema(),
                partition_by: None,
                deletion_vectors: false,
                stats: vec!["_ingested_at".to_owned()],
            };
            let mut table = Table::open_or_create(&self.lake, spec).await.map_err(lake_error)?;
            if !table.is_claimed() {
                upkeep::claim(&mut table).await?;
            }
            let note = LayerNote::of(&table, Layer::Bronze, &self.entity.id())?;
            self.open = Some((table, note.map(|note| note.progress())));
        }
        self.open.as_mut().ok_or_else(|| StageError::Bug("the table is not open".to_owned()))
    }

    /// Closes the table after an error, and says what it was.
    async fn given_up(&mut self, error: StageError) -> StageError {
        let error = upkeep::told_of(self.open.as_ref().map(|(table, _)| table), error).await;
        self.open = None;
        error
    }

    async fn apply_open(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        let before = self.open().await?.1;
        let before = go_on(&self.lake, before, delivery).await?;
        let Some((span, messages)) = take_up(before.as_ref(), delivery)? else {
            return Ok(Vec::new());
        };
        let batch = BatchId::of(Layer::Bronze, &delivery.entity, &span);
        let (rows, decoded) = tokio::task::block_in_place(|| {
            let decoded: Vec<Arc<Decoded>> =
                messages.par_iter().map(|m| decode::shared(m, &self.decoder)).collect();
            documents(&messages, &decoded, &batch.0).map(|rows| (rows, decoded))
        })
        .map_err(|error| StageError::Bug(error.to_string()))?;
        let mut applied = Applied {
            layer: Layer::Bronze,
            batch,
            span,
            counts: Counts::default(),
            rows: RowsWritten { opened: rows.num_rows() as u64, ..RowsWritten::default() },
            checksum: Default::default(),
            quarantined: Vec::new(),
            version: None,
            bytes: 0,
            published_at_us: messages.iter().map(|m| m.published_at_us).max().unwrap_or_default(),
        };
        applied.counts.add(Outcome::Inserted, rows.num_rows() as u64);
        for (message, decoded) in messages.iter().zip(&decoded) {
            applied.counts.records += u64::from(message.records);
            applied.checksum += decoded.checksum;
            applied.counts.add(Outcome::Control, decoded.control_records());
            applied.counts.add(Outcome::Quarantined, decoded.rejects.len() as u64);
            if self.refuses {
                applied.quarantined.extend(decoded.quarantined(message));
            }
        }
        conserved(&applied)?;
        self.commit(&rows, before, &mut applied).await?;
        Ok(vec![applied])
    }

    async fn maintain_open(&mut self, upkeep: Upkeep) -> Result<Maintained, StageError> {
        let all = upkeep == Upkeep::All;
        let mut done = Maintained::default();
        loop {
            self.open().await?;
            let Some((table, _)) = self.open.as_mut() else { return Ok(done) };
            let compacted = self.upkeep.compacted(table, all).await.map_err(lake_error)?;
            let Some(compacted) = compacted else { break };
            let outcome = upkeep::commit(table, compacted, &mut done).await.map_err(lake_error)?;
            if outcome == CompactionOutcome::Dropped {
                // Somebody else committed: what stands in memory is behind the table.
                self.open = None;
            }
            if !all {
                break;
            }
        }
        self.open().await?;
        let Some((table, _)) = self.open.as_mut() else { return Ok(done) };
        let of_table = &mut self.upkeep;
        upkeep::keep_log(of_table, table, all, &mut done).await.map_err(lake_error)?;
        if of_table.is_garbage_due(table, all) {
            let nothing: &(dyn Fn(&Path) -> bool + Sync) = &|_: &Path| false;
            let collected = upkeep::collect(of_table, table, ("", nothing), all, &mut done);
            collected.await.map_err(lake_error)?;
        }
        // The next one is prepared while batches come.
        of_table.begin_compaction(table).map_err(lake_error)?;
        Ok(done)
    }

    async fn commit(
        &mut self,
        rows: &RecordBatch,
        before: Option<Progress>,
        applied: &mut Applied,
    ) -> Result<(), StageError> {
        let note = LayerNote::following(before.as_ref(), applied);
        let id = self.entity.id();
        let (table, progress) = self.open().await?;
        let mut add = Vec::new();
        if rows.num_rows() > 0 {
            add.push(table.stage_file(rows, None).await.map_err(lake_error)?);
        }
        applied.bytes = add.iter().map(|file| file.size).sum();
        let commit = Commit {
            add,
            delete: Default::default(),
            txns: vec![note.txn(&id)],
            info: note.to_json(),
            operation: "WRITE",
        };
        match table.commit(commit).await.map_err(lake_error)? {
            CommitOutcome::Written { version, .. } => applied.version = Some(version),
            CommitOutcome::Conflict => {
                return Err(StageError::Unavailable(
                    "another writer committed meanwhile; asking the table how far bronze is"
                        .to_owned(),
                ));
            }
        }
        *progress = Some(note.progress());
        Ok(())
    }
}

/// The rows of messages as documents: the line as received, and what it says of itself.
fn documents(
    messages: &[Arc<Message>],
    decoded: &[Arc<Decoded>],
    batch_id: &str,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let n = decoded.iter().map(|d| d.rows.len()).sum();
    let bytes = messages.iter().map(|m| m.payload.len()).sum();
    let mut key = StringBuilder::with_capacity(n, n * 16);
    let mut op = StringBuilder::with_capacity(n, n);
    let mut seq = StringBuilder::with_capacity(n, n * 16);
    let mut changed =
        TimestampMicrosecondBuilder::with_capacity(n).with_data_type(timestamp_type());
    let mut run = StringBuilder::with_capacity(n, n * 36);
    let mut batch = StringBuilder::with_capacity(n, n * batch_id.len());
    let mut position = StringBuilder::with_capacity(n, n * 24);
    let mut ingested =
        TimestampMicrosecondBuilder::with_capacity(n).with_data_type(timestamp_type());
    let mut document = StringBuilder::with_capacity(n, bytes);
    let mut texts = Texts::default();
    for (message, decoded) in messages.iter().zip(decoded) {
        let run_id = message.headers.get(alluvium_wire::headers::RUN);
        let mut rows = decoded.rows.iter().peekable();
        for (index, line) in (0u32..).zip(message.lines()) {
            let Some(row) = rows.next_if(|row| row.index == index) else { continue };
            key.append_value(decoded.key(row));
            op.append_value(row.op.as_str());
            seq.append_value(texts.hex(decoded.sequence(row)));
            changed.append_option(row.changed_at);
            run.append_option(run_id);
            batch.append_value(batch_id);
            position.append_value(texts.position(&message.position(index)));
            ingested.append_value(message.published_at_us);
            // A line that is no UTF-8 was rejected when it was decoded.
            document.append_value(std::str::from_utf8(line).unwrap_or_default());
        }
    }
    RecordBatch::try_new(
        bronze_schema(),
        vec![
            Arc::new(key.finish()),
            Arc::new(op.finish()),
            Arc::new(seq.finish()),
            Arc::new(changed.finish()),
            Arc::new(run.finish()),
            Arc::new(batch.finish()),
            Arc::new(position.finish()),
            Arc::new(ingested.finish()),
            Arc::new(document.finish()),
        ],
    )
}

#[async_trait]
impl Stage for BronzeStage {
    fn layer(&self) -> Layer {
        Layer::Bronze
    }

    async fn progress(&mut self) -> Result<Option<Progress>, StageError> {
        // Asked after errors too: what stands in memory may be behind the table then.
        self.open = None;
        Ok(self.open().await?.1)
    }

    async fn apply(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        match self.apply_open(delivery).await {
            Ok(applied) => Ok(applied),
            Err(error) => Err(self.given_up(error).await),
        }
    }

    async fn flush(&mut self) -> Result<Vec<Applied>, StageError> {
        Ok(Vec::new())
    }

    async fn maintain(&mut self, upkeep: Upkeep) -> Result<Maintained, StageError> {
        match self.maintain_open(upkeep).await {
            Ok(maintained) => Ok(maintained),
            Err(error) => Err(self.given_up(error).await),
        }
    }
}

//! Silver: every version of every row, typed, in one Delta table per entity.
//!
//! A batch looks up its keys in the index, plans each of them, and writes what is new in one
//! commit: new versions, closed versions, and deletion vectors for the rows that they replace. It
//! reads nothing of the table but the closed versions that late events alter. What concerns the
//! whole entity, a truncate or the end of a snapshot, is an event of every key.

mod batch;
mod border;
mod bulk;
mod chain;
mod closing;
mod commit;
mod control;
mod deliveries;
mod evolve;
mod expire;
mod files;
mod follow;
mod gather;
mod hidden;
mod indexing;
mod key;
mod known;
mod late;
mod maintain;
pub mod plan;
mod rebuild;
mod rows;
mod shadow;
mod shape;
mod side;
mod unsent;
mod values;
mod versions;

use std::sync::Arc;

use alluvium_lake::index::{IndexError, KeyIndex, Writer};
use alluvium_lake::upkeep::UpkeepPolicy;
use alluvium_lake::{Lake, Table};
use alluvium_model::metadata::SnapshotOrder;
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, Counts, Delivery, EntityId, EntitySpec, Layer, Maintained, Message, Outcome,
    Quarantined, RowsWritten, Span, Stage, StageError, Upkeep,
};
use alluvium_wire::headers;
use async_trait::async_trait;

use crate::decode::EntityError;
use crate::epoch::go_on;
use crate::ledger_note::{LayerNote, conserved, take_up};
use crate::upkeep;
use batch::Planner;
pub(crate) use border::Borders;
use closing::Closings;
use commit::Planned;
use control::{ControlBatch, Controls};
use files::FileNumbers;
use follow::Followed;
use gather::{Incoming, Lookup};
use indexing::Writing;
use late::Late;
use maintain::SilverUpkeep;
pub(crate) use shadow::{SIDE_FILES, borders_of, distrust};
pub(crate) use shape::Shape;
use unsent::Completer;
use values::ValueSources;
pub(crate) use values::lake_error;

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
    /// The index, while the last batch goes into it.
    writing: Option<Writing>,
    upkeep: SilverUpkeep,
    /// How far the table was followed, while another process writes it.
    followed: Option<Box<Followed>>,
    /// The borders of the table whose place this one is to take.
    inherited: Borders,
    /// The right to write the index, from the first opening on; given back when all else is.
    writer: Option<Writer>,
}

/// The table, and what goes with its present version.
struct Open {
    table: Table,
    numbers: FileNumbers,
    progress: Option<Progress>,
    closings: Closings,
    /// The time of the entity's newest record, where one may be too late.
    newest: Option<i64>,
}

impl SilverStage {
    /// The stage of `entity`. Opens nothing yet.
    pub fn new(
        lake: Lake,
        index: KeyIndex,
        entity: &EntitySpec,
        timezone: &str,
    ) -> Result<Self, StageError> {
        let upkeep = SilverUpkeep::new(UpkeepPolicy::default());
        let (shape, inherited) = (Shape::new(entity, timezone)?, Borders::default());
        Ok(Self {
            lake,
            index,
            shape,
            open: None,
            writing: None,
            upkeep,
            followed: None,
            inherited,
            writer: None,
        })
    }

    /// The stage with another policy of upkeep.
    pub fn with_upkeep(self, policy: UpkeepPolicy) -> Self {
        Self { upkeep: SilverUpkeep::new(policy), ..self }
    }

    /// Opens the table, and makes the index fit its version.
    async fn open(&mut self) -> Result<&mut Open, StageError> {
        self.settle();
        if self.writer.is_none() {
            self.writer = Some(self.index.write().await);
        }
        if self.open.is_none() {
            if let Some(table) = self.standing_table().await? {
                self.shape = self.shape.standing(table.schema())?;
            }
            let table = Table::open_or_create(&self.lake, self.shape.table()).await;
            let mut table = table.map_err(|error| self.opening(lake_error(error)))?;
            let note = LayerNote::of(&table, Layer::Silver, &self.shape.entity.id())?;
            let newest = note.as_ref().and_then(|note| note.newest);
            let progress = note.map(|note| note.progress());
            let at = progress.map(|progress| (progress.epoch, progress.offset));
            let brought = follow::bring(&self.lake, &table, at, &self.index, &self.shape);
            let mut closings = Box::pin(brought).await.map_err(|error| self.opening(error))?;
            if !table.is_claimed() {
                // Of the rows nothing is altered, and so nothing of the index.
                upkeep::claim(&mut table).await?;
                let adopted = self.index.adopt(&table.mark(), &self.shape.fingerprint);
                adopted.map_err(index_error)?;
            }
            // Once they are among the closings, those tell also what they have refused since.
            if closings.borders.is_empty() {
                closings.borders = self.inherited.clone();
            }
            if closings.dropped != *self.shape.dropped() {
                self.shape = self.shape.dropping(&closings.dropped)?;
            }
            let numbers = FileNumbers::load(&self.index, &table).map_err(index_error)?;
            self.open = Some(Open { table, numbers, progress, closings, newest });
        }
        self.open.as_mut().ok_or_else(commit::not_open)
    }

    /// Waits until the index has what was applied before.
    fn settle(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        if let Err(error) = tokio::task::block_in_place(|| writing.done()) {
            // What it lacks is durable in the table; it is rebuilt when the stage opens again.
            tracing::warn!(%error, "the key index could not be written");
            self.open = None;
        }
    }

    /// The table as it stands, whatever its columns; `None` if there is none.
    async fn standing_table(&self) -> Result<Option<Table>, StageError> {
        if let Ok(table) = Table::open(&self.lake, &self.shape.path).await {
            return Ok(table);
        }
        // A newest log entry that is torn is set aside by the writer only, who may not know yet
        // what columns the table has.
        drop(Table::open_or_create(&self.lake, self.shape.table()).await);
        let table = Table::open(&self.lake, &self.shape.path).await;
        table.map_err(|error| self.opening(lake_error(error)))
    }

    /// What is said of an error met while the table was opened: of a damaged one, what mends it.
    fn opening(&self, error: StageError) -> StageError {
        match error {
            StageError::Corrupt(what) => StageError::Corrupt(format!(
                "{what}; `alluvium rebuild silver {}` makes the table anew from raw",
                self.shape.entity.id()
            )),
            error => error,
        }
    }

    /// Closes the table after an error, and says what it was.
    async fn given_up(&mut self, error: StageError) -> StageError {
        let table = self.open.as_ref().map(|open| &open.table);
        let error = upkeep::told_of(table, error).await;
        self.open = None;
        error
    }

    async fn apply_open(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        // Not by opening: messages are read while the index takes up the batch before.
        let before = match &self.open {
            Some(open) => open.progress,
            None => self.open().await?.progress,
        };
        let before = go_on(&self.lake, before, delivery).await?;
        if let Some(open) = &mut self.open {
            open.progress = before;
        }
        let Some((span, messages)) = take_up(before.as_ref(), delivery)? else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for (span, messages) in parts(span, messages) {
            all.push(self.apply_part(span, messages, &delivery.entity).await?);
        }
        Ok(all)
    }

    async fn apply_part(
        &mut self,
        span: Span,
        messages: Vec<Arc<Message>>,
        entity: &EntityId,
    ) -> Result<Applied, StageError> {
        let mut applied = Applied {
            layer: Layer::Silver,
            batch: BatchId::of(Layer::Silver, entity, &span),
            span,
            counts: Counts::default(),
            rows: RowsWritten::default(),
            checksum: Default::default(),
            quarantined: Vec::new(),
            version: None,
            bytes: 0,
            published_at_us: messages.iter().map(|m| m.published_at_us).max().unwrap_or_default(),
        };
        let decode = |shape: &Shape| Incoming::decode(messages.clone(), &shape.decoder);
        let mut incoming = tokio::task::block_in_place(|| decode(&self.shape));
        let open = self.open().await?;
        let (before, known, newest) = (open.progress, open.closings.clone(), open.newest);
        while self.take_over_members(&incoming).await? {
            incoming = tokio::task::block_in_place(|| decode(&self.shape));
        }
        let mut closings = known.clone();
        let refused = self.evolve(&incoming, &mut closings).await?;
        let late = Late::judge(&self.shape, &incoming, &mut closings, newest);
        let (lookup, mut controls) = tokio::task::block_in_place(|| {
            self.look_up(&mut incoming, closings, &late, refused, &mut applied)
        })
        .map_err(|error| reading_error(&self.index, error))?;
        controls.changed = controls.closings != known;
        let mut sources = ValueSources::new(&incoming);
        let Some(open) = self.open.as_ref() else { return Err(commit::not_open()) };
        let completer = Completer {
            decoder: &self.shape.decoder,
            codec: &self.shape.codec,
            table: &open.table,
            numbers: &open.numbers,
            closings: &controls.closings,
        };
        let completed = completer.complete(&incoming, &lookup, &mut sources, &self.index).await?;
        let planner = Planner {
            deletes: self.shape.entity.deletes,
            closings: &controls.closings,
            completed: &completed,
        };
        let plan = tokio::task::block_in_place(|| planner.plan(&incoming, &lookup))
            .map_err(|error| reading_error(&self.index, error))?;
        applied.counts += plan.counts;
        applied.rows = plan.written;
        conserved(&applied)?;
        let hidden = plan.hidden.iter().filter_map(|hidden| hidden.values);
        let wanted: Vec<_> = plan.rows.iter().map(|row| row.values).chain(hidden).collect();
        sources.load(&wanted, &self.shape.codec, &open.table, &open.numbers).await?;
        let planned = Planned {
            incoming: &incoming,
            plan: &plan,
            sources: &sources,
            codec: &self.shape.codec.clone(),
            closings: &controls.closings,
            closings_changed: controls.changed,
            newest: late.newest,
        };
        self.commit(&planned, before, &mut applied).await?;
        Ok(applied)
    }

    /// Counts what came in, and asks the index for the keys that it concerns.
    fn look_up(
        &self,
        incoming: &mut Incoming,
        mut closings: Closings,
        late: &Late,
        refused: Vec<Quarantined>,
        applied: &mut Applied,
    ) -> Result<(Lookup, Controls), IndexError> {
        let mut control = 0;
        for (message, decoded) in incoming.messages.iter().zip(&incoming.decoded) {
            applied.counts.records += u64::from(message.records);
            applied.checksum += decoded.checksum;
            control += decoded.control_records();
            applied.quarantined.extend(decoded.quarantined(message));
        }
        if !late.is_empty() {
            applied.quarantined.extend(late.rows(incoming));
            incoming.leave_out(late);
        }
        if self.shape.entity.snapshot.out_of_order == SnapshotOrder::Skip {
            applied.counts.add(gather::LEFT_OUT, incoming.skip_older(&closings));
        }
        if self.shape.is_by_arrival() {
            let borders = &mut closings.borders;
            let again = incoming.leave_out_known(&self.shape, late, borders, &self.index)?;
            applied.counts.add(Outcome::Duplicate, again);
        }
        let batch = ControlBatch { shape: &self.shape, incoming, late, id: &applied.batch.0 };
        let mut controls = Controls::read(&batch, closings, &self.index)?;
        controls.quarantined.extend(refused);
        let others = controls.concerned(&self.index)?;
        applied.counts.add(Outcome::Control, control - controls.quarantined.len() as u64);
        applied.quarantined.append(&mut controls.quarantined);
        applied.counts.add(Outcome::Quarantined, applied.quarantined.len() as u64);
        let lookup = Lookup::load(&self.index, incoming, others, controls.touched())?;
        Ok((lookup, controls))
    }
}

/// A stretch of messages cut so that each control record is a batch of its own: what it does may
/// depend on all that came before it, and must not depend on how deliveries are cut.
fn parts(span: Span, messages: Vec<Arc<Message>>) -> Vec<(Span, Vec<Arc<Message>>)> {
    let is_control =
        |message: &Message| message.headers.get(headers::KIND) == Some(headers::KIND_CONTROL);
    let mut parts: Vec<(Span, Vec<Arc<Message>>)> = Vec::new();
    let mut after = span.after;
    for group in messages.chunk_by(|a, b| !is_control(a) && !is_control(b)) {
        let to = group.last().map_or(after, |message| message.offset);
        parts.push((Span { after, to, ..span }, group.to_vec()));
        after = to;
    }
    parts
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

    async fn follow(&mut self) -> Result<(), StageError> {
        self.follow_table().await
    }
}

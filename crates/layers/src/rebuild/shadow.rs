//! A shadow: silver's own stage, fed from raw, on a table and an index beside the real ones.

use std::path::Path;
use std::time::Duration;

use alluvium_lake::index::{IndexError, IndexStore, KeyIndex};
use alluvium_lake::{Lake, Table, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{Applied, EntitySpec, Epoch, FetchLimit, Stage, StageError};

use super::scratch::Scratch;
use super::source::Source;
use crate::silver::{Borders, SilverStage, borders_of, lake_error};

/// An entity's silver table while it is made anew from raw. [`Shadow::remove`] removes it; what a
/// kill leaves behind is removed before the next one begins.
pub struct Shadow {
    pub(super) lake: Lake,
    pub(super) entity: EntitySpec,
    pub(super) timezone: String,
    scratch: Scratch,
    pub(super) stage: Box<SilverStage>,
    source: Option<Source>,
    replayed: u64,
    progress: Option<Progress>,
}

impl Shadow {
    /// Begins a shadow of `entity`, to be filled up to the message `until`, or to where raw ends
    /// now. Its index stands below the folder `scratch`. Only one is made of an entity at a time:
    /// [`StageError::Unavailable`] while another process is at it.
    pub async fn begin(
        lake: &Lake,
        entity: &EntitySpec,
        timezone: &str,
        scratch: &Path,
        until: Option<(Epoch, u64)>,
    ) -> Result<Self, StageError> {
        let id = entity.id();
        let standing = Table::open(lake, &path::silver(&id)).await.ok().flatten();
        Box::pin(Self::beside(lake, standing.as_ref(), entity, timezone, scratch, until)).await
    }

    /// The same, as a table that was made of the same records and has removed history: what is
    /// refused there for that is refused here.
    pub(crate) async fn beside(
        lake: &Lake,
        standing: Option<&Table>,
        entity: &EntitySpec,
        timezone: &str,
        scratch: &Path,
        until: Option<(Epoch, u64)>,
    ) -> Result<Self, StageError> {
        let id = entity.id();
        let borders = match standing {
            Some(table) => borders_of(lake, table).await,
            None => Borders::default(),
        };
        let Some(scratch) = Scratch::claim(lake, &id, scratch).await? else {
            let text = format!("another process is making {id} anew from raw at this moment");
            return Err(StageError::Unavailable(text));
        };
        let index = open_index(&scratch, entity)?;
        let stage = SilverStage::new(lake.clone(), index, entity, timezone)?
            .at(scratch.table())
            .within(borders);
        Ok(Self {
            source: Source::open(lake, &id, until).await?,
            lake: lake.clone(),
            entity: entity.clone(),
            timezone: timezone.to_owned(),
            scratch,
            stage: Box::new(stage),
            replayed: 0,
            progress: None,
        })
    }

    /// Applies the next batch; `None` at the end, or where raw has landed no more yet.
    pub async fn next(&mut self) -> Result<Option<Vec<Applied>>, StageError> {
        let Some(source) = &mut self.source else { return Ok(None) };
        let limit = FetchLimit { wait: Duration::ZERO, ..FetchLimit::default() };
        let Some(delivery) = source.next(limit).await? else { return Ok(None) };
        let mut applied = self.stage.apply(&delivery).await?;
        applied.extend(self.stage.flush().await?);
        self.replayed += delivery.records();
        Ok(Some(applied))
    }

    /// Whether it is filled as far as was asked for.
    pub fn is_filled(&self) -> bool {
        self.source.as_ref().is_none_or(Source::is_done)
    }

    /// The offset up to which it is filled, and that up to which it is to be, in the epoch that it is
    /// at.
    pub fn offsets(&self) -> (u64, u64) {
        self.source.as_ref().map_or((0, 0), |source| (source.at, source.end))
    }

    /// How many records were replayed, as their messages count them, of about how many.
    pub fn records(&self) -> (u64, u64) {
        let of = self.source.as_ref().map_or(0, |source| source.records);
        (self.replayed, of.max(self.replayed))
    }

    /// How far its table got, as that table says itself; `None` if nothing was applied.
    pub async fn progress(&mut self) -> Result<Option<Progress>, StageError> {
        self.progress = self.stage.progress().await?;
        Ok(self.progress)
    }

    /// Its table, to read.
    pub async fn table(&self) -> Result<Table, StageError> {
        let table = Table::open(&self.lake, &self.scratch.table()).await.map_err(lake_error)?;
        table.ok_or_else(|| StageError::Bug("a shadow that was filled has no table".to_owned()))
    }

    /// Removes the table and the index.
    pub async fn remove(self) -> Result<(), StageError> {
        let Self { stage, scratch, .. } = self;
        drop(stage);
        scratch.remove().await
    }
}

fn open_index(scratch: &Scratch, entity: &EntitySpec) -> Result<KeyIndex, StageError> {
    let store = IndexStore::open(&scratch.index());
    let index = store.and_then(|store| store.entity(&entity.id()));
    index.map_err(|error: IndexError| match error.is_full() {
        true => StageError::Full("the key index".to_owned()),
        false => StageError::Unavailable(alluvium_model::error::chain(&error)),
    })
}

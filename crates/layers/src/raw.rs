//! Raw: the bytes as received, one object per span. It lingers, so that objects are not small.

use alluvium_lake::raw::{self, Landed, RawDraft, RawHeader, RawTotals};
use alluvium_lake::{Lake, LakeError};
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, Counts, Delivery, EntityId, Layer, Maintained, Message, RowsWritten, Stage,
    StageError, Upkeep,
};
use async_trait::async_trait;

use crate::epoch::go_on;
use crate::ledger_note::take_up;
use crate::silver::lake_error;

/// The raw layer of one entity.
pub struct RawStage {
    lake: Lake,
    entity: EntityId,
    /// Land when so many bytes of payload have come together.
    linger_bytes: usize,
    landed: Option<Landing>,
    waiting: Option<Waiting>,
    /// Whether this stage has landed anything.
    has_landed: bool,
}

/// What came and has not landed.
struct Waiting {
    draft: RawDraft,
    /// How many records it holds by what the messages' publisher says.
    records: u64,
    published_at_us: i64,
}

impl Waiting {
    fn push(&mut self, message: &Message) -> Result<(), LakeError> {
        self.draft.push(message)?;
        self.records += u64::from(message.records);
        self.published_at_us = message.published_at_us;
        Ok(())
    }
}

/// How far raw has landed; `None` inside if it has nothing yet.
type Landing = Option<RawHeader>;

impl RawStage {
    /// The stage of `entity`. Asks the lake for nothing yet.
    pub fn new(lake: Lake, entity: EntityId, linger_bytes: usize) -> Self {
        Self { lake, entity, linger_bytes, landed: None, waiting: None, has_landed: false }
    }

    async fn landed(&mut self) -> Result<&Landing, StageError> {
        if self.landed.is_none() {
            self.landed = Some(raw::last(&self.lake, &self.entity).await.map_err(lake_error)?);
        }
        Ok(self.landed.as_ref().unwrap_or(&None))
    }

    /// How far raw is with what waits.
    async fn reached(&mut self) -> Result<Option<Progress>, StageError> {
        let waiting = self.waiting.as_ref().map(|waiting| waiting.draft.span());
        let landed = self.landed().await?.as_ref().map(progress);
        Ok(match waiting {
            Some(span) => Some(Progress {
                epoch: span.epoch,
                offset: span.to,
                totals: Counts::default(),
                checksum: Default::default(),
                former: Default::default(),
            }),
            None => landed,
        })
    }

    async fn land(&mut self) -> Result<Vec<Applied>, StageError> {
        let Some(Waiting { draft, records, published_at_us }) = self.waiting.take() else {
            return Ok(Vec::new());
        };
        let totals = match self.landed().await? {
            Some(header) if header.epoch == draft.span().epoch => header.totals,
            _ => RawTotals::default(),
        };
        let landed = raw::land(&self.lake, draft, totals).await.map_err(lake_error)?;
        let Landed::Written(header) = landed else {
            // Somebody landed from here before us; what is there may end elsewhere.
            self.forget();
            return Err(StageError::Unavailable(
                "another process landed this span; asking the lake how far raw is".to_owned(),
            ));
        };
        self.has_landed = true;
        let applied = self.applied(&header, records, published_at_us);
        self.landed = Some(Some(header));
        Ok(vec![applied])
    }

    /// What came in is told by the messages' publisher, what was landed by the lines written.
    fn applied(&self, header: &RawHeader, records: u64, published_at_us: i64) -> Applied {
        Applied {
            layer: Layer::Raw,
            batch: BatchId::of(Layer::Raw, &self.entity, &header.span()),
            span: header.span(),
            counts: Counts { records, inserted: header.records, ..Counts::default() },
            rows: RowsWritten { opened: header.records, ..RowsWritten::default() },
            checksum: header.checksum,
            quarantined: Vec::new(),
            version: None,
            bytes: header.bytes,
            published_at_us,
        }
    }

    /// Forgets what waits and what was known: the lake is asked again.
    fn forget(&mut self) {
        self.waiting = None;
        self.landed = None;
    }
}

fn progress(header: &RawHeader) -> Progress {
    let records = header.totals.records;
    Progress {
        epoch: header.epoch,
        offset: header.to,
        totals: Counts { records, inserted: records, ..Counts::default() },
        checksum: header.totals.checksum,
        former: Default::default(),
    }
}

#[async_trait]
impl Stage for RawStage {
    fn layer(&self) -> Layer {
        Layer::Raw
    }

    async fn progress(&mut self) -> Result<Option<Progress>, StageError> {
        self.forget();
        Ok(self.landed().await?.as_ref().map(progress))
    }

    async fn apply(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        let reached = self.reached().await?;
        let reached = go_on(&self.lake, reached, delivery).await?;
        let Some((span, messages)) = take_up(reached.as_ref(), delivery)? else {
            return Ok(Vec::new());
        };
        let mut waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => Waiting {
                draft: RawDraft::new(self.entity.clone(), span.epoch, span.after)
                    .map_err(lake_error)?,
                records: 0,
                published_at_us: 0,
            },
        };
        tokio::task::block_in_place(|| {
            messages.iter().try_for_each(|message| waiting.push(message))
        })
        .map_err(lake_error)?;
        waiting.draft.reach(span.to);
        // Until an owner has landed something, its predecessor may have the same span under way: of
        // two objects of one name the first stands, so the sooner the better.
        let is_first = self.lake.owner().is_some() && !self.has_landed;
        let is_full = is_first || waiting.draft.bytes() >= self.linger_bytes as u64;
        self.waiting = Some(waiting);
        if is_full { self.land().await } else { Ok(Vec::new()) }
    }

    async fn flush(&mut self) -> Result<Vec<Applied>, StageError> {
        self.land().await
    }

    /// Objects never change, and none is left over: there is nothing to look after.
    async fn maintain(&mut self, _: Upkeep) -> Result<Maintained, StageError> {
        Ok(Maintained::default())
    }
}

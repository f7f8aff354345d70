//! Raw: the bytes as received, one object per span. It lingers, so that objects are not small.

use std::sync::Arc;

use alluvium_lake::Lake;
use alluvium_lake::raw::{self, Landed, RawHeader, RawTotals};
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, Counts, Delivery, EntityId, Layer, Maintained, Message, RowsWritten, Span,
    Stage, StageError, Upkeep,
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
    waiting: Vec<Arc<Message>>,
    waiting_bytes: usize,
}

/// How far raw has landed; `None` inside if it has nothing yet.
type Landing = Option<RawHeader>;

impl RawStage {
    /// The stage of `entity`. Asks the lake for nothing yet.
    pub fn new(lake: Lake, entity: EntityId, linger_bytes: usize) -> Self {
        Self { lake, entity, linger_bytes, landed: None, waiting: Vec::new(), waiting_bytes: 0 }
    }

    async fn landed(&mut self) -> Result<&Landing, StageError> {
        if self.landed.is_none() {
            self.landed = Some(raw::last(&self.lake, &self.entity).await.map_err(lake_error)?);
        }
        Ok(self.landed.as_ref().unwrap_or(&None))
    }

    /// How far raw is with what waits.
    async fn reached(&mut self) -> Result<Option<Progress>, StageError> {
        let waiting = self.waiting.last().map(|message| (message.epoch, message.offset));
        let landed = self.landed().await?.as_ref().map(progress);
        Ok(match waiting {
            Some((epoch, offset)) => Some(Progress {
                epoch,
                offset,
                totals: Counts::default(),
                checksum: Default::default(),
                former: Default::default(),
            }),
            None => landed,
        })
    }

    async fn land(&mut self) -> Result<Vec<Applied>, StageError> {
        let (Some(first), Some(last)) = (self.waiting.first(), self.waiting.last()) else {
            return Ok(Vec::new());
        };
        let span = Span { epoch: first.epoch, after: first.offset - 1, to: last.offset };
        let published_at_us = last.published_at_us;
        let totals = match self.landed().await? {
            Some(header) if header.epoch == span.epoch => header.totals,
            _ => RawTotals::default(),
        };
        let landed = raw::land(&self.lake, &self.entity, span, &self.waiting, totals)
            .await
            .map_err(lake_error)?;
        let Landed::Written(header) = landed else {
            // Somebody landed from here before us; what is there may end elsewhere.
            self.forget();
            return Err(StageError::Unavailable(
                "another process landed this span; asking the lake how far raw is".to_owned(),
            ));
        };
        let applied = self.applied(&header, published_at_us);
        self.forget();
        self.landed = Some(Some(header));
        Ok(vec![applied])
    }

    fn applied(&self, header: &RawHeader, published_at_us: i64) -> Applied {
        // What came in is told by the messages' publisher, what was landed by the lines written.
        let records = self.waiting.iter().map(|m| u64::from(m.records)).sum();
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
        self.waiting.clear();
        self.waiting_bytes = 0;
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
        let Some((_, messages)) = take_up(reached.as_ref(), delivery)? else {
            return Ok(Vec::new());
        };
        self.waiting_bytes += messages.iter().map(|m| m.payload.len()).sum::<usize>();
        // What was decoded from them is not kept for as long as raw lingers.
        self.waiting.extend(messages.iter().map(|message| Arc::new(message.undecoded())));
        if self.waiting_bytes >= self.linger_bytes { self.land().await } else { Ok(Vec::new()) }
    }

    async fn flush(&mut self) -> Result<Vec<Applied>, StageError> {
        self.land().await
    }

    /// Objects never change, and none is left over: there is nothing to look after.
    async fn maintain(&mut self, _: Upkeep) -> Result<Maintained, StageError> {
        Ok(Maintained::default())
    }
}

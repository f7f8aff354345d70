//! What a shadow is made from: raw, from an epoch's beginning to an end fixed beforehand.

use alluvium_lake::Lake;
use alluvium_lake::raw::{self, RawHeader};
use alluvium_model::{
    BusError, Delivery, EntityId, Epoch, FetchLimit, Position, Span, StageError, Subscriber,
};

use crate::replay::RawReplay;
use crate::silver::lake_error;

/// The messages of an epoch up to an offset.
pub(super) struct Source {
    replay: RawReplay,
    /// The offset of the last message.
    pub(super) end: u64,
    /// The offset of the last message that was given.
    pub(super) at: u64,
    /// About how many records there are, as raw's headers tell.
    pub(super) records: u64,
}

impl Source {
    /// Raw of `entity` up to `until`, or to where it ends now; `None` if there is nothing of it.
    pub(super) async fn open(
        lake: &Lake,
        entity: &EntityId,
        until: Option<(Epoch, u64)>,
    ) -> Result<Option<Self>, StageError> {
        let last = raw::last(lake, entity).await.map_err(lake_error)?;
        let (epoch, end, records) = match (until, &last) {
            (Some((epoch, end)), _) => {
                let header = header_at(lake, entity, epoch, end).await?;
                (epoch, end, header.map_or(0, |header| header.totals.records))
            }
            (None, Some(last)) => {
                only_epoch(lake, entity, last.epoch).await?;
                (last.epoch, last.to, last.totals.records)
            }
            (None, None) => return Ok(None),
        };
        let mut replay = RawReplay::open(lake.clone(), entity.clone()).await.map_err(bus_error)?;
        // Where nothing has landed yet, the first object may come while this is at work.
        let begin = Position { epoch, offset: 0, index: 0 };
        replay.seek(&begin).await.map_err(bus_error)?;
        Ok(Some(Self { replay, end, at: 0, records }))
    }

    /// The next messages; `None` at the end, or where raw has landed no more yet.
    pub(super) async fn next(&mut self, limit: FetchLimit) -> Result<Option<Delivery>, StageError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let mut delivery = self.replay.fetch(limit).await.map_err(bus_error)?;
        delivery.messages.retain(|message| message.offset <= self.end);
        let Some(last) = delivery.messages.last() else { return Ok(None) };
        delivery.span = Span { to: last.offset, ..delivery.span };
        self.at = last.offset;
        Ok(Some(delivery))
    }
}

/// The header of the object that holds the message at `offset`, or of the last one before it.
async fn header_at(
    lake: &Lake,
    entity: &EntityId,
    epoch: Epoch,
    offset: u64,
) -> Result<Option<RawHeader>, StageError> {
    let objects = raw::list_epoch(lake, entity, epoch).await.map_err(lake_error)?;
    match objects.iter().rfind(|object| object.after < offset) {
        Some(object) => raw::header(lake, object).await.map(Some).map_err(lake_error),
        None => Ok(None),
    }
}

/// A table is made from one epoch: what another one held would be left out in silence.
async fn only_epoch(lake: &Lake, entity: &EntityId, epoch: Epoch) -> Result<(), StageError> {
    let objects = raw::list(lake, entity).await.map_err(lake_error)?;
    match objects.iter().find(|object| object.epoch != epoch) {
        Some(other) => Err(StageError::UnexpectedEpoch { expected: epoch, found: other.epoch }),
        None => Ok(()),
    }
}

fn bus_error(error: BusError) -> StageError {
    match error {
        BusError::UnexpectedEpoch { expected, found, .. } => {
            StageError::UnexpectedEpoch { expected, found }
        }
        BusError::Unavailable(text) => StageError::Unavailable(text),
        BusError::Full(text) => StageError::Full(text),
        other => StageError::Corrupt(other.to_string()),
    }
}

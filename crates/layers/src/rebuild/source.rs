//! What a shadow is made from: raw, from its first epoch's beginning to an end fixed beforehand.

use std::collections::VecDeque;

use alluvium_lake::Lake;
use alluvium_lake::raw::{self, RawHeader};
use alluvium_model::{
    BusError, Delivery, EntityId, Epoch, Epochs, FetchLimit, Position, Span, StageError, Subscriber,
};

use crate::replay::RawReplay;
use crate::silver::lake_error;

/// The messages up to an offset of an epoch, those of the epochs before it among them.
pub(super) struct Source {
    replay: RawReplay,
    /// The epochs that come after this one, and where each ends.
    rest: VecDeque<(Epoch, u64)>,
    /// The offset of the last message of this epoch.
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
        let until = match until {
            Some(until) => until,
            None => match raw::last(lake, entity).await.map_err(lake_error)? {
                Some(last) => (last.epoch, last.to),
                None => return Ok(None),
            },
        };
        let mut rest = stretches(&crate::epoch::epochs(lake, entity).await?, until)?;
        let mut records = 0;
        for (epoch, end) in &rest {
            let header = header_at(lake, entity, *epoch, *end).await?;
            records += header.map_or(0, |header| header.totals.records);
        }
        let (epoch, end) = rest.pop_front().unwrap_or(until);
        let mut replay = RawReplay::open(lake.clone(), entity.clone()).await.map_err(bus_error)?;
        // Where nothing has landed yet, the first object may come while this is at work.
        replay.seek(&beginning(epoch)).await.map_err(bus_error)?;
        Ok(Some(Self { replay, rest, end, at: 0, records }))
    }

    /// The next messages; `None` at the end, or where raw has landed no more yet.
    pub(super) async fn next(&mut self, limit: FetchLimit) -> Result<Option<Delivery>, StageError> {
        while self.at >= self.end {
            let Some((epoch, end)) = self.rest.pop_front() else { return Ok(None) };
            self.replay.seek(&beginning(epoch)).await.map_err(bus_error)?;
            (self.at, self.end) = (0, end);
        }
        let mut delivery = self.replay.fetch(limit).await.map_err(bus_error)?;
        delivery.messages.retain(|message| message.offset <= self.end);
        let Some(last) = delivery.messages.last() else { return Ok(None) };
        delivery.span = Span { to: last.offset, ..delivery.span };
        self.at = last.offset;
        Ok(Some(delivery))
    }

    /// Whether everything was given.
    pub(super) fn is_done(&self) -> bool {
        self.at >= self.end && self.rest.is_empty()
    }
}

/// The epochs to go through, each with its end. What another epoch held would be left out in
/// silence, so that each must lead to the next.
fn stretches(
    epochs: &Epochs,
    (last, end): (Epoch, u64),
) -> Result<VecDeque<(Epoch, u64)>, StageError> {
    let mut stretches = VecDeque::new();
    let mut epoch = epochs.first.unwrap_or(last);
    while epoch != last {
        let Some(step) = epochs.after(epoch).filter(|step| step.to <= last) else {
            return Err(StageError::UnexpectedEpoch { expected: last, found: epoch });
        };
        if step.end > 0 {
            stretches.push_back((epoch, step.end));
        }
        epoch = step.to;
    }
    stretches.push_back((last, end));
    Ok(stretches)
}

fn beginning(epoch: Epoch) -> Position {
    Position { epoch, offset: 0, index: 0 }
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

#[cfg(test)]
mod tests {
    use alluvium_model::Succession;

    use super::*;

    #[test]
    fn a_rebuild_goes_through_all_epochs_that_lead_to_the_last_one() {
        let step = |from, end, to| Succession { from: Epoch(from), end, to: Epoch(to) };
        let epochs = Epochs {
            first: Some(Epoch(1)),
            last: Some(Epoch(6)),
            accepted: vec![step(1, 5, 2), step(2, 0, 3), step(3, 4, 6)],
        };
        let through = |epoch, end| stretches(&epochs, (Epoch(epoch), end)).map(Vec::from);
        assert_eq!(through(3, 2).unwrap(), [(Epoch(1), 5), (Epoch(3), 2)]);
        assert_eq!(through(1, 3).unwrap(), [(Epoch(1), 3)]);
        assert_eq!(through(6, 9).unwrap(), [(Epoch(1), 5), (Epoch(3), 4), (Epoch(6), 9)]);
        for unknown in [4, 7] {
            let error = through(unknown, 1).unwrap_err();
            assert!(matches!(error, StageError::UnexpectedEpoch { .. }), "{error}");
        }
    }
}

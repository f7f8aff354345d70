//! A topic as the server has it, held against what is known of it: what was acknowledged, or came,
//! may be gone, and then nobody goes on as if nothing had been there.

use alluvium_model::{BusError, EntityId, Epoch};

use super::headers::Totals;
use super::topic::Topic;

impl Topic {
    pub(super) fn check_epoch(&self, expected: Epoch) -> Result<(), BusError> {
        if expected == self.epoch {
            return Ok(());
        }
        Err(BusError::UnexpectedEpoch { topic: self.id.clone(), expected, found: self.epoch })
    }

    pub(super) fn check_end(&self, offset: u64, end: u64) -> Result<(), BusError> {
        if offset <= end {
            return Ok(());
        }
        Err(BusError::Corrupt(format!(
            "topic {} ends at offset {end}, but a layer knows it up to offset {offset}",
            self.id
        )))
    }

    /// What was acknowledged, or came, must still be counted: `end` is the server's answer to a
    /// question that was asked after the topic was [sure](Self::sure) of `sure`.
    pub(super) fn check_whole(&self, sure: u64, end: u64) -> Result<(), BusError> {
        if sure <= end {
            return Ok(());
        }
        Err(shorter(&self.id, end, sure))
    }

    /// The message at `offset` must be the one that was there when it was read: with it the topic has
    /// the totals that it had then, if both are known.
    pub(super) fn check_same(
        &self,
        offset: u64,
        then: Totals,
        now: Totals,
    ) -> Result<(), BusError> {
        if then == now || then.records == 0 || now.records == 0 {
            return Ok(());
        }
        Err(BusError::Corrupt(format!(
            "topic {}: messages up to offset {offset} were acknowledged and are gone; others stand \
             in their place",
            self.id
        )))
    }

    pub(super) fn check_there(&self, after: u64, first_after: u64) -> Result<(), BusError> {
        if after >= first_after {
            return Ok(());
        }
        Err(BusError::Gone { topic: self.id.clone(), first_after, asked: after + 1 })
    }
}

/// The error that a stream ends before what was acknowledged.
pub(super) fn shorter(id: &EntityId, end: u64, known: u64) -> BusError {
    BusError::Corrupt(format!(
        "the stream of topic {id} ends at offset {end}, but messages up to {known} were acknowledged"
    ))
}

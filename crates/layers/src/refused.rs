//! What of a delivery its layer refused, found again from the messages alone: for a ledger that was
//! not told, because the process ended right after the layer's commit.

use alluvium_lake::index::KeyIndex;
use alluvium_model::{Delivery, EntitySpec, Layer, Position, Quarantined, StageError};
use rayon::prelude::*;
use serde::Deserialize;

use crate::decode::{self, RowDecoder};
use crate::silver::mismatch;

/// Which layer of an entity puts records into quarantine: bronze and silver refuse the same ones,
/// and they are to be listed once.
pub fn refusing(entity: &EntitySpec) -> Option<Layer> {
    match (entity.layers.bronze.enabled, entity.layers.silver.enabled) {
        (_, true) => Some(Layer::Silver),
        (true, false) => Some(Layer::Bronze),
        (false, false) => None,
    }
}

/// The records of `delivery` that do not decode by these metadata. `timezone` is the zone of times
/// that have none.
pub fn refused(
    entity: &EntitySpec,
    timezone: &str,
    delivery: &Delivery,
) -> Result<Vec<Quarantined>, StageError> {
    let decoder = RowDecoder::new(entity, timezone).map_err(|error| mismatch(&error))?;
    let records = tokio::task::block_in_place(|| {
        let messages = delivery.messages.par_iter();
        let each = messages.map(|m| decode::shared(m, &decoder).quarantined(m));
        each.collect::<Vec<_>>()
    });
    Ok(records.concat())
}

/// What silver keeps with its index of the ends of snapshots that wait for an operator.
#[derive(Deserialize)]
struct Waiting {
    #[serde(default)]
    held: Vec<Held>,
}

#[derive(Deserialize)]
struct Held {
    position: Position,
}

/// The ends of snapshots in `delivery` that silver holds, as its index tells. The index must fit the
/// table. What was decided on meanwhile is no longer held.
pub fn held(index: &KeyIndex, delivery: &Delivery) -> Result<Vec<Quarantined>, StageError> {
    let unreadable = |error: &dyn std::error::Error| {
        StageError::Unavailable(alluvium_model::error::chain(error))
    };
    let Some(whole) = index.whole().map_err(|e| unreadable(&e))? else { return Ok(Vec::new()) };
    let waiting: Waiting = serde_json::from_str(&whole).map_err(|e| unreadable(&e))?;
    let found = waiting.held.into_iter().filter_map(|Held { position }| {
        let mut messages = delivery.messages.iter();
        let message = messages.find(|m| m.position(position.index) == position)?;
        let line = message.lines().nth(position.index as usize)?;
        Some(Quarantined {
            position,
            code: "snapshot_held".to_owned(),
            reason: "the snapshot would close too large a share of the open rows: approve it if \
                     that is right, or discard it"
                .to_owned(),
            bytes: line.to_vec(),
        })
    });
    Ok(found.collect())
}

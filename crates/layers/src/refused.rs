//! What of a delivery its layer refused, found again from the messages alone: for a ledger that was
//! not told, because the process ended right after the layer's commit.

use alluvium_model::{Delivery, EntitySpec, Layer, Quarantined, StageError};
use rayon::prelude::*;

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

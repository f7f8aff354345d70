//! That an epoch follows another one. A topic has a new epoch when its bus was lost; whether the
//! lake goes on with it is for the operator to say. What was said stands in the new epoch's folder,
//! beside its objects, so that a rebuild from raw walks the same way.

use std::collections::BTreeSet;

use alluvium_model::{Checksum, EntityId, Epoch, Epochs, Layer, Succession};
use object_store::PutPayload;
use serde::{Deserialize, Serialize};

use super::{header_of, list_epoch};
use crate::store::Created;
use crate::{Lake, LakeError, path};

/// That an epoch begins, and what of the one before it will never be in raw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    #[serde(rename = "alluvium")]
    format: Format,
    /// The topic.
    pub topic: EntityId,
    /// Which epoch follows which, and where that one ended.
    #[serde(flatten)]
    pub step: Succession,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_at_ms: i64,
    /// Layers that had applied more of the epoch before than raw has.
    pub beyond: Vec<Beyond>,
}

/// What a layer applied that raw never landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// The layer.
    pub layer: Layer,
    /// Up to which offset.
    pub offset: u64,
    /// How many records more than raw.
    pub records: u64,
    /// The sum over them.
    pub checksum: Checksum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "epoch/1")]
    V1,
}

/// Lets an epoch begin. Durable when it returns; what stands there already stays, and is returned.
pub async fn begin_epoch(
    lake: &Lake,
    entity: &EntityId,
    step: Succession,
    beyond: Vec<Beyond>,
) -> Result<EpochStart, LakeError> {
    let start = EpochStart {
        format: Format::V1,
        topic: entity.clone(),
        step,
        accepted_at_ms: lake.clock().now().as_millisecond(),
        beyond,
    };
    let bytes = serde_json::to_vec(&start)
        .map_err(|e| LakeError::Bug(format!("the start of an epoch cannot be written: {e}")))?;
    let place = path::epoch_start(entity, step.to);
    match lake.create(&place, PutPayload::from(bytes)).await? {
        Created::Written => Ok(start),
        Created::AlreadyThere => match read(lake, entity, step.to).await? {
            Some(there) => Ok(there),
            None => Err(LakeError::Corrupt(format!("{place} is not there"))),
        },
    }
}

/// The epochs of an entity that follow others, in their order.
pub async fn starts(lake: &Lake, entity: &EntityId) -> Result<Vec<EpochStart>, LakeError> {
    let mut starts = Vec::new();
    for epoch in folders(lake, entity).await? {
        starts.extend(read(lake, entity, epoch).await?);
    }
    Ok(starts)
}

/// The epochs of an entity that raw knows.
pub async fn epochs(lake: &Lake, entity: &EntityId) -> Result<Epochs, LakeError> {
    let accepted: Vec<_> = starts(lake, entity).await?.into_iter().map(|s| s.step).collect();
    let mut known: BTreeSet<Epoch> = accepted.iter().flat_map(|s| [s.from, s.to]).collect();
    for epoch in folders(lake, entity).await? {
        if !known.contains(&epoch) && !list_epoch(lake, entity, epoch).await?.is_empty() {
            known.insert(epoch);
        }
    }
    Ok(Epochs { first: known.first().copied(), last: known.last().copied(), accepted })
}

/// Where raw of an epoch ends, with the sums up to there.
pub async fn end_of_epoch(
    lake: &Lake,
    entity: &EntityId,
    epoch: Epoch,
) -> Result<Option<super::RawHeader>, LakeError> {
    match list_epoch(lake, entity, epoch).await?.pop() {
        Some(object) => header_of(lake, &object.path).await.map(Some),
        None => Ok(None),
    }
}

/// The epochs that have a folder, in their order.
pub(super) async fn folders(lake: &Lake, entity: &EntityId) -> Result<Vec<Epoch>, LakeError> {
    let folders = lake.folders(&path::raw(entity)).await?;
    let mut epochs: Vec<Epoch> = folders.iter().filter_map(path::parse_epoch).collect();
    epochs.sort_unstable();
    Ok(epochs)
}

async fn read(
    lake: &Lake,
    entity: &EntityId,
    epoch: Epoch,
) -> Result<Option<EpochStart>, LakeError> {
    let place = path::epoch_start(entity, epoch);
    let Some(bytes) = lake.get(&place).await? else { return Ok(None) };
    let start: EpochStart = serde_json::from_slice(&bytes)
        .map_err(|e| LakeError::Corrupt(format!("{place} does not say how it begins: {e}")))?;
    if start.topic != *entity || start.step.to != epoch || start.step.from >= epoch {
        return Err(LakeError::Corrupt(format!("{place} says that another epoch begins")));
    }
    Ok(Some(start))
}

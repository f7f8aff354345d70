//! Raw: the messages of a span as they were received, one object a span, put-if-absent.
//!
//! An object is named by its epoch and the end of its predecessor, so that two writers meet at the
//! same name and one of them finds the other's. Its own end, count and checksum stand in its first
//! line. The listing is the progress: there is no other record of it.
//!
//! The object is a row of zstd frames, which is one valid zstd stream of NDJSON: the header, then
//! for each message a line about it and the lines of its payload.

mod epochs;
mod header;
mod read;
mod write;

use alluvium_model::{EntityId, Epoch};
use object_store::path::Path;

pub use epochs::{Beyond, EpochStart, begin_epoch, end_of_epoch, epochs, starts};
pub use header::{RawHeader, RawTotals};
pub use read::read;
pub use write::RawDraft;

use crate::store::Created;
use crate::{Lake, LakeError, path};

/// What became of landing a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landed {
    /// It was written, and is durable.
    Written(RawHeader),
    /// An object that follows the same predecessor was there already. It may end elsewhere: the
    /// caller goes on after this header's end.
    AlreadyThere(RawHeader),
}

/// A raw object as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawObject {
    /// Where it stands in the lake.
    pub path: Path,
    /// Its topic's epoch.
    pub epoch: Epoch,
    /// The end of its predecessor; 0 for an epoch's first.
    pub after: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Lands what `draft` holds. `totals_before` are those of the predecessor's header, or zero for an
/// epoch's first. Durable when it returns; idempotent.
pub async fn land(
    lake: &Lake,
    draft: RawDraft,
    totals_before: RawTotals,
) -> Result<Landed, LakeError> {
    let path = draft.path();
    let (header, payload) = draft.finish(totals_before)?;
    match lake.create(&path, payload).await? {
        Created::Written => Ok(Landed::Written(header)),
        Created::AlreadyThere => Ok(Landed::AlreadyThere(header_of(lake, &path).await?)),
    }
}

/// The header of the last object of the newest epoch: how far raw has got.
pub async fn last(lake: &Lake, entity: &EntityId) -> Result<Option<RawHeader>, LakeError> {
    for epoch in epochs::folders(lake, entity).await?.into_iter().rev() {
        if let Some(header) = end_of_epoch(lake, entity, epoch).await? {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// All objects of an entity, in the order of their positions.
pub async fn list(lake: &Lake, entity: &EntityId) -> Result<Vec<RawObject>, LakeError> {
    let mut objects = Vec::new();
    for epoch in epochs::folders(lake, entity).await? {
        objects.extend(list_epoch(lake, entity, epoch).await?);
    }
    Ok(objects)
}

/// The objects of one epoch, in the order of their positions.
pub async fn list_epoch(
    lake: &Lake,
    entity: &EntityId,
    epoch: Epoch,
) -> Result<Vec<RawObject>, LakeError> {
    let listed = lake.list(&path::raw_epoch(entity, epoch)).await?;
    let object = |meta: object_store::ObjectMeta| {
        let after = path::parse_after(&meta.location)?;
        Some(RawObject { path: meta.location, epoch, after, size: meta.size })
    };
    Ok(listed.into_iter().filter_map(object).collect())
}

/// The header of an object, without reading the rest of it.
pub async fn header(lake: &Lake, object: &RawObject) -> Result<RawHeader, LakeError> {
    header_of(lake, &object.path).await
}

async fn header_of(lake: &Lake, path: &Path) -> Result<RawHeader, LakeError> {
    let head = lake.head(path, header::HEAD_BYTES).await?;
    let head = head.ok_or_else(|| LakeError::Corrupt(format!("{path} is not there")))?;
    header::parse_frame(path, &head)
}

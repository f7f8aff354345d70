//! Where things stand in the lake.

use alluvium_model::{EntityId, Epoch};
use object_store::path::Path;

/// `raw/<system>/<entity>`: the raw objects of an entity, a folder an epoch.
pub fn raw(entity: &EntityId) -> Path {
    layer("raw", entity)
}

/// `bronze/<system>/<entity>`: the entity's table of documents.
pub fn bronze(entity: &EntityId) -> Path {
    layer("bronze", entity)
}

/// `silver/<system>/<entity>`: the entity's SCD2 table.
pub fn silver(entity: &EntityId) -> Path {
    layer("silver", entity)
}

/// `_shadow/silver/<system>/<entity>`: where the entity's SCD2 table is made anew from raw, each time
/// in a folder of its own.
pub fn shadows_of_silver(entity: &EntityId) -> Path {
    Path::from_iter(["_shadow", "silver", entity.system.as_str(), entity.entity.as_str()])
}

/// `raw/<system>/<entity>/<epoch>`.
pub fn raw_epoch(entity: &EntityId, epoch: Epoch) -> Path {
    raw(entity).join(epoch.to_string())
}

/// `raw/<system>/<entity>/<epoch>/<after>.ndjson.zst`: the object whose first message follows
/// `after`. Twenty digits, so that names sort as numbers do.
pub fn raw_object(entity: &EntityId, epoch: Epoch, after: u64) -> Path {
    raw_epoch(entity, epoch).join(format!("{after:020}{RAW_SUFFIX}"))
}

/// `raw/<system>/<entity>/<epoch>/follows.json`: that the epoch follows another one.
pub fn epoch_start(entity: &EntityId, epoch: Epoch) -> Path {
    raw_epoch(entity, epoch).join("follows.json")
}

/// The epoch that a folder of raw objects is named by.
pub(crate) fn parse_epoch(folder: &Path) -> Option<Epoch> {
    folder.filename()?.parse().ok().map(Epoch)
}

/// The offset that a raw object is named by.
pub(crate) fn parse_after(object: &Path) -> Option<u64> {
    object.filename()?.strip_suffix(RAW_SUFFIX)?.parse().ok()
}

const RAW_SUFFIX: &str = ".ndjson.zst";

fn layer(name: &'static str, entity: &EntityId) -> Path {
    Path::from_iter([name, entity.system.as_str(), entity.entity.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_object_is_named_by_its_epoch_and_the_end_of_its_predecessor() {
        let path = raw_object(&"shop.orders".parse().unwrap(), Epoch(1_700_000_000_000), 42);
        assert_eq!(path.as_ref(), "raw/shop/orders/1700000000000/00000000000000000042.ndjson.zst");
        assert_eq!(parse_after(&path), Some(42));
    }
}

//! From one epoch of a topic to the next. A layer goes on with a new epoch only where the operator
//! accepted it, and only after all that raw has of the one before.

use std::collections::BTreeSet;

use alluvium_lake::raw::{self, Beyond, EpochStart, RawTotals};
use alluvium_lake::{Lake, Table, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{Checksum, Delivery, EntityId, Epoch, Epochs, Layer, StageError, Succession};
use alluvium_wire::headers;

use crate::ledger_note::LayerNote;
use crate::silver::lake_error;

/// The epochs that the lake knows of an entity.
pub async fn epochs(lake: &Lake, entity: &EntityId) -> Result<Epochs, StageError> {
    raw::epochs(lake, entity).await.map_err(lake_error)
}

/// The same, of an entity of which raw may have landed nothing yet: its tables are asked then.
pub async fn known(lake: &Lake, entity: &EntityId) -> Result<Epochs, StageError> {
    let mut known = epochs(lake, entity).await?;
    if known.last.is_none() {
        let tables = reached(lake, entity).await?;
        known.last = tables.iter().map(|(_, progress)| progress.epoch).max();
    }
    Ok(known)
}

/// Lets the lake go on with the epoch that the bus has now. Answers which epochs begin by it, and
/// with nothing where the lake knew the epoch. May be repeated.
///
/// Nobody may land anything of the entity meanwhile. [`StageError::Mismatch`] where the bus is older
/// than the lake.
pub async fn accept(
    lake: &Lake,
    entity: &EntityId,
    on_bus: Epoch,
) -> Result<Vec<EpochStart>, StageError> {
    let known = epochs(lake, entity).await?;
    let reached = reached(lake, entity).await?;
    let all: BTreeSet<Epoch> = known
        .accepted
        .iter()
        .flat_map(|step| [step.from, step.to])
        .chain(known.first)
        .chain(reached.iter().map(|(_, progress)| progress.epoch))
        .collect();
    if let Some(newest) = all.last().filter(|newest| **newest > on_bus) {
        return Err(StageError::Mismatch(format!(
            "the bus knows {entity} as epoch {on_bus}, the lake as the later epoch {newest}: an \
             older state of the bus stands in its place, or the clock went back when it was made"
        )));
    }
    let mut path: Vec<Epoch> = all.into_iter().filter(|epoch| *epoch < on_bus).collect();
    path.push(on_bus);
    let mut begun = Vec::new();
    for pair in path.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        if known.after(from).is_none() {
            begun.push(begin(lake, entity, &reached, from, to).await?);
        }
    }
    Ok(begun)
}

/// Why the epoch `next` cannot follow a topic that ends at `end` of `epoch`, with nothing lost: the lake
/// must know the topic as that one, raw must have all of it, and the new epoch must be a later one.
pub async fn obstacle(
    lake: &Lake,
    entity: &EntityId,
    (epoch, end): (Epoch, u64),
    next: Epoch,
) -> Result<Option<String>, StageError> {
    let landed = landed(lake, entity, epoch).await?;
    let known = known(lake, entity).await?.last;
    Ok(in_the_way(entity, (epoch, end), landed, known, next))
}

/// The offset up to which raw has an epoch; 0 if it has nothing of it.
pub async fn landed(lake: &Lake, entity: &EntityId, epoch: Epoch) -> Result<u64, StageError> {
    let last = raw::end_of_epoch(lake, entity, epoch).await.map_err(lake_error)?;
    Ok(last.map_or(0, |last| last.to))
}

fn in_the_way(
    entity: &EntityId,
    (epoch, end): (Epoch, u64),
    landed: u64,
    known: Option<Epoch>,
    next: Epoch,
) -> Option<String> {
    if let Some(known) = known.filter(|known| *known != epoch) {
        return Some(format!(
            "{entity} has epoch {epoch} on the bus, and the lake knows it as epoch {known}: first \
             restore the bus, or run `alluvium epoch accept {entity}`"
        ));
    }
    if landed < end {
        return Some(format!(
            "{entity} goes up to offset {end} on the bus, and raw has it up to offset {landed}; \
             nobody lands the rest if the entity is no longer declared: declare it again"
        ));
    }
    // An epoch of which nothing ever came leaves nothing behind that another one could be mixed with.
    (known.is_some() && next <= epoch).then(|| {
        format!(
            "the new topic of {entity} is of epoch {next}, before {epoch}: the clock went back, or \
             the topic is left from an earlier time; delete it there"
        )
    })
}

/// How many records raw has of all epochs before `epoch`.
pub async fn landed_before(
    lake: &Lake,
    entity: &EntityId,
    epoch: Epoch,
) -> Result<u64, StageError> {
    let objects = raw::list(lake, entity).await.map_err(lake_error)?;
    let former: BTreeSet<Epoch> =
        objects.into_iter().map(|object| object.epoch).filter(|of| *of < epoch).collect();
    let mut records = 0;
    for epoch in former {
        let end = raw::end_of_epoch(lake, entity, epoch).await.map_err(lake_error)?;
        records += end.map_or(0, |header| header.totals.records);
    }
    Ok(records)
}

/// What the last message of raw that `reads` says something of is, by the delivery that it came in.
pub async fn last_delivery<T>(
    lake: &Lake,
    entity: &EntityId,
    reads: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, StageError> {
    for object in raw::list(lake, entity).await.map_err(lake_error)?.iter().rev() {
        let (_, messages) = raw::read(lake, object).await.map_err(lake_error)?;
        let deliveries = messages.iter().rev().filter_map(|m| m.headers.get(headers::DELIVERY));
        if let Some(found) = deliveries.filter_map(&reads).next() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn begin(
    lake: &Lake,
    entity: &EntityId,
    reached: &[(Layer, Progress)],
    from: Epoch,
    to: Epoch,
) -> Result<EpochStart, StageError> {
    let last = raw::end_of_epoch(lake, entity, from).await.map_err(lake_error)?;
    let (end, landed) = last.map_or((0, RawTotals::default()), |last| (last.to, last.totals));
    let ahead = reached.iter().filter(|(_, p)| p.epoch == from && p.offset > end);
    let beyond = ahead.map(|(layer, progress)| Beyond {
        layer: *layer,
        offset: progress.offset,
        records: progress.totals.records.saturating_sub(landed.records),
        checksum: Checksum(progress.checksum.0.wrapping_sub(landed.checksum.0)),
    });
    let step = Succession { from, end, to };
    raw::begin_epoch(lake, entity, step, beyond.collect()).await.map_err(lake_error)
}

/// How far bronze and silver got, as their tables tell.
async fn reached(lake: &Lake, id: &EntityId) -> Result<Vec<(Layer, Progress)>, StageError> {
    let mut reached = Vec::new();
    for (layer, place) in [(Layer::Bronze, path::bronze(id)), (Layer::Silver, path::silver(id))] {
        let Some(table) = Table::open(lake, &place).await.map_err(lake_error)? else { continue };
        if let Some(note) = LayerNote::of(&table, layer, id)? {
            reached.push((layer, note.progress()));
        }
    }
    Ok(reached)
}

/// What a layer that stands at `before` goes on from, to apply `delivery`.
pub(crate) async fn go_on(
    lake: &Lake,
    before: Option<Progress>,
    delivery: &Delivery,
) -> Result<Option<Progress>, StageError> {
    let Some(progress) = before.filter(|p| p.epoch != delivery.span.epoch) else {
        return Ok(before);
    };
    Ok(Some(progress.go_on(&epochs(lake, &delivery.entity).await?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(end: u64, landed: u64, known: Option<u64>, next: u64) -> Option<String> {
        let entity = "shop.orders".parse().unwrap();
        in_the_way(&entity, (Epoch(5), end), landed, known.map(Epoch), Epoch(next))
    }

    #[test]
    fn an_epoch_follows_one_that_raw_has_as_a_whole() {
        assert_eq!(found(7, 7, Some(5), 6), None);
        assert_eq!(found(7, 8, Some(5), 6), None, "behind its last message stands none");
        assert_eq!(found(0, 0, None, 4), None, "nothing ever came");
        assert!(found(7, 6, Some(5), 6).unwrap().contains("up to offset 6"));
        assert!(found(7, 7, Some(5), 5).unwrap().contains("before"));
        assert!(found(0, 0, Some(3), 6).unwrap().contains("alluvium epoch accept shop.orders"));
    }
}

//! What a layer's commit says of itself, so that the lake alone tells how far the layer got and
//! the ledger can be rebuilt from it.

use std::sync::Arc;

use alluvium_lake::Table;
use alluvium_model::outcome::{Former, Progress};
use alluvium_model::{
    Applied, Checksum, Counts, Delivery, EntityId, Layer, Message, RowsWritten, Span, StageError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The note in a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerNote {
    layer: Layer,
    batch: String,
    span: Span,
    counts: Counts,
    rows: RowsWritten,
    checksum: Checksum,
    /// From the epoch's beginning.
    totals: Counts,
    totals_checksum: Checksum,
    /// The time of the newest record, in microseconds since 1970, where one may be too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<i64>,
    /// Of the epochs before this one.
    #[serde(default)]
    former: Former,
}

impl LayerNote {
    /// The note of a batch that follows `before`.
    pub(crate) fn following(before: Option<&Progress>, applied: &Applied) -> Self {
        let same_epoch = before.filter(|p| p.epoch == applied.span.epoch);
        let mut totals = same_epoch.map(|p| p.totals).unwrap_or_default();
        let mut totals_checksum = same_epoch.map(|p| p.checksum).unwrap_or_default();
        totals += applied.counts;
        totals_checksum += applied.checksum;
        let former = before.map(|p| p.former).unwrap_or_default();
        Self {
            layer: applied.layer,
            batch: applied.batch.0.clone(),
            span: applied.span,
            counts: applied.counts,
            rows: applied.rows,
            checksum: applied.checksum,
            totals,
            totals_checksum,
            newest: None,
            former,
        }
    }

    /// The same with the time of the newest record.
    pub(crate) fn knowing(self, newest: Option<i64>) -> Self {
        Self { newest, ..self }
    }

    /// The note of the newest commit of a layer's table that has one; `None` where nothing was
    /// applied yet. [`StageError::Corrupt`] where the table's transactions do not agree.
    pub(crate) fn of(
        table: &Table,
        layer: Layer,
        entity: &EntityId,
    ) -> Result<Option<Self>, StageError> {
        let Some(info) = table.commit_info() else {
            return match table.txns_of(&app_ids(layer, entity)).max() {
                None => Ok(None),
                Some((app_id, offset)) => Err(lost(table, layer, entity, app_id, offset)),
            };
        };
        let note =
            Self::deserialize(info).ok().filter(|note| note.layer == layer).ok_or_else(|| {
                StageError::Corrupt(format!("the {layer} table's commit note does not read"))
            })?;
        note.check(table, entity)?;
        Ok(Some(note))
    }

    /// What goes into the commit.
    pub(crate) fn to_json(&self) -> Value {
        serde_json::json!(self)
    }

    /// The application transaction that makes the progress part of the commit.
    pub(crate) fn txn(&self, entity: &EntityId) -> (String, i64) {
        (app_id(self.layer, entity, &self.span), i64::try_from(self.span.to).unwrap_or(i64::MAX))
    }

    /// That the table's transactions agree.
    fn check(&self, table: &Table, entity: &EntityId) -> Result<(), StageError> {
        let (app_id, offset) = self.txn(entity);
        if table.txn(&app_id) == Some(offset) {
            return Ok(());
        }
        Err(StageError::Corrupt(format!(
            "{}: its newest commit note says offset {offset}, its transaction {:?}",
            table.path(),
            table.txn(&app_id)
        )))
    }

    /// How far the layer is with this commit.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            epoch: self.span.epoch,
            offset: self.span.to,
            totals: self.totals,
            checksum: self.totals_checksum,
            former: self.former,
        }
    }
}

/// That each record that came in has exactly one outcome: nothing else may be committed.
pub(crate) fn conserved(applied: &Applied) -> Result<(), StageError> {
    if applied.counts.is_conserved() {
        return Ok(());
    }
    Err(StageError::Bug(format!(
        "{}: {} records came in and {} are accounted for",
        applied.batch,
        applied.counts.records,
        applied.counts.accounted()
    )))
}

fn app_id(layer: Layer, entity: &EntityId, span: &Span) -> String {
    format!("{}{}", app_ids(layer, entity), span.epoch)
}

/// What the application ids of a layer's transactions begin with, whatever the epoch.
fn app_ids(layer: Layer, entity: &EntityId) -> String {
    format!("alluvium/{layer}/{entity}/")
}

/// Something was applied, and what tells of it is gone: the transaction has the offset, but not the
/// sums up to there, so that nothing can go on from it.
fn lost(table: &Table, layer: Layer, entity: &EntityId, app_id: &str, offset: i64) -> StageError {
    let path = table.path();
    let mend = match layer {
        Layer::Silver => format!("`alluvium rebuild silver {entity}` makes the table anew"),
        Layer::Raw | Layer::Bronze => {
            format!("move all that stands below {path} away, and it is made anew from raw")
        }
    };
    StageError::Corrupt(format!(
        "{path}: its transaction `{app_id}` says that offset {offset} is applied, and the commit \
         that tells the rest is gone from its log, which another program must have cleaned; {mend}"
    ))
}

/// A stretch of messages that a layer has not applied.
pub(crate) type ToApply = (Span, Vec<Arc<Message>>);

/// What of a delivery a layer that stands at `before` still has to apply; `None` if it has it all.
pub(crate) fn take_up(
    before: Option<&Progress>,
    delivery: &Delivery,
) -> Result<Option<ToApply>, StageError> {
    let span = delivery.span;
    let at = match before {
        None => 0,
        Some(progress) if progress.epoch != span.epoch => {
            return Err(StageError::UnexpectedEpoch {
                expected: progress.epoch,
                found: span.epoch,
            });
        }
        Some(progress) => progress.offset,
    };
    if span.after > at {
        return Err(StageError::Hole { at, span });
    }
    if span.to <= at {
        return Ok(None);
    }
    let span = Span { after: at, ..span };
    let messages: Vec<_> =
        delivery.messages.iter().filter(|message| message.offset > at).cloned().collect();
    // Between messages a bus may have offsets of its own. It has seen to it that none is missing.
    let in_order = messages.is_sorted_by(|a, b| a.offset < b.offset);
    let inside = messages.iter().all(|m| m.epoch == span.epoch && m.offset <= span.to);
    if !in_order || !inside {
        return Err(StageError::Bug(format!("the messages of a delivery do not stand in {span}")));
    }
    Ok((!messages.is_empty()).then_some((span, messages)))
}

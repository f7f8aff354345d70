//! Audit events: CloudEvents 1.0.2 in JSON, delivered at least once through the outbox.

use jiff::Timestamp;
use serde_json::{Value, json};

use alluvium_model::{EntityId, Layer, RunId};

use crate::batch::BatchRow;
use crate::run::RunEnd;
use crate::time;

/// The type of the event that tells of an applied batch.
pub const BATCH_APPLIED: &str = "io.alluvium.batch.applied";
/// The type of the event that tells of a run's end.
pub const RUN_FINISHED: &str = "io.alluvium.run.finished";
/// The type of the event that tells that the ledger was taken back to what the lake has.
pub const LEDGER_REWOUND: &str = "io.alluvium.ledger.rewound";

/// An event that waits to be delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEvent {
    /// Its id, the same however often it is delivered.
    pub id: String,
    /// The CloudEvent, as JSON.
    pub event: Value,
    /// When it was written.
    pub created_at: Timestamp,
}

/// An event on its way into the outbox.
pub(crate) struct NewEvent {
    pub(crate) id: String,
    pub(crate) event: Value,
}

/// Tells of a batch. The event's id is the batch's.
pub(crate) fn batch_applied(batch: &BatchRow) -> NewEvent {
    let data = json!({
        "batch": batch.id, "layer": batch.layer, "system": batch.entity.system,
        "entity": batch.entity.entity, "epoch": batch.span.epoch, "after": batch.span.after,
        "to": batch.span.to, "run": batch.run, "counts": batch.counts, "rows": batch.rows,
        "bytes": batch.bytes, "version": batch.version, "checksum": batch.checksum,
        "from_lake": batch.from_lake,
    });
    envelope(BATCH_APPLIED, batch.id.0.clone(), &batch.entity.to_string(), batch.applied_at, data)
}

/// Tells of a run's end.
pub(crate) fn run_finished(run: &RunId, system: &str, trigger: &str, end: &RunEnd) -> NewEvent {
    let data = json!({
        "run": run, "system": system, "trigger": trigger, "status": end.status,
        "reason": end.reason, "entities": end.entities, "polled": end.polled,
        "published": end.published,
    });
    envelope(RUN_FINISHED, format!("run/{run}"), system, end.ended_at, data)
}

/// Tells that the ledger was taken back.
pub(crate) fn ledger_rewound(
    entity: &EntityId,
    layer: Layer,
    from: u64,
    to: u64,
    at: Timestamp,
) -> NewEvent {
    let data = json!({
        "layer": layer, "system": entity.system, "entity": entity.entity, "from": from, "to": to,
    });
    let id = format!("rewound/{layer}/{entity}/{from}-{to}/{}", time::text(at));
    envelope(LEDGER_REWOUND, id, &entity.to_string(), at, data)
}

fn envelope(kind: &str, id: String, subject: &str, at: Timestamp, data: Value) -> NewEvent {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "/alluvium/ledger", "type": kind,
        "subject": subject, "time": time::text(at), "datacontenttype": "application/json",
        "data": data,
    });
    NewEvent { id, event }
}

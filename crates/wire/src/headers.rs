//! The headers of a message: their names, and those that every message of a page carries.
//!
//! Names are lower-case and made of letters, digits, `-` and `_`, so that Kafka and NATS carry them
//! as they are. The CloudEvents attributes are named as in its Kafka binding (`ce_id`); over NATS
//! and HTTP, whose bindings write `ce-id`, a bus maps the prefix `ce_` to `ce-` and back.

use alluvium_model::{EntityId, Headers, RunId};
use jiff::Timestamp;

/// What the payload is: [`NDJSON`], or [`JSON`] where it is one record.
pub const CONTENT_TYPE: &str = "content-type";
/// `control` marks a message whose lines are control records; without it they are changes.
pub const KIND: &str = "alluvium-kind";
/// What each line is: `envelope/1` (also meant where the header is missing), `plain` or `map`.
pub const FORMAT: &str = "alluvium-format";
/// The mapping of a message of format `map`, as JSON.
pub const MAP: &str = "alluvium-map";
/// The run that published the message.
pub const RUN: &str = "alluvium-run-id";
/// What the records were delivered in (a page, a file), the same when they are published again.
/// With the ordinal it identifies records that have no sequence.
pub const DELIVERY: &str = "alluvium-delivery";
/// The ordinal of the message's first record in its delivery, from 0; further records count on.
pub const ORDINAL: &str = "alluvium-ordinal";
/// The position of the quarantined record that the message replays, `epoch/offset/index`.
pub const REPLAY_OF: &str = "alluvium-replay-of";
/// The W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// CloudEvents: the version of its specification, [`CE_VERSION`].
pub const CE_SPECVERSION: &str = "ce_specversion";
/// CloudEvents: the message's id, `delivery/ordinal`.
pub const CE_ID: &str = "ce_id";
/// CloudEvents: the entity's topic, as `/alluvium/SYSTEM/ENTITY`: with the id it names one message.
pub const CE_SOURCE: &str = "ce_source";
/// CloudEvents: [`CE_CHANGES`] or [`CE_CONTROL`].
pub const CE_TYPE: &str = "ce_type";
/// CloudEvents: when the message was made, RFC 3339.
pub const CE_TIME: &str = "ce_time";
/// CloudEvents: the entity's name.
pub const CE_SUBJECT: &str = "ce_subject";

/// Content type of several records.
pub const NDJSON: &str = "application/x-ndjson";
/// Content type of one record.
pub const JSON: &str = "application/json";
/// Value of [`KIND`] for control records.
pub const KIND_CONTROL: &str = "control";
/// Value of [`FORMAT`] for envelopes, ours and Debezium's.
pub const FORMAT_ENVELOPE: &str = "envelope/1";
/// Value of [`FORMAT`] for rows as they are, an upsert each.
pub const FORMAT_PLAIN: &str = "plain";
/// Value of [`FORMAT`] for lines of another shape, read by [`MAP`].
pub const FORMAT_MAP: &str = "map";
/// Value of [`CE_SPECVERSION`]. CloudEvents 1.0.2 names its version so.
pub const CE_VERSION: &str = "1.0";
/// Value of [`CE_TYPE`] for changes.
pub const CE_CHANGES: &str = "alluvium.changes.v1";
/// Value of [`CE_TYPE`] for control records.
pub const CE_CONTROL: &str = "alluvium.control.v1";

/// Where the records of a delivery come from, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishContext {
    /// The entity whose records they are.
    pub entity: EntityId,
    /// The run that publishes them.
    pub run: Option<RunId>,
    /// The W3C trace context to pass on.
    pub traceparent: Option<String>,
    /// The delivery's id. Must be the same when the same records are published again, and another
    /// for any other delivery.
    pub delivery: String,
    /// The ordinal of the first record in its delivery: 0, but where one delivery is encoded in
    /// several calls; then the records of the calls before.
    pub ordinal: u64,
    /// The time, for `ts_ms` and `ce_time`.
    pub now: Timestamp,
}

/// The headers that all messages of a delivery have in common.
pub fn base_headers(context: &PublishContext) -> Headers {
    let mut headers = Headers::default()
        .with(DELIVERY, context.delivery.as_str())
        .with(CE_SPECVERSION, CE_VERSION)
        .with(CE_SOURCE, source_of(&context.entity))
        .with(CE_SUBJECT, context.entity.entity.as_str())
        .with(CE_TIME, context.now.to_string());
    if let Some(run) = &context.run {
        headers = headers.with(RUN, run.0.as_str());
    }
    if let Some(traceparent) = &context.traceparent {
        headers = headers.with(TRACEPARENT, traceparent.as_str());
    }
    headers
}

fn source_of(entity: &EntityId) -> String {
    format!("/alluvium/{}/{}", entity.system, entity.entity)
}

/// The headers of one message of changes or control records: `base` with what is its own.
pub(crate) fn message_headers(
    base: &Headers,
    context: &PublishContext,
    ordinal: u64,
    records: u32,
    control: bool,
) -> Headers {
    let headers = base
        .clone()
        .with(CONTENT_TYPE, if records == 1 { JSON } else { NDJSON })
        .with(ORDINAL, ordinal.to_string())
        .with(CE_ID, format!("{}/{ordinal}", context.delivery))
        .with(CE_TYPE, if control { CE_CONTROL } else { CE_CHANGES });
    if control { headers.with(KIND, KIND_CONTROL) } else { headers }
}

/// The delivery that a message's records came in, and the ordinal of the first of them there; `None`
/// where the headers do not tell both.
pub fn delivered_in(headers: &Headers) -> Option<(&str, u64)> {
    Some((headers.get(DELIVERY)?, headers.get(ORDINAL)?.parse().ok()?))
}

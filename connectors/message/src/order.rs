//! What orders the changes of an entity.
//!
//! A source that gives its changes versions is ordered by them, where the entity declares a
//! `sequence_by`. All else is ordered by its place in the log: the message's time made non-decreasing
//! along its partition, the partition, the offset, and the index in the message. Within a partition
//! this is the log's own order, and producers put all changes of one key into one partition. Between
//! partitions it is that of time. It follows from the messages alone, never from when or in which
//! turn they were read, so that reading again gives the same history.

use alluvium_model::metadata::SequenceBy;
use alluvium_model::{EntitySpec, SequenceType};
use alluvium_wire::Parts;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a change carries as its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Its place in the log.
    Place,
    /// What its source says of it.
    Source,
    /// Nothing: columns of the row order it.
    Row,
}

/// A place in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// The message's time made non-decreasing along its partition, in microseconds since 1970. It has
    /// a date.
    pub(crate) time_us: i64,
    /// The partition.
    pub(crate) partition: i32,
    /// The offset.
    pub(crate) offset: i64,
    /// The index of the record in the message.
    pub(crate) index: u64,
}

/// Whether a time, in microseconds since 1970, is one: it lies before the year 10000.
pub(crate) fn has_date(us: i64) -> bool {
    Timestamp::from_microsecond(us).is_ok()
}

/// The `sequence_by` of an entity that is ordered by places in the log.
pub(crate) fn by_place() -> Vec<SequenceBy> {
    use SequenceType::{Long, Timestamp};
    let parts = [Timestamp, Long, Long, Long];
    parts.map(SequenceBy::carried).into()
}

impl Order {
    /// The order of a completed entity.
    pub(crate) fn of(entity: &EntitySpec) -> Self {
        let carries = |part: &SequenceBy| matches!(part, SequenceBy::Carried { .. });
        if entity.sequence_by == by_place() {
            Order::Place
        } else if entity.sequence_by.iter().any(carries) {
            Order::Source
        } else {
            Order::Row
        }
    }

    /// What a change at `at` carries, whose source says `own`.
    pub(crate) fn sequence(self, at: At, own: &Parts<'_>) -> Vec<Value> {
        match self {
            Order::Place => at.sequence(),
            Order::Source => own.iter().map(|part| value(part)).collect(),
            Order::Row => Vec::new(),
        }
    }
}

impl At {
    /// The place as a sequence.
    pub(crate) fn sequence(self) -> Vec<Value> {
        let time = Timestamp::from_microsecond(self.time_us).unwrap_or(Timestamp::UNIX_EPOCH);
        vec![
            Value::from(time.to_string()),
            Value::from(self.partition),
            Value::from(self.offset),
            Value::from(self.index),
        ]
    }
}

/// A part of a sequence without losing a digit: a number that is no integer stays text.
fn value(part: &RawValue) -> Value {
    match serde_json::from_str(part.get()) {
        Ok(Value::Number(number)) if !number.is_i64() && !number.is_u64() => {
            Value::String(part.get().to_owned())
        }
        Ok(value) => value,
        Err(_) => Value::Null,
    }
}

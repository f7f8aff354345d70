//! Records that come too late are refused: older than the newest of their entity by more than its
//! horizon, or than the border before which its history has been removed.
//!
//! What is too late follows from the records before it alone, in the order of the topic, and from
//! borders that the table remembers: how records fall into batches alters nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_model::change::Decision;
use alluvium_model::{
    Control, EntitySpec, Message, Quarantined, SequencePart, SequenceType, StageError,
};

use super::Shape;
use super::closing::Closings;
use super::gather::Incoming;
use crate::decode::Decoded;

/// How old things may be, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// So much older than the newest record another one may be.
    pub(super) horizon: Option<i64>,
    /// Versions are kept for so long after their end.
    pub(super) retention: Option<i64>,
}

impl Limits {
    /// Those of an entity whose order begins with a part of type `first`.
    pub(super) fn of(entity: &EntitySpec, first: SequenceType) -> Result<Self, StageError> {
        let silver = &entity.layers.silver;
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let limits = Self {
            horizon: silver.late_horizon.map(|horizon| micros(horizon.duration())),
            retention: silver.history_retention.map(|kept| micros(kept.duration())),
        };
        let any = limits.horizon.or(limits.retention).is_some();
        if any && first != SequenceType::Timestamp {
            let text = format!(
                "{}: late_horizon and history_retention need an order that begins with a time",
                entity.id()
            );
            return Err(StageError::Mismatch(text));
        }
        Ok(limits)
    }
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It is older than the newest record by more than the horizon.
    Horizon,
    /// The history that it belongs to has been removed.
    Removed,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Horizon => {
                "in the source's order it is older than the newest record of the entity by more \
                 than `late_horizon`"
            }
            Self::Removed => {
                "in the source's order it is older than what is kept of the history \
                 (`history_retention`)"
            }
        }
    }
}

/// A place in a batch: the message, and the record in it.
type Place = (u32, u32);

/// The records of a batch that are refused.
#[derive(Debug, Default)]
pub(super) struct Late {
    refused: BTreeMap<Place, Refusal>,
    /// The time of the entity's newest record so far, in microseconds since 1970.
    pub(super) newest: Option<i64>,
    /// The same at the end of each message; empty where there is no horizon.
    newest_at: Vec<Option<i64>>,
}

/// The word for it in quarantine.
const CODE: &str = "late";

impl Late {
    /// Judges the records of a batch in the order of the topic. `newest` is the time of the newest
    /// record before it; `closings` learn which border refused something.
    pub(super) fn judge(
        shape: &Shape,
        incoming: &Incoming,
        closings: &mut Closings,
        newest: Option<i64>,
    ) -> Self {
        let mut late = Self { newest, ..Self::default() };
        let horizon = shape.limits.horizon;
        if horizon.is_none() && closings.borders.is_empty() {
            return late;
        }
        for (n, (message, decoded)) in (0..).zip(incoming.messages.iter().zip(&incoming.decoded)) {
            let border = closings.borders.at(message.epoch, message.offset);
            let mut removed = false;
            for (index, time, ages) in times(shape, decoded, closings) {
                let earliest = late.newest.zip(horizon).map(|(at, by)| at.saturating_sub(by));
                if border.is_some_and(|border| time < border) {
                    removed = true;
                    late.refused.insert((n, index), Refusal::Removed);
                } else if earliest.is_some_and(|earliest| time < earliest) {
                    late.refused.insert((n, index), Refusal::Horizon);
                } else if ages && horizon.is_some() {
                    // A date that lies ahead of us makes nothing else old.
                    late.newest = late.newest.max(Some(time.min(message.published_at_us)));
                }
            }
            if removed {
                closings.borders.refuse(message.epoch, message.offset);
            }
            if horizon.is_some() {
                late.newest_at.push(late.newest);
            }
        }
        late
    }

    /// Whether nothing is refused.
    pub(super) fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }

    /// Whether a record is refused.
    pub(super) fn contains(&self, message: u32, index: u32) -> bool {
        self.refused.contains_key(&(message, index))
    }

    /// The time before which records are too late at the end of a message, by the horizon alone.
    pub(super) fn earliest(&self, shape: &Shape, message: u32) -> Option<i64> {
        let newest = self.newest_at.get(message as usize).copied().flatten();
        newest.zip(shape.limits.horizon).map(|(at, by)| at.saturating_sub(by))
    }

    /// Why a record is refused, as code and reason.
    pub(super) fn why(&self, message: u32, index: u32) -> Option<(&'static str, String)> {
        let refusal = self.refused.get(&(message, index))?;
        Some((CODE, refusal.reason().to_owned()))
    }

    /// The rows that are refused, as they go into quarantine.
    pub(super) fn rows(&self, incoming: &Incoming) -> Vec<Quarantined> {
        let mut rows = Vec::new();
        for (n, (message, decoded)) in (0..).zip(incoming.messages.iter().zip(&incoming.decoded)) {
            let mut refused = self.refused.range((n, 0)..=(n, u32::MAX)).peekable();
            if refused.peek().is_none() {
                continue;
            }
            let lines: Vec<&[u8]> = message.lines().collect();
            let is_row =
                |index: u32| decoded.rows.binary_search_by_key(&index, |r| r.index).is_ok();
            for ((_, index), refusal) in refused.filter(|((_, index), _)| is_row(*index)) {
                rows.push(quarantined(message, &lines, *index, *refusal));
            }
        }
        rows
    }
}

fn quarantined(message: &Message, lines: &[&[u8]], index: u32, refusal: Refusal) -> Quarantined {
    Quarantined {
        position: message.position(index),
        code: CODE.to_owned(),
        reason: refusal.reason().to_owned(),
        bytes: lines.get(index as usize).map(|line| line.to_vec()).unwrap_or_default(),
    }
}

/// The records of a message that have a time, in their order: index, time, and whether others are
/// late from then on.
fn times(shape: &Shape, decoded: &Decoded, closings: &Closings) -> Vec<(u32, i64, bool)> {
    let rows = decoded.rows.iter().map(|row| (row.index, row.at, true));
    let truncates = decoded.truncates.iter().map(|t| (t.index, t.sequence.first(), true));
    let controls = decoded.controls.iter().filter_map(|(index, control)| match control {
        Control::SnapshotEnd { sequence, .. } => {
            Some((*index, shape.decoder.carried(sequence).ok()?.first(), true))
        }
        // What is approved after all closes at its own time.
        Control::Decision { decision: Decision::Approve, position } => {
            Some((*index, closings.held_at(position)?.at, false))
        }
        _ => None,
    });
    let all = rows.chain(truncates).chain(controls);
    let mut times: Vec<_> =
        all.filter_map(|(index, at, ages)| Some((index, micros(at)?, ages))).collect();
    times.sort_by_key(|(index, ..)| *index);
    times
}

/// A time in microseconds; none if the order does not begin with a time.
pub(super) fn micros(at: SequencePart) -> Option<i64> {
    match at {
        SequencePart::Timestamp(micros) => Some(micros),
        _ => None,
    }
}

//! When a run began: what names a snapshot, and what orders rows that carry no order of their own.

use alluvium_model::metadata::{Load, SequenceBy};
use alluvium_model::{Clock, EntitySpec, SequenceType, SourceError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The moment at which a run of one entity began, in microseconds. It stands in the cursor, so
/// that a page read again carries the same snapshot and the same sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunStart(Timestamp);

impl RunStart {
    /// A run that begins now, always after the last one, even if the clock was set back.
    pub fn after(last: Option<RunStart>, clock: &dyn Clock) -> Self {
        let now = clock.now().as_microsecond();
        let earliest = last.map_or(i64::MIN, |last| last.0.as_microsecond().saturating_add(1));
        Self(Timestamp::from_microsecond(now.max(earliest)).unwrap_or(Timestamp::MAX))
    }

    /// The moment.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// The id of the snapshot that the run reads: the moment in RFC 3339.
    pub fn snapshot(self) -> String {
        self.0.to_string()
    }

    /// The sequence that the run's rows carry: the moment in RFC 3339.
    pub fn sequence(self) -> Vec<Value> {
        vec![Value::String(self.0.to_string())]
    }
}

/// Makes the entity take its sequence from what its changes carry: the start of the run.
pub fn carry_run_start(entity: &mut EntitySpec) {
    entity.sequence_by = vec![SequenceBy::carried(SequenceType::Timestamp)];
}

/// Fills in the sequence of an entity that is loaded in full, and refuses another one: its rows
/// are ordered by the snapshots they were read in, never by their own columns.
pub fn require_snapshot_sequence(entity: &mut EntitySpec) -> Result<(), SourceError> {
    let declared = std::mem::take(&mut entity.sequence_by);
    carry_run_start(entity);
    if entity.load == Load::Full && !declared.is_empty() && declared != entity.sequence_by {
        return Err(SourceError::Misconfigured(format!(
            "entity `{}` is loaded in full, so the start of each snapshot orders its rows; leave \
             `sequence_by` out, or load it as `delta`",
            entity.id()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[derive(Debug)]
    struct At(i64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanosecond(i128::from(self.0)).unwrap()
        }
        fn instant(&self) -> Instant {
            unreachable!("a run start asks for wall time only")
        }
    }

    #[test]
    fn a_run_begins_after_the_last_even_if_the_clock_was_set_back() {
        let first = RunStart::after(None, &At(5_000_000_999));
        assert_eq!(first.snapshot(), "1970-01-01T00:00:05Z", "microseconds");
        let second = RunStart::after(Some(first), &At(1_000));
        assert!(second > first);
        assert_eq!(second.sequence(), vec![Value::from("1970-01-01T00:00:05.000001Z")]);
    }
}

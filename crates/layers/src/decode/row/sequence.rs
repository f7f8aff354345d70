//! The parts of a change's sequence: where each stands, and how it reads.

use alluvium_model::metadata::TimeUnit;
use alluvium_model::sequence::{Instant, SequenceBuilder, SequenceError};
use alluvium_model::{Column, EntityId, SequenceType};
use alluvium_wire::string_value;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::super::Rejection;
use super::super::time::plain_utc;
use crate::schema::sequence_type;

/// Where a part of the sequence stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In this slot of the row.
    Slot(usize),
    /// Beside the row, in this place among the carried parts.
    Carried(usize),
}

/// A part of the sequence.
pub(super) struct Part {
    pub(super) place: Place,
    kind: SequenceType,
    /// What its numbers count, where it is a time.
    unit: TimeUnit,
}

impl Part {
    /// The column in the slot `at`.
    pub(super) fn column(at: usize, column: &Column) -> Self {
        Self { place: Place::Slot(at), kind: sequence_type(column), unit: column.counts() }
    }

    /// The carried part in the place `at` among these.
    pub(super) fn carried(at: usize, kind: SequenceType, unit: Option<TimeUnit>) -> Self {
        Self { place: Place::Carried(at), kind, unit: unit.unwrap_or_default() }
    }

    /// Adds the part to a sequence.
    pub(super) fn put(
        &self,
        builder: &mut SequenceBuilder,
        raw: &RawValue,
        zone: &TimeZone,
    ) -> Result<(), SequenceError> {
        if self.kind == SequenceType::Timestamp {
            if let Ok(number) = raw.get().parse() {
                builder.timestamp(Instant::from_number(number, self.unit)?);
                return Ok(());
            }
            let bare = raw.get().trim_matches('"');
            if let Some(micros) = plain_utc(bare.as_bytes()) {
                builder.timestamp(Instant::from_microsecond(micros));
                return Ok(());
            }
        }
        match string_value(raw) {
            Some(text) => builder.text(self.kind, &text, zone),
            None => builder.text(self.kind, raw.get(), zone),
        }
    }

    /// Why the part, called `name`, cannot be read, and what is to be written where that is known.
    pub(super) fn refused(
        &self,
        name: &str,
        error: &SequenceError,
        entity: &EntityId,
    ) -> Rejection {
        let mend = match (error, self.place) {
            (SequenceError::Beyond { .. }, Place::Slot(_)) => "write it in the column",
            (SequenceError::Beyond { .. }, Place::Carried(_)) => {
                "write it beside `\"carried\": \"timestamp\"` in `sequence_by`"
            }
            _ => return Self::bad(format!("the sequence ({name}): {error}")),
        };
        // To what the table has from a wrong unit, all that comes after it may be late.
        let rebuild = format!("then give `alluvium rebuild silver {entity}`");
        Self::bad(format!("the sequence ({name}): {error}; {mend}, {rebuild}"))
    }

    fn bad(reason: String) -> Rejection {
        Rejection { code: "bad_sequence", reason }
    }
}

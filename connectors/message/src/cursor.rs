//! How far a log was read: what stands in the cursor of a message entity.

use std::collections::BTreeMap;

use alluvium_model::{Cursor, SourceError};
use serde::{Deserialize, Serialize};

/// The cursor of an entity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageCursor {
    /// What the cursor was made for; for another topic or subject it means nothing.
    pub(crate) of: String,
    /// What tells the log from another one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incarnation: Option<String>,
    /// Where each partition is to be read on. Empty only where the log has no partition yet.
    pub(crate) partitions: BTreeMap<i32, Place>,
    /// What became no change.
    #[serde(default)]
    pub(crate) passed: Passed,
}

/// Where a partition is to be read on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The next offset.
    pub(crate) next: i64,
    /// The latest time of a message before it, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_us: Option<i64>,
    /// If the message before it was Debezium's delete: the hash of its key. The tombstone that
    /// follows says the same again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted: Option<String>,
}

/// What became no change, since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Passed {
    /// Tombstones after the delete that they repeat.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) tombstones: u64,
    /// Control records of another platform that mean nothing here.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) controls: u64,
    /// Offsets that were gone before they were read.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) lost: u64,
}

impl MessageCursor {
    /// Reads a stored cursor; `None` if there is none, or one that was made for something else.
    pub(crate) fn read(stored: Option<&Cursor>, of: &str) -> Result<Option<Self>, SourceError> {
        let Some(stored) = stored else { return Ok(None) };
        let cursor = Self::deserialize(&stored.0).map_err(|_| {
            SourceError::Misconfigured("the stored cursor is not one of a message entity".into())
        })?;
        Ok(Some(cursor).filter(|cursor| cursor.of == of))
    }

    /// The cursor as it is stored.
    pub(crate) fn write(&self) -> Result<Cursor, SourceError> {
        serde_json::to_value(self)
            .map(Cursor)
            .map_err(|e| SourceError::BadAnswer(format!("its place cannot be stored: {e}")))
    }

    /// The next offset of each partition.
    pub(crate) fn next(&self) -> BTreeMap<i32, i64> {
        self.partitions.iter().map(|(partition, place)| (*partition, place.next)).collect()
    }
}

impl Place {
    /// Takes the message's time in; gives it made non-decreasing along the partition. Without any
    /// time so far, it is that of 1970.
    pub(crate) fn advance(&mut self, time_us: Option<i64>) -> i64 {
        let known = self.time_us.unwrap_or(0);
        let latest = time_us.map_or(known, |time| match self.time_us {
            Some(_) => time.max(known),
            None => time,
        });
        self.time_us = Some(latest);
        latest
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        let place = Place { next: 7, time_us: Some(-5), deleted: Some("ab".to_owned()) };
        let cursor = MessageCursor {
            of: "kafka t".to_owned(),
            incarnation: None,
            partitions: BTreeMap::from([(0, place), (12, Place::default())]),
            passed: Passed { tombstones: 3, ..Passed::default() },
        };
        let stored = cursor.write().unwrap();
        assert_eq!(MessageCursor::read(Some(&stored), "kafka t").unwrap(), Some(cursor));
        assert_eq!(MessageCursor::read(Some(&stored), "kafka u").unwrap(), None, "another topic");
        assert!(MessageCursor::read(Some(&Cursor(5.into())), "kafka t").is_err());
    }

    #[test]
    fn times_never_decrease_along_a_partition() {
        let mut place = Place::default();
        let times = [Some(-3), Some(10), Some(7), None, Some(11)];
        assert_eq!(times.map(|time| place.advance(time)), [-3, 10, 10, 10, 11]);
        assert_eq!(Place::default().advance(None), 0);
    }
}

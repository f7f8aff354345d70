//! How far a log was read: what stands in the cursor of a message entity.

use std::collections::BTreeMap;

use alluvium_model::{Cursor, SourceError};
use serde::{Deserialize, Serialize};

use crate::order::has_date;

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
    /// The last message before it that was read, by which the log is known again. Only where the
    /// engine gives the log no `incarnation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Seen>,
}

/// A message that was read, as far as it takes to know it again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Its offset.
    pub(crate) offset: i64,
    /// The hash of its time, key and value.
    pub(crate) hash: String,
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

    /// The last message that was read of each partition, where it is known.
    pub(crate) fn last(&self) -> BTreeMap<i32, Seen> {
        let known = |(partition, place): (&i32, &Place)| Some((*partition, place.last.clone()?));
        self.partitions.iter().filter_map(known).collect()
    }
}

impl Place {
    /// Takes the message's time in; gives it made non-decreasing along the partition. Without any
    /// time so far, it is that of 1970. What has no date is no time: neither the message's, nor what
    /// older releases took up.
    pub(crate) fn advance(&mut self, time_us: Option<i64>) -> i64 {
        let known = self.time_us.filter(|us| has_date(*us));
        let latest = time_us.filter(|us| has_date(*us)).max(known).unwrap_or(0);
        self.time_us = Some(latest);
        latest
    }

    /// Takes up where to read on, and the last message if another one was read. One that does not
    /// stand before `next` is of a log that is gone.
    pub(crate) fn stand(&mut self, next: i64, last: Option<Seen>) {
        self.next = next;
        self.last = last.or_else(|| self.last.take()).filter(|last| last.offset < next);
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
        let last = Some(Seen { offset: 6, hash: "cd".to_owned() });
        let place = Place { next: 7, time_us: Some(-5), deleted: Some("ab".to_owned()), last };
        let cursor = MessageCursor {
            of: "kafka t".to_owned(),
            incarnation: None,
            partitions: BTreeMap::from([(0, place.clone()), (12, Place::default())]),
            passed: Passed { tombstones: 3, ..Passed::default() },
        };
        assert_eq!(cursor.last(), BTreeMap::from_iter(place.last.map(|last| (0, last))));
        let stored = cursor.write().unwrap();
        assert_eq!(MessageCursor::read(Some(&stored), "kafka t").unwrap(), Some(cursor));
        assert_eq!(MessageCursor::read(Some(&stored), "kafka u").unwrap(), None, "another topic");
        assert!(MessageCursor::read(Some(&Cursor(5.into())), "kafka t").is_err());
    }

    #[test]
    fn the_last_message_is_kept_until_another_one_was_read_or_the_place_goes_back() {
        let seen = |offset| Some(Seen { offset, ..Seen::default() });
        let mut place = Place::default();
        place.stand(5, seen(4));
        place.stand(9, None);
        assert_eq!((place.next, &place.last), (9, &seen(4)), "marks of transactions were passed");
        place.stand(10, seen(9));
        assert_eq!(place.last, seen(9));
        place.stand(2, None);
        assert_eq!(place.last, None);
    }

    #[test]
    fn times_never_decrease_along_a_partition() {
        let mut place = Place::default();
        let times = [Some(-3), Some(10), Some(7), None, Some(11)];
        assert_eq!(times.map(|time| place.advance(time)), [-3, 10, 10, 10, 11]);
        assert_eq!(Place::default().advance(None), 0);
    }

    #[test]
    fn a_time_that_no_calendar_has_is_none_also_where_it_was_taken_up_before() {
        let nonsense = 1_795_222_800_000_000_000;
        let mut place = Place::default();
        let times = [Some(5), Some(nonsense), Some(7), Some(-nonsense), Some(i64::MAX), Some(8)];
        assert_eq!(times.map(|time| place.advance(time)), [5, 5, 7, 7, 7, 8]);
        let mut older = Place { time_us: Some(nonsense), ..Place::default() };
        assert_eq!([older.advance(Some(9)), older.advance(None)], [9, 9]);
        assert_eq!(Place::default().advance(Some(nonsense)), 0);
    }
}

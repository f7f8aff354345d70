//! What a reader checks of the messages that pass it.
//!
//! Offsets have gaps, so they do not tell whether a message is missing. The messages of polled pages
//! are numbered along the topic: their publishers follow each other, and each finds the number of the
//! last one in the cursor record. Pushed ones come from many publishers at once, and have none.

use alluvium_model::BusError;

use super::record::Found;

/// How far before the place where it goes on a reader begins, in Kafka's offsets. It delivers nothing
/// of that, but knows from it what must come next.
const BEFORE: i64 = 16;

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// Up to here was delivered before.
    delivered: u64,
    /// Everything up to here has come.
    offset: u64,
    /// The number of the last one that had one.
    polled: Option<u64>,
    published_at_us: i64,
}

impl Course {
    /// Where a reader is to begin that goes on after `at`, in a topic that begins at `low`; and its
    /// course.
    pub(super) fn before(at: u64, low: i64) -> (i64, Self) {
        let next = i64::try_from(at + 1).unwrap_or(i64::MAX);
        let from = (next - BEFORE).max(low).max(1).min(next);
        let offset = u64::try_from(from - 1).unwrap_or(0);
        // At the beginning of a topic stands the mark, and then the first message.
        let polled = (low == 0 && offset == 0).then_some(0);
        (from, Self { delivered: at, offset, polled, published_at_us: 0 })
    }

    /// Takes up the next message, whose publish time does not go back from now on. Whether it is to
    /// be delivered. [`BusError::Corrupt`] if it came before, or one is missing before it.
    pub(super) fn pass(&mut self, topic: &str, found: &mut Found) -> Result<bool, BusError> {
        let offset = found.message.offset;
        if offset <= self.offset {
            return Err(BusError::Corrupt(format!("{topic}: offset {offset} came again")));
        }
        if let (Some(last), Some(number)) = (self.polled, found.polled) {
            // It begins anew where the cursor records were lost.
            if number > last + 1 {
                let (missing, after) = (number - last - 1, self.offset);
                return Err(BusError::Corrupt(format!(
                    "{topic}: between offsets {after} and {offset} messages are missing: of \
                     {missing} that were published up to there nothing came"
                )));
            }
        }
        self.offset = offset;
        self.polled = found.polled.or(self.polled);
        self.published_at_us = self.published_at_us.max(found.message.published_at_us);
        found.message.published_at_us = self.published_at_us;
        Ok(offset > self.delivered)
    }

    /// Takes up that no message comes up to `at` that has not come.
    pub(super) fn reached(&mut self, at: u64) {
        self.offset = self.offset.max(at);
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::{EncodedMessage, Epoch, Headers, Message};
    use bytes::Bytes;

    use super::*;

    fn found(offset: u64, polled: Option<u64>, published_at_us: i64) -> Found {
        let (headers, payload) = (Headers::default(), Bytes::new());
        let encoded = EncodedMessage { headers, payload, records: 1 };
        Found { message: Message::new(Epoch(1), offset, published_at_us, encoded, None), polled }
    }

    fn pass(course: &mut Course, mut next: Found) -> Result<i64, BusError> {
        course.pass("t", &mut next).map(|_| next.message.published_at_us)
    }

    #[test]
    fn a_reader_begins_a_little_earlier_and_never_before_the_topic() {
        assert_eq!(Course::before(0, 0).0, 1);
        assert_eq!(Course::before(1000, 0).0, 1001 - BEFORE);
        assert_eq!(Course::before(1000, 995).0, 995);
        assert_eq!(Course::before(1000, 1001).0, 1001);
    }

    #[test]
    fn a_message_that_is_missing_is_told_whatever_stands_between() {
        let (_, mut course) = Course::before(0, 0);
        pass(&mut course, found(1, Some(1), 0)).unwrap();
        pass(&mut course, found(3, None, 0)).unwrap();
        pass(&mut course, found(7, Some(2), 0)).unwrap();
        for _ in 0..2 {
            let missing = pass(&mut course, found(9, Some(4), 0));
            assert!(matches!(&missing, Err(BusError::Corrupt(_))), "{missing:?}");
        }
        pass(&mut course, found(10, Some(1), 0)).expect("the cursor records were lost");
        course.reached(12);
        let again = pass(&mut course, found(12, Some(2), 0));
        assert!(matches!(&again, Err(BusError::Corrupt(_))), "{again:?}");
    }

    #[test]
    fn what_was_delivered_says_what_comes_next_and_is_not_delivered_again() {
        let (_, mut course) = Course::before(50, 0);
        assert!(!course.pass("t", &mut found(40, Some(4), 8)).unwrap());
        let mut next = found(60, Some(5), 3);
        assert!(course.pass("t", &mut next).unwrap());
        assert_eq!(next.message.published_at_us, 8);
        assert!(course.pass("t", &mut found(70, Some(7), 0)).is_err());
    }

    #[test]
    fn the_first_message_of_a_topic_is_not_missing_unnoticed() {
        let (_, mut course) = Course::before(0, 0);
        assert!(pass(&mut course, found(2, Some(2), 0)).is_err());
        let (_, mut later) = Course::before(1, 1);
        pass(&mut later, found(2, Some(2), 0)).expect("what was before is gone");
    }

    #[test]
    fn publish_times_never_go_back() {
        let (_, mut course) = Course::before(0, 0);
        let times = [5, 3, 9, 0].map(|time| {
            let offset = course.offset + 1;
            pass(&mut course, found(offset, None, time)).unwrap()
        });
        assert_eq!(times, [5, 5, 9, 9]);
    }
}

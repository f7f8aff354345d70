//! What a reader checks of the messages that pass it.
//!
//! Offsets have gaps, so they do not tell whether a message is missing. The messages of polled pages
//! are numbered along the topic: their publishers follow each other, and each finds the number of the
//! last one, and where it stands, in the cursor record. Pushed ones come from many publishers at once,
//! and have none.
//!
//! A reader that has met no polled message yet knows no number. The first of a page tells it where the
//! one before must have stood, however much of what is not polled stands between. The others of a page
//! tell it nothing. So where it begins in the middle of a page, where the first one of the page that
//! comes next is missing itself, and where the brokers told no offset of the one before, it notices what
//! is missing only if a polled one is among the few that it reads before.

use alluvium_model::BusError;

use super::record::{Found, Polled};

/// How far before the place where it goes on a reader begins, in Kafka's offsets. It delivers nothing
/// of that, but knows from it what must come next.
const BEFORE: i64 = 16;

/// Where a reader is, and what came to it on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// Up to here was delivered before.
    delivered: u64,
    /// Everything behind this has come, or was to come.
    begun: u64,
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
        let from = (next - BEFORE).max(low).max(1).min(next.max(low));
        let offset = u64::try_from(from - 1).unwrap_or(0);
        // At the beginning of a topic stands the mark, and then the first message.
        let polled = (low == 0 && offset == 0).then_some(0);
        (from, Self { delivered: at, begun: offset, offset, polled, published_at_us: 0 })
    }

    /// Where a reader is to begin that goes on after `at`, up to where this was the course of another
    /// one; and its course.
    pub(super) fn again(self, at: u64) -> (i64, Self) {
        let next = i64::try_from(at + 1).unwrap_or(i64::MAX);
        (next, Self { delivered: at, offset: at, ..self })
    }

    /// Takes up the next message, whose publish time does not go back from now on. Whether it is to
    /// be delivered. [`BusError::Corrupt`] if it came before, or one is missing before it.
    pub(super) fn pass(&mut self, topic: &str, found: &mut Found) -> Result<bool, BusError> {
        let offset = found.message.offset;
        if offset <= self.offset {
            return Err(BusError::Corrupt(format!("{topic}: offset {offset} came again")));
        }
        if let Some(missing) = found.polled.and_then(|polled| self.missing_before(polled)) {
            let after = self.offset;
            return Err(BusError::Corrupt(format!(
                "{topic}: between offsets {after} and {offset} messages are missing: {missing}"
            )));
        }
        self.offset = offset;
        self.polled = found.polled.map(|polled| polled.number).or(self.polled);
        self.published_at_us = self.published_at_us.max(found.message.published_at_us);
        found.message.published_at_us = self.published_at_us;
        Ok(offset > self.delivered)
    }

    /// What of the polled messages is missing before one that comes.
    fn missing_before(&self, polled: Polled) -> Option<String> {
        match (self.polled, polled.after) {
            // It begins anew where the cursor records were lost.
            (Some(last), _) if polled.number > last + 1 => {
                let count = polled.number - last - 1;
                Some(format!("of {count} that were published up to there nothing came"))
            }
            (None, Some(before)) if before > self.begun => {
                Some(format!("the one at {before} did not come"))
            }
            _ => None,
        }
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
        let polled = polled.map(|number| Polled { number, after: None });
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
        assert_eq!(Course::before(1000, 1003).0, 1003, "the end of a transaction was removed");
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
        let again = pass(&mut course, found(10, Some(2), 0));
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

    /// One that says where the polled one before it stands.
    fn behind(before: u64, offset: u64, number: u64) -> Found {
        Found { polled: Some(Polled { number, after: Some(before) }), ..found(offset, None, 0) }
    }

    #[test]
    fn who_knows_no_number_is_told_where_the_one_before_must_have_stood() {
        let (from, course) = Course::before(1000, 0);
        let begun = u64::try_from(from).unwrap() - 1;
        for before in [7, begun] {
            pass(&mut { course }, behind(before, 2000, 5)).expect("it was before the beginning");
        }
        for before in [begun + 1, 1000, 1999] {
            let missing = pass(&mut { course }, behind(before, 2000, 5));
            assert!(matches!(&missing, Err(BusError::Corrupt(_))), "{before}: {missing:?}");
        }
    }

    #[test]
    fn a_reader_that_goes_on_for_another_one_knows_what_came_to_that() {
        let (_, mut course) = Course::before(0, 0);
        pass(&mut course, found(1, Some(1), 7)).unwrap();
        pass(&mut course, found(500, None, 0)).unwrap();
        let (from, mut course) = course.again(600);
        assert_eq!(from, 601);
        assert!(pass(&mut { course }, found(700, Some(3), 0)).is_err());
        assert_eq!(pass(&mut course, found(700, Some(2), 0)).unwrap(), 7);
        // And where none had a number, from where on none had.
        let (from, mut course) = Course::before(1000, 0);
        pass(&mut course, found(2000, None, 0)).unwrap();
        let (_, course) = course.again(2000);
        pass(&mut { course }, behind(u64::try_from(from).unwrap() - 1, 3000, 9)).unwrap();
        assert!(pass(&mut { course }, behind(1500, 3000, 9)).is_err());
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

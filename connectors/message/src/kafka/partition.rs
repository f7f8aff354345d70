//! One partition of a topic: how far it was read, and what was read ahead. Pure.

use std::collections::VecDeque;

use crate::log::Arrived;

/// One partition of a topic.
pub(super) struct Partition {
    /// The next offset of the last page's cursor.
    pub(super) next: i64,
    /// The offset after what was read ahead.
    pub(super) read: i64,
    /// The offset after the last message, as known last.
    pub(super) end: i64,
    /// The same as it was before anything was read: between it and the last message that came stand
    /// only marks of transactions, once the end was met.
    end_at_open: i64,
    /// Whether the end was met since `end` was asked for.
    pub(super) met_end: bool,
    pub(super) ahead: VecDeque<Arrived>,
}

impl Partition {
    /// A partition of which nothing is read, to be read from `next` to `end`.
    pub(super) fn new(next: i64, end: i64) -> Self {
        let ahead = VecDeque::new();
        Self { next, read: next, end, end_at_open: end, met_end: false, ahead }
    }

    /// Whether something of it is still to be brought.
    pub(super) fn is_behind(&self) -> bool {
        !self.ahead.is_empty() || self.read < self.end
    }

    /// Whether its share of a page is neither read ahead nor known to be less.
    pub(super) fn lacks(&self, share: usize) -> bool {
        self.ahead.len() < share && self.read < self.end && !self.met_end
    }

    /// Moves its share of a page to `messages`.
    pub(super) fn take(&mut self, share: usize, bytes: u64, messages: &mut Vec<Arrived>) {
        let (mut count, mut taken) = (0, 0);
        while count < share && (count == 0 || taken < bytes) {
            let Some(message) = self.ahead.pop_front() else { break };
            (count, taken) = (count + 1, taken + message.bytes());
            self.next = message.offset + 1;
            messages.push(message);
        }
        if self.ahead.is_empty() && self.met_end && self.next < self.end_at_open {
            // What stands between was removed or is no message.
            self.next = self.end_at_open;
            self.read = self.read.max(self.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that was opened at 5 and ends at 10, in which these offsets are messages.
    fn partition(offsets: &[i64], met_end: bool) -> Partition {
        let arrived = |offset: &i64| Arrived { offset: *offset, ..Arrived::default() };
        let ahead: VecDeque<_> = offsets.iter().map(arrived).collect();
        let read = offsets.last().map_or(5, |last| last + 1);
        Partition { read, met_end, ahead, ..Partition::new(5, 10) }
    }

    fn taken(partition: &mut Partition, share: usize) -> Vec<i64> {
        let mut messages = Vec::new();
        partition.take(share, u64::MAX, &mut messages);
        messages.iter().map(|message| message.offset).collect()
    }

    #[test]
    fn marks_of_transactions_at_the_end_are_passed_once_the_end_was_met() {
        let mut met = partition(&[5, 7], true);
        assert_eq!(taken(&mut met, 10), [5, 7]);
        assert_eq!((met.next, met.is_behind()), (10, false));
        let mut none = partition(&[], true);
        assert!(taken(&mut none, 10).is_empty());
        assert_eq!(none.next, 10, "nothing but marks");
    }

    #[test]
    fn before_the_end_was_met_nothing_is_passed() {
        let mut early = partition(&[5, 7], false);
        assert_eq!(taken(&mut early, 10), [5, 7]);
        assert_eq!((early.next, early.is_behind()), (8, true));
        assert!(early.lacks(1), "the rest may be on its way");
        let mut full = partition(&[5, 7], true);
        assert_eq!(taken(&mut full, 1), [5]);
        assert_eq!((full.next, full.is_behind()), (6, true), "what is read ahead comes first");
    }

    #[test]
    fn messages_that_came_after_the_opening_are_not_passed_by_an_end_met_before_them() {
        let mut later = partition(&[5, 9], true);
        later.end = 12;
        assert_eq!(taken(&mut later, 10), [5, 9]);
        assert_eq!((later.next, later.is_behind()), (10, true));
    }
}

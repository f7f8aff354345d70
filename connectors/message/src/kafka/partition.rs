//! One partition of a topic: how far it was read, and what was read ahead. Pure.

use std::collections::VecDeque;

use crate::cursor::Seen;
use crate::log::Arrived;

/// One partition of a topic.
pub(super) struct Partition {
    /// The next offset of the last page's cursor.
    pub(super) next: i64,
    /// The offset before which everything has come that is a message.
    pub(super) read: i64,
    /// The offset after the last message, as known last.
    pub(super) end: i64,
    pub(super) ahead: VecDeque<Arrived>,
    /// The message that was read last, until it came again or is known to be gone.
    pub(super) last: Option<Seen>,
}

impl Partition {
    /// A partition of which nothing is read, to be read from `next` to `end`.
    pub(super) fn new(next: i64, end: i64) -> Self {
        Self { next, read: next, end, ahead: VecDeque::new(), last: None }
    }

    /// Where its consumer begins: with the message that was read last, to see that it is the same.
    pub(super) fn begins(&self) -> i64 {
        self.last.as_ref().map_or(self.next, |last| last.offset)
    }

    /// Takes in a message that came. Gives how much it adds to what is read ahead; `None` if it is
    /// not what was read at its place, so that this is another partition.
    pub(super) fn arrive(&mut self, message: Arrived) -> Option<u64> {
        let last = self.last.take();
        if message.offset < self.read {
            // Only the message that was read last is asked for again.
            return last.is_none_or(|last| last == message.seen()).then_some(0);
        }
        let bytes = message.bytes().max(1);
        self.read = message.offset + 1;
        self.ahead.push_back(message);
        Some(bytes)
    }

    /// Takes up that everything before `at` has come: what of it did not was removed, or is a mark of
    /// a transaction. A broker that announces an end before that of its topic, because it does not
    /// know yet what another one said, tells nothing of what stands behind it.
    pub(super) fn pass(&mut self, at: i64) {
        if self.last.as_ref().is_some_and(|last| last.offset < at) {
            self.last = None;
        }
        self.read = self.read.max(at);
    }

    /// Whether something of it is still to be brought.
    pub(super) fn is_behind(&self) -> bool {
        self.next < self.end.max(self.read)
    }

    /// Whether it is not yet known again, or its share of a page is neither read ahead nor known to
    /// be less.
    pub(super) fn lacks(&self, share: usize) -> bool {
        self.last.is_some() || (self.ahead.len() < share && self.read < self.end)
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
        if self.ahead.is_empty() {
            // What stands between was removed or is no message.
            self.next = self.next.max(self.read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that was opened at 5 and ends at 10, in which these offsets are messages.
    fn partition(offsets: &[i64]) -> Partition {
        let mut partition = Partition::new(5, 10);
        for offset in offsets {
            partition.arrive(Arrived { offset: *offset, ..Arrived::default() }).unwrap();
        }
        partition
    }

    fn taken(partition: &mut Partition, share: usize) -> Vec<i64> {
        let mut messages = Vec::new();
        partition.take(share, u64::MAX, &mut messages);
        messages.iter().map(|message| message.offset).collect()
    }

    #[test]
    fn marks_of_transactions_at_the_end_are_passed_once_all_before_it_has_come() {
        let mut met = partition(&[5, 7]);
        met.pass(10);
        assert!(!met.lacks(10));
        assert_eq!(taken(&mut met, 10), [5, 7]);
        assert_eq!((met.next, met.is_behind()), (10, false));
        let mut none = partition(&[]);
        none.pass(10);
        assert!(taken(&mut none, 10).is_empty());
        assert_eq!(none.next, 10, "nothing but marks");
    }

    #[test]
    fn an_end_that_is_announced_too_early_passes_nothing_that_stands_behind_it() {
        let mut early = Partition::new(90, 100);
        early.pass(95);
        assert!(early.lacks(1) && early.is_behind(), "95 to 99 are yet to come");
        assert!(taken(&mut early, 10).is_empty());
        assert_eq!(early.next, 95);
        for offset in 95..100 {
            early.arrive(message(offset, "a")).unwrap();
        }
        assert_eq!(taken(&mut early, 10), [95, 96, 97, 98, 99]);
        assert_eq!((early.next, early.is_behind()), (100, false));
    }

    #[test]
    fn where_nothing_more_has_come_nothing_is_passed() {
        let mut early = partition(&[5, 7]);
        assert_eq!(taken(&mut early, 10), [5, 7]);
        assert_eq!((early.next, early.is_behind()), (8, true));
        assert!(early.lacks(1), "the rest may be on its way");
        let mut full = partition(&[5, 7]);
        full.pass(10);
        assert_eq!(taken(&mut full, 1), [5]);
        assert_eq!((full.next, full.is_behind()), (6, true), "what is read ahead comes first");
    }

    #[test]
    fn messages_that_came_after_the_opening_are_not_passed_by_an_end_met_before_them() {
        let mut later = partition(&[5, 9]);
        later.pass(10);
        later.end = 12;
        assert_eq!(taken(&mut later, 10), [5, 9]);
        assert_eq!((later.next, later.is_behind()), (10, true));
    }

    fn message(offset: i64, value: &str) -> Arrived {
        Arrived { offset, value: Some(value.into()), ..Arrived::default() }
    }

    /// A partition that was read up to 5, and of that the message `a` at 3 last.
    fn known() -> Partition {
        Partition { last: Some(message(3, "a").seen()), ..Partition::new(5, 10) }
    }

    #[test]
    fn a_partition_is_known_again_by_the_message_that_was_read_last() {
        let mut same = known();
        assert_eq!((same.begins(), same.lacks(0)), (3, true));
        assert_eq!(same.arrive(message(3, "a")), Some(0));
        assert_eq!(same.arrive(message(6, "bc")), Some(2));
        assert_eq!((same.lacks(0), same.read, same.ahead.len()), (false, 7, 1));
        assert_eq!((same.arrive(message(6, "bc")), same.ahead.len()), (Some(0), 1), "twice");
        assert_eq!(known().arrive(message(3, "b")), None, "another value");
        assert_eq!(known().arrive(message(4, "a")), None, "it was not there to be read");
        let later = Arrived { time_us: Some(1), ..message(3, "a") };
        assert_eq!(known().arrive(later), None, "another time");
    }

    #[test]
    fn where_the_last_message_is_gone_nothing_is_compared() {
        let mut compacted = known();
        assert_eq!(compacted.arrive(message(7, "b")), Some(1));
        let mut empty = known();
        empty.pass(5);
        for partition in [compacted, empty] {
            assert_eq!((partition.begins(), partition.lacks(0)), (5, false));
        }
        let mut early = known();
        early.pass(3);
        assert!(early.lacks(0), "an end before it tells nothing of it");
        let mut older = Partition::new(5, 10);
        assert_eq!((older.begins(), older.arrive(message(5, "b"))), (5, Some(1)));
    }
}

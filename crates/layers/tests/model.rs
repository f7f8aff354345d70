//! What silver must hold, worked out from all events at once: slow, plain, and by the rules alone.

use std::collections::{BTreeMap, BTreeSet};

/// A place in time: nanoseconds, then the order within them.
pub(crate) type Seq = (i64, i64);

/// One change of one key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) key: i64,
    pub(crate) seq: Seq,
    /// Where it stands on the topic: the message's offset, the record in it.
    pub(crate) position: (u64, u32),
    pub(crate) op: &'static str,
    /// The tracked value; of no meaning for a delete.
    pub(crate) tracked: Option<i64>,
    /// The value that is updated in place.
    pub(crate) latest: Option<i64>,
}

/// A row of silver.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(crate) struct Version {
    pub(crate) key: i64,
    /// Microseconds.
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
    pub(crate) op: String,
    pub(crate) seq: Seq,
    pub(crate) last_seq: Seq,
    pub(crate) position: (u64, u32),
    pub(crate) tracked: Option<i64>,
    pub(crate) latest: Option<i64>,
}

impl Event {
    fn is_delete(&self) -> bool {
        self.op == "d"
    }

    /// What the event says, without where it stands.
    fn content(&self) -> (bool, Option<i64>, Option<i64>) {
        match self.is_delete() {
            true => (true, None, None),
            false => (false, self.tracked, self.latest),
        }
    }
}

/// The versions of all keys after `events`, in the order in which they stand on the topic.
pub(crate) fn versions(events: &[Event]) -> Vec<Version> {
    let keys: BTreeSet<i64> = events.iter().map(|event| event.key).collect();
    let mut all = Vec::new();
    for key in keys {
        let of_key: Vec<&Event> = events.iter().filter(|event| event.key == key).collect();
        all.extend(of_one_key(&winners(&of_key)));
    }
    all
}

/// One event per sequence. What was said before at the same sequence is no event; a delete wins, and
/// else the last one.
fn winners<'e>(events: &[&'e Event]) -> Vec<&'e Event> {
    let mut at: BTreeMap<Seq, Vec<&Event>> = BTreeMap::new();
    for event in events {
        let said = at.entry(event.seq).or_default();
        if !said.iter().any(|other| other.content() == event.content()) {
            said.push(event);
        }
    }
    at.into_values()
        .map(|said| {
            let delete = said.iter().find(|event| event.is_delete());
            *delete.unwrap_or_else(|| said.iter().max_by_key(|event| event.position).unwrap())
        })
        .collect()
}

/// Runs of equal tracked values, each from its first event to the next event that ends it.
fn of_one_key(events: &[&Event]) -> Vec<Version> {
    let mut versions = Vec::new();
    let mut rest = events;
    while let Some(first) = rest.first() {
        if first.is_delete() {
            rest = &rest[1..];
            continue;
        }
        let joins = |event: &&&Event| !event.is_delete() && event.tracked == first.tracked;
        let length = rest.iter().take_while(joins).count();
        let (run, after) = rest.split_at(length);
        rest = after;
        let last = run[length - 1];
        // Of equal events at the run's end, the first is the one that is shown.
        let same = run.iter().rev().take_while(|event| event.content() == last.content()).count();
        let shown = run[length - same];
        let (from, to) =
            (first.seq.0.div_euclid(1_000), after.first().map(|e| e.seq.0.div_euclid(1_000)));
        if to != Some(from) {
            versions.push(Version {
                key: first.key,
                from,
                to,
                op: first.op.to_owned(),
                seq: first.seq,
                last_seq: shown.seq,
                position: shown.position,
                tracked: shown.tracked,
                latest: shown.latest,
            });
        }
    }
    versions
}

#[test]
fn the_model_agrees_with_the_example_that_was_worked_by_hand() {
    let event = |micros: i64, position, name| Event {
        key: 1,
        seq: (micros * 1_000, 0),
        position: (position, 0),
        op: "u",
        tracked: Some(name),
        latest: None,
    };
    let (alice, bob, charlie) = (1, 2, 3);
    let all = [
        event(5, 1, alice),
        event(10, 2, alice),
        event(15, 3, alice),
        event(20, 4, charlie),
        event(12, 5, bob),
    ];
    let short: Vec<_> = versions(&all).iter().map(|v| (v.tracked.unwrap(), v.from, v.to)).collect();
    assert_eq!(
        short,
        [(alice, 5, Some(12)), (bob, 12, Some(15)), (alice, 15, Some(20)), (charlie, 20, None)]
    );
}

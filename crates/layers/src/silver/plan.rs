//! Planning SCD2 for one key: a pure function from what is known and what came in to the versions
//! that must stand in the table.
//!
//! All that is known of a key is a set of events: upserts and deletes, each with a sequence. The
//! versions follow from the set alone, so that the order of arrival, batching and redelivery leave
//! no trace. A key's events need not all be loaded: a [`Window`] begins at a version that opened
//! strictly before the earliest incoming event, for nothing before that can change.

use std::cmp::Ordering;

use alluvium_model::{Outcome, Position, SequencePart};

/// What an event does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The row is as the event says.
    Upsert {
        /// The hash of the tracked columns: equal hashes form a run.
        tracked: u128,
        /// The hash of all stored columns.
        full: u128,
    },
    /// The row is gone.
    Delete,
}

/// An event of a key. `S` says where its values are to be found; the planner only carries it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a, S> {
    /// The encoded sequence.
    pub sequence: &'a [u8],
    /// Its first part: where a version begins or ends.
    pub at: SequencePart,
    /// Where the event stands on the topic; of two upserts at one sequence the higher wins.
    pub position: Position,
    /// What it does.
    pub kind: Kind,
    /// Where its values are.
    pub source: S,
}

impl<S> Event<'_, S> {
    /// Two events are the same change if they say the same of the same sequence.
    fn is_same(&self, other: &Self) -> bool {
        self.sequence == other.sequence && self.kind == other.kind
    }

    /// The order in which events take effect; of those at one sequence the last one wins.
    fn order(&self, other: &Self) -> Ordering {
        let rank = |kind: &Kind| matches!(kind, Kind::Delete);
        self.sequence
            .cmp(other.sequence)
            .then_with(|| rank(&self.kind).cmp(&rank(&other.kind)))
            .then_with(|| self.position.cmp(&other.position))
    }
}

/// A version that stands in the table, by indexes into the window's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The event that opened it.
    pub opener: usize,
    /// The event whose values it shows: the first of those, at its end, that say the same.
    pub shown: usize,
    /// The event that closed it; `None` while it is open.
    pub closer: Option<usize>,
}

/// What is known of a key from some version on.
#[derive(Debug)]
pub struct Window<'a, S> {
    /// Known events, in no particular order.
    pub events: Vec<Event<'a, S>>,
}

/// What must stand in the table, and what must be remembered beside it.
#[derive(Debug)]
pub struct KeyPlan<'a, S> {
    /// All events, known and new, in the order in which they take effect. Those known before come
    /// with `known[i]` true.
    pub events: Vec<Event<'a, S>>,
    /// Whether an event was known before.
    pub known: Vec<bool>,
    /// The versions that must stand in the table from the window's beginning on, in order.
    pub versions: Vec<Version>,
    /// Events that no version shows: they are remembered beside the table.
    pub hidden: Vec<usize>,
    /// What became of each incoming event, in the order in which they were given.
    pub outcomes: Vec<Outcome>,
}

/// Plans one key. `incoming` is in the order of positions.
pub fn plan_key<'a, S: Copy>(window: Window<'a, S>, incoming: &[Event<'a, S>]) -> KeyPlan<'a, S> {
    let mut all: Vec<(Event<'a, S>, Option<usize>)> =
        window.events.into_iter().map(|event| (event, None)).collect();
    all.extend(incoming.iter().enumerate().map(|(at, event)| (*event, Some(at))));
    // Known events first, so that of those that are the same the known one stays.
    all.sort_by(|(a, new), (b, other)| {
        a.sequence.cmp(b.sequence).then(a.kind.cmp(&b.kind)).then(new.cmp(other))
    });
    all.dedup_by(|(later, _), (first, _)| later.is_same(first));
    all.sort_by(|(a, _), (b, _)| a.order(b));
    let events: Vec<Event<'a, S>> = all.iter().map(|(event, _)| *event).collect();

    let (versions, hidden) = versions_of(&events);
    let mut outcomes = vec![Outcome::Duplicate; incoming.len()];
    for (at, (event, new)) in all.iter().enumerate() {
        if let Some(incoming) = new {
            outcomes[*incoming] = outcome(&events, &versions, at, event);
        }
    }
    let known = all.iter().map(|(_, new)| new.is_none()).collect();
    KeyPlan { events, known, versions, hidden, outcomes }
}

/// The versions that follow from events in order, and the events that none of them shows.
fn versions_of<S>(events: &[Event<'_, S>]) -> (Vec<Version>, Vec<usize>) {
    let mut versions: Vec<Version> = Vec::with_capacity(events.len());
    let mut open: Option<Version> = None;
    for at in 0..events.len() {
        let loses = events.get(at + 1).is_some_and(|next| next.sequence == events[at].sequence);
        if loses {
            continue;
        }
        match (events[at].kind, open.as_mut()) {
            (Kind::Delete, Some(version)) => {
                version.closer = Some(at);
                versions.extend(open.take());
            }
            (Kind::Delete, None) => {}
            (Kind::Upsert { tracked, full }, Some(version)) => {
                let (run, shown) = hashes(&events[version.shown]);
                if tracked != run {
                    version.closer = Some(at);
                    versions.extend(open.replace(opened_by(at)));
                } else if full != shown {
                    version.shown = at;
                }
            }
            (Kind::Upsert { .. }, None) => open = Some(opened_by(at)),
        }
    }
    versions.extend(open);
    // What is of zero width at the precision of the table is remembered, not shown.
    versions.retain(|v| v.closer.is_none_or(|closer| events[closer].at != events[v.opener].at));
    let mut shown = vec![false; events.len()];
    for version in &versions {
        shown[version.shown] = true;
    }
    let hidden = (0..events.len()).filter(|at| !shown[*at]).collect();
    (versions, hidden)
}

/// The version, among `versions` in order, whose run the event at `at` falls into.
pub fn holding(versions: &[Version], at: usize) -> Option<&Version> {
    let before = versions.partition_point(|version| version.opener <= at);
    let version = &versions[before.checked_sub(1)?];
    version.closer.is_none_or(|closer| at < closer).then_some(version)
}

fn opened_by(at: usize) -> Version {
    Version { opener: at, shown: at, closer: None }
}

/// The hashes of an upsert; a delete never stands where one is asked for.
fn hashes<S>(event: &Event<'_, S>) -> (u128, u128) {
    match event.kind {
        Kind::Upsert { tracked, full } => (tracked, full),
        Kind::Delete => (0, 0),
    }
}

/// What became of a new event that stands at `at`.
fn outcome<S>(
    events: &[Event<'_, S>],
    versions: &[Version],
    at: usize,
    event: &Event<'_, S>,
) -> Outcome {
    if event.kind == Kind::Delete {
        return Outcome::Deleted;
    }
    if events.get(at + 1).is_some_and(|next| next.sequence == event.sequence) {
        return Outcome::Stale;
    }
    if let Ok(n) = versions.binary_search_by_key(&at, |version| version.opener) {
        let continues = n.checked_sub(1).is_some_and(|before| versions[before].closer == Some(at));
        return if continues { Outcome::Updated } else { Outcome::Inserted };
    }
    if holding(versions, at).is_some_and(|version| version.shown == at) {
        return Outcome::Updated;
    }
    Outcome::Unchanged
}

#[cfg(test)]
mod tests {
    use alluvium_model::Epoch;

    use super::*;

    fn seq(n: i64) -> &'static [u8] {
        Box::leak(Box::new(((n as u64) ^ (1 << 63)).to_be_bytes()))
    }

    fn event(n: i64, offset: u64, value: Option<u128>) -> Event<'static, ()> {
        Event {
            sequence: seq(n),
            at: SequencePart::Long(n),
            position: Position { epoch: Epoch(1), offset, index: 0 },
            kind: value.map_or(Kind::Delete, |v| Kind::Upsert { tracked: v, full: v }),
            source: (),
        }
    }

    /// The versions as (from, to, value), all events given at once.
    fn history(events: &[Event<'static, ()>]) -> Vec<(i64, Option<i64>, u128)> {
        let plan = plan_key(Window { events: Vec::new() }, events);
        let at = |i: usize| match plan.events[i].at {
            SequencePart::Long(n) => n,
            other => panic!("{other:?}"),
        };
        plan.versions
            .iter()
            .map(|v| (at(v.opener), v.closer.map(at), hashes(&plan.events[v.shown]).0))
            .collect()
    }

    #[test]
    fn a_late_event_splits_the_version_it_falls_into() {
        let all = [
            event(5, 1, Some(1)),
            event(10, 2, Some(1)),
            event(15, 3, Some(1)),
            event(12, 4, Some(2)),
        ];
        assert_eq!(history(&all), [(5, Some(12), 1), (12, Some(15), 2), (15, None, 1)]);
    }

    #[test]
    fn a_delete_ends_a_run_even_if_the_next_insert_is_equal() {
        let all = [event(1, 1, Some(7)), event(3, 2, None), event(5, 3, Some(7))];
        assert_eq!(history(&all), [(1, Some(3), 7), (5, None, 7)]);
    }

    #[test]
    fn an_early_delete_ends_an_older_insert_that_comes_later() {
        let all = [event(9, 1, None), event(4, 2, Some(1))];
        assert_eq!(history(&all), [(4, Some(9), 1)]);
    }

    #[test]
    fn at_one_sequence_a_delete_wins_and_among_upserts_the_higher_position() {
        assert_eq!(history(&[event(4, 1, None), event(4, 2, Some(1))]), []);
        assert_eq!(history(&[event(4, 1, Some(1)), event(4, 2, Some(2))]), [(4, None, 2)]);
        assert_eq!(history(&[event(4, 2, Some(2)), event(4, 1, Some(1))]), [(4, None, 2)]);
    }

    #[test]
    fn a_change_that_is_known_never_moves() {
        let republished = [event(4, 1, Some(1)), event(4, 2, Some(2)), event(4, 3, Some(1))];
        assert_eq!(history(&republished), [(4, None, 2)]);
        let plan = plan_key(Window { events: Vec::new() }, &republished);
        assert_eq!(plan.outcomes, [Outcome::Stale, Outcome::Inserted, Outcome::Duplicate]);
    }

    #[test]
    fn every_order_of_arrival_in_every_batching_gives_the_same_versions() {
        let all = [
            event(5, 1, Some(1)),
            event(7, 2, Some(1)),
            event(8, 3, Some(2)),
            event(9, 4, None),
            event(9, 5, Some(3)),
            event(11, 6, Some(2)),
        ];
        let expected = history(&all);
        assert_eq!(expected, [(5, Some(8), 1), (8, Some(9), 2), (11, None, 2)]);
        let mut order: Vec<usize> = (0..all.len()).collect();
        permute(&mut order, 0, &mut |order| {
            for cut in 0..=all.len() {
                let pick = |range: &[usize]| range.iter().map(|i| all[*i]).collect::<Vec<_>>();
                let first = plan_key(Window { events: Vec::new() }, &pick(&order[..cut]));
                let second = plan_key(Window { events: first.events }, &pick(&order[cut..]));
                assert_eq!(history(&second.events), expected, "{order:?} cut at {cut}");
            }
        });
    }

    fn permute(order: &mut Vec<usize>, from: usize, f: &mut impl FnMut(&[usize])) {
        if from == order.len() {
            return f(order);
        }
        for i in from..order.len() {
            order.swap(from, i);
            permute(order, from + 1, f);
            order.swap(from, i);
        }
    }
}

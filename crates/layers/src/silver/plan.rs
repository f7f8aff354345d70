//! Planning SCD2 for one key: a pure function from what is known and what came in to the versions
//! that must stand in the table.
//!
//! All that is known of a key is a set of events: upserts and deletes, each with a sequence, and
//! the closings of the whole entity (truncates, ends of snapshots) that apply to it. The versions
//! follow from the set alone, so that the order of arrival, batching and redelivery leave no trace.
//! A key's events need not all be loaded: a [`Window`] begins at a version that opened strictly
//! before the earliest event that is new, for nothing before that can change.

use std::cmp::Reverse;
use std::ops::Range;

use alluvium_lake::index::Hashes;
use alluvium_model::metadata::Deletes;
use alluvium_model::{Outcome, Position, SequencePart};

/// What an event does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// The row is as the event says.
    Upsert {
        /// The row after the event.
        row: Hashes,
        /// What the event itself says, which differs from the row where columns were not sent: two
        /// upserts at one sequence that say the same are one change.
        says: u128,
        /// Whether it is a row of a snapshot: the key is then no absent one at this sequence.
        read: bool,
    },
    /// The row is gone. A row of the table that tells so (`deletes: tombstone`) shows these values.
    Delete(Option<Hashes>),
    /// The row is gone: the whole entity was emptied, or a snapshot did not contain it.
    Absent {
        /// Whether a snapshot ended, so that a key with a row at this sequence is not absent.
        snapshot: bool,
        /// The scopes that the snapshot contained, ascending: rows of others stay.
        scopes: Option<&'a [u64]>,
        /// As for a delete.
        stands: Option<Hashes>,
    },
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
    pub kind: Kind<'a>,
    /// Where its values are.
    pub source: S,
}

impl<S> Event<'_, S> {
    /// What tells changes at one sequence apart: what they say. A row of a snapshot says besides
    /// that the snapshot contained the key.
    fn says(&self) -> (u8, u128, bool) {
        match self.kind {
            Kind::Upsert { says, read, .. } => (0, says, read),
            Kind::Delete(_) => (1, 0, false),
            Kind::Absent { snapshot: true, .. } => (2, 0, false),
            Kind::Absent { snapshot: false, .. } => (3, 0, false),
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Upsert { read: true, .. })
    }

    /// Whether the event belongs to the entity, not to the key.
    pub fn is_absent(&self) -> bool {
        matches!(self.kind, Kind::Absent { .. })
    }
}

/// A version that stands in the table, by indexes into the plan's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The event that opened it.
    pub opener: usize,
    /// The event whose values it shows: the first of those, at its end, that say the same.
    pub shown: usize,
    /// The event that closed it; `None` while it is open.
    pub closer: Option<usize>,
    /// Whether a delete opened it: it tells that the row is gone, and shows the last values.
    pub tombstone: bool,
    /// The hashes of what it shows.
    pub row: Hashes,
}

impl Version {
    /// The event whose place in the source the version tells of: that of its values, or of the
    /// delete.
    pub fn told(&self) -> usize {
        if self.tombstone { self.opener } else { self.shown }
    }
}

/// What is known of a key from some version on.
#[derive(Debug)]
pub struct Window<'a, S> {
    /// Known events, closings of the entity among them, in no particular order.
    pub events: Vec<Event<'a, S>>,
}

/// What must stand in the table, and what must be remembered beside it.
#[derive(Debug)]
pub struct KeyPlan<'a, S> {
    /// All events, known and new, in the order in which they take effect. Closings that do not
    /// concern the key, for a snapshot contained it, are left out.
    pub events: Vec<Event<'a, S>>,
    /// The versions that must stand in the table from the window's beginning on, in order.
    pub versions: Vec<Version>,
    /// Events of the key that no version tells of: they are remembered beside the table.
    pub hidden: Vec<usize>,
    /// What became of each incoming event, in the order in which they were given.
    pub outcomes: Vec<Outcome>,
}

/// Plans one key. `incoming` is in the order of positions.
pub fn plan_key<'a, S: Copy>(
    deletes: Deletes,
    window: Window<'a, S>,
    incoming: &[Event<'a, S>],
) -> KeyPlan<'a, S> {
    let all = in_order(window, incoming);
    let events: Vec<Event<'a, S>> = all.iter().map(|(event, _)| *event).collect();

    let Folded { versions, hidden, lost } = fold(deletes, &events);
    let mut outcomes = vec![Outcome::Duplicate; incoming.len()];
    for (at, (_, new)) in all.iter().enumerate() {
        if let Some(incoming) = new {
            outcomes[*incoming] = outcome(&events, &versions, lost[at], at);
        }
    }
    KeyPlan { events, versions, hidden, outcomes }
}

/// All events in the order in which they take effect, each change once; of incoming ones with their
/// place among those.
pub(super) fn in_order<'a, S: Copy>(
    window: Window<'a, S>,
    incoming: &[Event<'a, S>],
) -> Vec<(Event<'a, S>, Option<usize>)> {
    let mut all: Vec<(Event<'a, S>, Option<usize>)> =
        window.events.into_iter().map(|event| (event, None)).collect();
    all.extend(incoming.iter().enumerate().map(|(at, event)| (*event, Some(at))));
    // Known events first, so that of those that are the same the known one stays.
    all.sort_by(|(a, new), (b, other)| {
        a.sequence.cmp(b.sequence).then(a.says().cmp(&b.says())).then(new.cmp(other))
    });
    all.dedup_by(|(later, _), (first, _)| {
        later.sequence == first.sequence && later.says() == first.says()
    });
    by_effect(&mut all);
    leave_out_members(&mut all);
    all
}

/// Sorts events into the order in which they take effect; of those at one sequence the last one
/// wins. Of two that say the same the first one counts, for what is known never moves.
fn by_effect<S: Copy>(all: &mut [(Event<'_, S>, Option<usize>)]) {
    let own = |event: &Event<'_, S>| (event.says().0, event.position);
    all.sort_by(|(a, _), (b, _)| a.sequence.cmp(b.sequence).then_with(|| own(a).cmp(&own(b))));
    for group in all.chunk_by_mut(|(a, _), (b, _)| a.sequence == b.sequence) {
        if group.iter().filter(|(event, _)| event.says().0 == 0).count() < 2 {
            continue;
        }
        let events: Vec<Event<'_, S>> = group.iter().map(|(event, _)| *event).collect();
        let first = |event: &Event<'_, S>| {
            let (rank, says, _) = event.says();
            let same = events.iter().find(|e| (e.says().0, e.says().1) == (rank, says));
            same.map_or(event.position, |same| same.position)
        };
        group.sort_by_cached_key(|(event, _)| {
            (event.says().0, first(event), Reverse(event.position))
        });
    }
}

/// Of the closings those go that end a snapshot which contained the key.
fn leave_out_members<S>(all: &mut Vec<(Event<'_, S>, Option<usize>)>) {
    if !all.iter().any(|(event, _)| event.is_absent()) {
        return;
    }
    let read: Vec<&[u8]> =
        all.iter().filter(|(e, _)| e.is_read()).map(|(event, _)| event.sequence).collect();
    all.retain(|(event, _)| {
        !matches!(event.kind, Kind::Absent { snapshot: true, .. })
            || read.binary_search(&event.sequence).is_err()
    });
}

struct Folded {
    versions: Vec<Version>,
    /// Events of the key that no version tells of.
    hidden: Vec<usize>,
    /// Events that lost against another one at their sequence.
    lost: Vec<bool>,
}

/// The versions that follow from events in order.
fn fold<S>(deletes: Deletes, events: &[Event<'_, S>]) -> Folded {
    let mut versions: Vec<Version> = Vec::with_capacity(events.len());
    let mut lost = vec![false; events.len()];
    let mut open: Option<Version> = None;
    let mut from = 0;
    for at in 0..events.len() {
        if events.get(at + 1).is_some_and(|next| next.sequence == events[at].sequence) {
            continue;
        }
        let group = from..at + 1;
        let first = from == 0;
        from = at + 1;
        let winner = winner(events, group.clone(), open.map(|version| version.row.scope));
        group.filter(|i| Some(*i) != winner).for_each(|i| lost[i] = true);
        let Some(winner) = winner else { continue };
        match events[winner].kind {
            Kind::Upsert { row, .. } => match open.as_mut() {
                Some(version) if !version.tombstone && version.row.tracked == row.tracked => {
                    if version.row.full != row.full {
                        (version.shown, version.row) = (winner, row);
                    }
                }
                before => {
                    if let Some(version) = before {
                        version.closer = Some(winner);
                    }
                    versions.extend(open.replace(opened_by(winner, row)));
                }
            },
            Kind::Delete(stands) | Kind::Absent { stands, .. } => {
                // Only a row that the window begins with tells of what was before it.
                let stands = stands.filter(|_| first);
                close(deletes, &mut versions, &mut open, winner, stands);
            }
        }
    }
    versions.extend(open);
    // What is of zero width at the precision of the table is remembered, not shown.
    versions.retain(|v| v.closer.is_none_or(|closer| events[closer].at != events[v.opener].at));
    let mut told = vec![false; events.len()];
    for version in &versions {
        told[version.told()] = true;
    }
    let hidden = (0..events.len()).filter(|at| !told[*at] && !events[*at].is_absent()).collect();
    Folded { versions, hidden, lost }
}

/// Which of the events at one sequence takes effect, where `scope` is that of the row before.
/// Of closings, one does if the row that it finds is of its scopes.
pub(super) fn winner<S>(
    events: &[Event<'_, S>],
    group: Range<usize>,
    scope: Option<u64>,
) -> Option<usize> {
    let last = group.end.checked_sub(1)?;
    let Kind::Absent { scopes: Some(scopes), stands, .. } = events[last].kind else {
        return Some(last);
    };
    let before = last.checked_sub(1).filter(|before| *before >= group.start);
    let own = before.and_then(|before| match events[before].kind {
        Kind::Upsert { row, .. } => Some(row.scope),
        _ => None,
    });
    let found = scope.or(stands.map(|row| row.scope));
    let concerns = |scope: u64| scopes.binary_search(&scope).is_ok();
    if own.into_iter().chain(found).any(concerns) { Some(last) } else { before }
}

/// The row is gone at `at`.
fn close(
    deletes: Deletes,
    versions: &mut Vec<Version>,
    open: &mut Option<Version>,
    at: usize,
    stands: Option<Hashes>,
) {
    let Some(version) = open.as_mut() else {
        // A window may begin with a row that tells of a delete: the values are its own then.
        if let (Deletes::Tombstone, Some(row)) = (deletes, stands) {
            *open = Some(Version { tombstone: true, ..opened_by(at, row) });
        }
        return;
    };
    if version.tombstone {
        return;
    }
    version.closer = Some(at);
    let (shown, row) = (version.shown, version.row);
    versions.extend(open.take());
    if deletes == Deletes::Tombstone {
        *open = Some(Version { opener: at, shown, closer: None, tombstone: true, row });
    }
}

/// The version, among `versions` in order, whose run the event at `at` falls into.
pub fn holding(versions: &[Version], at: usize) -> Option<&Version> {
    let before = versions.partition_point(|version| version.opener <= at);
    let version = &versions[before.checked_sub(1)?];
    version.closer.is_none_or(|closer| at < closer).then_some(version)
}

fn opened_by(at: usize, row: Hashes) -> Version {
    Version { opener: at, shown: at, closer: None, tombstone: false, row }
}

/// What became of a new event that stands at `at`.
fn outcome<S>(events: &[Event<'_, S>], versions: &[Version], lost: bool, at: usize) -> Outcome {
    if matches!(events[at].kind, Kind::Delete(_)) {
        return Outcome::Deleted;
    }
    if lost {
        return Outcome::Stale;
    }
    if let Ok(n) = versions.binary_search_by_key(&at, |version| version.opener) {
        let continues = n
            .checked_sub(1)
            .is_some_and(|n| versions[n].closer == Some(at) && !versions[n].tombstone);
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
        let upsert = |v| {
            let row = Hashes { tracked: v, full: v, scope: 0 };
            Kind::Upsert { row, says: v, read: false }
        };
        Event {
            sequence: seq(n),
            at: SequencePart::Long(n),
            position: Position { epoch: Epoch(1), offset, index: 0 },
            kind: value.map_or(Kind::Delete(None), upsert),
            source: (),
        }
    }

    /// The versions as (from, to, value), all events given at once.
    fn history(events: &[Event<'static, ()>]) -> Vec<(i64, Option<i64>, u128)> {
        let plan = plan_key(Deletes::Close, Window { events: Vec::new() }, events);
        let at = |i: usize| match plan.events[i].at {
            SequencePart::Long(n) => n,
            other => panic!("{other:?}"),
        };
        plan.versions.iter().map(|v| (at(v.opener), v.closer.map(at), v.row.tracked)).collect()
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
        let plan = plan_key(Deletes::Close, Window { events: Vec::new() }, &republished);
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
                let first =
                    plan_key(Deletes::Close, Window { events: Vec::new() }, &pick(&order[..cut]));
                let second =
                    plan_key(Deletes::Close, Window { events: first.events }, &pick(&order[cut..]));
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

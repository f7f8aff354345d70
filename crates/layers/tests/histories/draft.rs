//! What a random history is made of.

use std::collections::BTreeSet;

use proptest::prelude::*;

/// A place in time: a step, then the order within it.
pub(crate) type At = (i64, i64);

/// The values of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) n: Option<i64>,
    pub(crate) big: Option<&'static str>,
    pub(crate) mood: Option<i64>,
    pub(crate) region: &'static str,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Draft {
    Upsert {
        key: i64,
        at: At,
        op: &'static str,
        row: Row,
        unset: BTreeSet<&'static str>,
    },
    Delete {
        key: i64,
        at: At,
    },
    KeyChange {
        old: i64,
        new: i64,
        at: At,
        row: Row,
    },
    Truncate {
        at: At,
    },
    SnapshotRow {
        snapshot: usize,
        key: i64,
        row: Row,
    },
    SnapshotEnd {
        snapshot: usize,
    },
    /// What was the so-manieth before is published again.
    Again(usize),
}

const KEYS: i64 = 4;
/// What a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    Changes,
    Snapshots,
    Scope,
}

pub(crate) fn draft(theme: Theme) -> impl Strategy<Value = Draft> {
    let key = || 0..KEYS;
    let at = || (0..8i64, 0..3i64);
    let op = prop_oneof![2 => Just("u"), 1 => Just("c")];
    let unset = proptest::sample::subsequence(vec!["n", "big", "mood"], 0..=2);
    let unset = prop_oneof![3 => Just(Vec::new()), 2 => unset];
    let upsert = (key(), at(), op, row(), unset).prop_map(|(key, at, op, row, unset)| {
        Draft::Upsert { key, at, op, row, unset: unset.into_iter().collect() }
    });
    let delete = (key(), at()).prop_map(|(key, at)| Draft::Delete { key, at });
    let key_change = (key(), 1..KEYS, at(), row()).prop_map(|(old, step, at, row)| {
        Draft::KeyChange { old, new: (old + step) % KEYS, at, row }
    });
    let truncate = at().prop_map(|at| Draft::Truncate { at });
    let snapshot_row = (0..3usize, key(), row())
        .prop_map(|(snapshot, key, row)| Draft::SnapshotRow { snapshot, key, row });
    let end = (0..3usize).prop_map(|snapshot| Draft::SnapshotEnd { snapshot });
    let again = (0..20usize).prop_map(Draft::Again);
    let change = prop_oneof![10 => upsert, 3 => delete, 2 => key_change, 1 => truncate, 3 => again];
    match theme {
        Theme::Changes => change.boxed(),
        Theme::Snapshots | Theme::Scope => {
            prop_oneof![19 => change, 8 => snapshot_row, 4 => end].boxed()
        }
    }
}

fn row() -> impl Strategy<Value = Row> {
    let number = || prop_oneof![1 => Just(None), 4 => (0..2i64).prop_map(Some)];
    let big = prop_oneof![1 => Just(None), 1 => Just(Some("B")), 1 => Just(Some("C"))];
    (number(), big, number(), prop_oneof![Just("eu"), Just("us")])
        .prop_map(|(n, big, mood, region)| Row { n, big, mood, region })
}

/// Puts in place of what is published again what it was.
pub(crate) fn resolved(drafts: &[Vec<Draft>]) -> Vec<Vec<Draft>> {
    let mut before: Vec<Draft> = Vec::new();
    let mut again = |draft: &Draft| {
        let draft = match draft {
            Draft::Again(n) => before.get(*n % before.len().max(1))?.clone(),
            other => other.clone(),
        };
        before.push(draft.clone());
        Some(draft)
    };
    drafts.iter().map(|page| page.iter().filter_map(&mut again).collect()).collect()
}

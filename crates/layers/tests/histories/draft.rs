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
    /// A column that comes and goes; `None` where the source has dropped it.
    pub(crate) extra: Option<Option<&'static str>>,
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
    /// The source adds a column, or drops it, and says so.
    Schema {
        drops: bool,
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
    Columns,
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
    let schema = prop_oneof![3 => Just(false), 2 => Just(true)];
    let schema = schema.prop_map(|drops| Draft::Schema { drops });
    let change = prop_oneof![10 => upsert, 3 => delete, 2 => key_change, 1 => truncate, 3 => again];
    match theme {
        Theme::Changes => change.boxed(),
        Theme::Columns => prop_oneof![15 => change, 2 => schema].boxed(),
        Theme::Snapshots | Theme::Scope => {
            prop_oneof![19 => change, 8 => snapshot_row, 4 => end].boxed()
        }
    }
}

fn row() -> impl Strategy<Value = Row> {
    let number = || prop_oneof![1 => Just(None), 4 => (0..2i64).prop_map(Some)];
    let big = prop_oneof![1 => Just(None), 1 => Just(Some("B")), 1 => Just(Some("C"))];
    let extra = prop_oneof![1 => Just(None), 1 => Just(Some("X")), 1 => Just(Some("Y"))];
    (number(), big, number(), prop_oneof![Just("eu"), Just("us")], extra)
        .prop_map(|(n, big, mood, region, extra)| Row { n, big, mood, region, extra: Some(extra) })
}

impl Draft {
    fn row(&mut self) -> Option<&mut Row> {
        match self {
            Draft::Upsert { row, .. }
            | Draft::KeyChange { row, .. }
            | Draft::SnapshotRow { row, .. } => Some(row),
            _ => None,
        }
    }
}

/// What the source has of the column that comes and goes.
#[derive(Default)]
struct Extra {
    is_known: bool,
    is_dropped: bool,
}

impl Extra {
    /// The draft as the source says it now.
    fn say(&mut self, mut draft: Draft) -> Draft {
        if let Draft::Schema { drops } = &draft {
            // What nobody has heard of is not dropped.
            self.is_dropped = *drops && self.is_known;
            self.is_known |= !*drops;
            return draft;
        }
        // No rule says whether the row of a new key keeps what the old key had.
        if let (true, Draft::KeyChange { new, at, row, .. }) = (self.is_dropped, &draft) {
            let (key, at, row) = (*new, *at, row.clone());
            draft = Draft::Upsert { key, at, op: "u", row, unset: BTreeSet::new() };
        }
        if let Some(row) = draft.row() {
            match self.is_dropped {
                true => row.extra = None,
                false => self.is_known |= matches!(row.extra, Some(Some(_))),
            }
        }
        draft
    }
}

/// Puts in place of what is published again what it was, and takes the column from rows that the
/// source has dropped.
pub(crate) fn resolved(drafts: &[Vec<Draft>]) -> Vec<Vec<Draft>> {
    let (mut before, mut extra): (Vec<Draft>, Extra) = Default::default();
    let mut again = |draft: &Draft| {
        let draft = match draft {
            Draft::Again(n) => before.get(*n % before.len().max(1))?.clone(),
            other => other.clone(),
        };
        before.push(draft.clone());
        Some(extra.say(draft))
    };
    drafts.iter().map(|page| page.iter().filter_map(&mut again).collect()).collect()
}

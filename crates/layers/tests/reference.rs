//! What silver must hold, by the rules alone: all that was ever told of a key is put in the order of
//! its sequences and gone through once. Slow and plain on purpose, and with nothing of silver's own.

use std::collections::{BTreeMap, BTreeSet};

/// A place in the source's order. Its first part is where a version begins or ends.
pub(crate) type Seq = Vec<i128>;

/// The values of a row by column, each in the one spelling that all equal values share.
pub(crate) type Values = BTreeMap<String, Option<String>>;

/// What an entity decided.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Columns whose change opens a version.
    pub(crate) tracked: BTreeSet<String>,
    /// Columns whose null means that they were not sent.
    pub(crate) ignore_null: BTreeSet<String>,
    pub(crate) tombstones: bool,
    pub(crate) keep_absent: bool,
    pub(crate) scope: Vec<String>,
    pub(crate) skip_late_snapshots: bool,
    /// How much of a sequence's first part is one unit of `_valid_from`.
    pub(crate) unit: i128,
}

/// Something that was told, in the order of arrival.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) seq: Seq,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Upsert(Upsert),
    Delete {
        key: String,
    },
    Truncate,
    SnapshotEnd {
        snapshot: String,
    },
    /// Columns came or went: which a row has, it says itself.
    Columns,
}

#[derive(Debug, Clone)]
pub(crate) struct Upsert {
    pub(crate) key: String,
    /// The key before, where it was another one.
    pub(crate) old_key: Option<String>,
    pub(crate) op: &'static str,
    /// All columns that are stored.
    pub(crate) values: Values,
    pub(crate) unset: BTreeSet<String>,
    /// Columns that the source had dropped.
    pub(crate) absent: BTreeSet<String>,
    pub(crate) snapshot: Option<String>,
}

/// A row of silver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) values: Values,
    pub(crate) from: i128,
    pub(crate) to: Option<i128>,
    pub(crate) op: String,
}

/// The rows after all of `told`.
pub(crate) fn rows(rules: &Rules, told: &[Told]) -> Vec<Row> {
    let told = without_late_snapshots(rules, told);
    let keys: BTreeSet<&str> = told.iter().flat_map(|told| told.what.keys()).collect();
    let mut rows: Vec<Row> =
        keys.into_iter().flat_map(|key| History::of(rules, key, &told)).collect();
    rows.sort();
    rows
}

impl What {
    fn keys(&self) -> Vec<&str> {
        match self {
            What::Upsert(upsert) => [Some(&upsert.key), upsert.old_key.as_ref()]
                .into_iter()
                .flatten()
                .map(|k| &**k)
                .collect(),
            What::Delete { key } => vec![key],
            What::Truncate | What::SnapshotEnd { .. } | What::Columns => Vec::new(),
        }
    }

    fn snapshot(&self) -> Option<&str> {
        match self {
            What::Upsert(upsert) => upsert.snapshot.as_deref(),
            What::SnapshotEnd { snapshot } => Some(snapshot),
            What::Delete { .. } | What::Truncate | What::Columns => None,
        }
    }
}

/// Leaves out the snapshots that are older than one that had ended when they came, if that is the
/// entity's wish.
fn without_late_snapshots<'t>(rules: &Rules, told: &'t [Told]) -> Vec<&'t Told> {
    let mut newest: Option<&Seq> = None;
    let mut kept = Vec::new();
    for told in told {
        let of_snapshot = rules.skip_late_snapshots && told.what.snapshot().is_some();
        if of_snapshot && newest.is_some_and(|newest| told.seq < *newest) {
            continue;
        }
        if matches!(told.what, What::SnapshotEnd { .. }) {
            newest = newest.max(Some(&told.seq));
        }
        kept.push(told);
    }
    kept
}

/// The history of one key, while it is being told.
struct History<'t> {
    rules: &'t Rules,
    key: &'t str,
    told: &'t [&'t Told],
    /// The values while the row is there.
    state: Option<Values>,
    rows: Vec<Row>,
}

impl<'t> History<'t> {
    fn of(rules: &'t Rules, key: &'t str, told: &'t [&'t Told]) -> Vec<Row> {
        let mut history = Self { rules, key, told, state: None, rows: Vec::new() };
        let sequences: BTreeSet<&Seq> = told.iter().map(|told| &told.seq).collect();
        for seq in sequences {
            let here: Vec<&Told> = told.iter().filter(|told| told.seq == *seq).copied().collect();
            let at = seq[0].div_euclid(rules.unit);
            if here.iter().any(|told| history.is_delete(&told.what)) {
                history.delete(at);
            } else if let Some(upsert) = history.winner(&here) {
                history.upsert(at, upsert);
            }
        }
        history.rows.retain(|row| row.to != Some(row.from));
        history.rows
    }

    /// Whether what was told ends this key's row.
    fn is_delete(&self, what: &What) -> bool {
        match what {
            What::Delete { key } => key == self.key,
            What::Upsert(upsert) => {
                upsert.key != self.key && upsert.old_key.as_deref() == Some(self.key)
            }
            What::Truncate => true,
            What::Columns => false,
            What::SnapshotEnd { snapshot } => {
                !self.rules.keep_absent
                    && !self.rows_of(snapshot).any(|row| row.key == self.key)
                    && self.is_in_scope(snapshot)
            }
        }
    }

    fn rows_of(&self, snapshot: &str) -> impl Iterator<Item = &'t Upsert> {
        self.told.iter().filter_map(move |told| match &told.what {
            What::Upsert(upsert) if upsert.snapshot.as_deref() == Some(snapshot) => Some(upsert),
            _ => None,
        })
    }

    fn is_in_scope(&self, snapshot: &str) -> bool {
        let scope = |values: &Values| -> Vec<Option<String>> {
            self.rules.scope.iter().map(|column| values[column].clone()).collect()
        };
        let Some(state) = &self.state else { return self.rules.scope.is_empty() };
        self.rules.scope.is_empty()
            || self.rows_of(snapshot).any(|row| scope(&row.values) == scope(state))
    }

    /// Of several upserts at one sequence the last counts; but what was told before is not told
    /// later by being told again.
    fn winner(&self, here: &[&'t Told]) -> Option<&'t Upsert> {
        let mut different: Vec<&Upsert> = Vec::new();
        for told in here {
            let What::Upsert(upsert) = &told.what else { continue };
            if upsert.key == self.key && !different.iter().any(|other| self.is_same(other, upsert))
            {
                different.push(upsert);
            }
        }
        different.pop()
    }

    fn is_same(&self, one: &Upsert, other: &Upsert) -> bool {
        one.values == other.values
            && self.unsent(one) == self.unsent(other)
            && one.absent == other.absent
    }

    fn unsent(&self, upsert: &Upsert) -> BTreeSet<String> {
        let ignored = self.rules.ignore_null.iter();
        let ignored = ignored.filter(|column| upsert.values[*column].is_none());
        upsert.unset.iter().chain(ignored).cloned().collect()
    }

    fn close(&mut self, at: i128) {
        if let Some(open) = self.rows.last_mut().filter(|row| row.to.is_none()) {
            open.to = Some(at);
        }
    }

    fn open(&mut self, at: i128, op: &str, values: Values) {
        self.close(at);
        self.rows.push(Row { values, from: at, to: None, op: op.to_owned() });
    }

    fn delete(&mut self, at: i128) {
        let Some(values) = self.state.take() else { return };
        match self.rules.tombstones {
            true => self.open(at, "d", values),
            false => self.close(at),
        }
    }

    fn upsert(&mut self, at: i128, upsert: &Upsert) {
        let before = self.state.take();
        let mut values = upsert.values.clone();
        for column in self.unsent(upsert) {
            let kept = before.as_ref().and_then(|before| before[&column].clone());
            values.insert(column, kept);
        }
        let equal = |column: &String| Some(&values[column]) == before.as_ref().map(|b| &b[column]);
        let compared = self.rules.tracked.iter().filter(|column| !upsert.absent.contains(*column));
        if before.is_some() && compared.clone().all(equal) {
            for (column, value) in before.into_iter().flatten() {
                if upsert.absent.contains(&column) {
                    values.insert(column, value);
                }
            }
            if let Some(open) = self.rows.last_mut() {
                open.values = values.clone();
            }
        } else {
            self.open(at, upsert.op, values.clone());
        }
        self.state = Some(values);
    }
}

#[test]
fn the_reference_agrees_with_the_example_that_was_worked_by_hand() {
    let rules = Rules { tracked: ["name".to_owned()].into(), unit: 1, ..Rules::default() };
    let told = |seq: i128, name: &str| Told {
        seq: vec![seq],
        what: What::Upsert(Upsert {
            key: "1".to_owned(),
            old_key: None,
            op: "u",
            values: [("name".to_owned(), Some(name.to_owned()))].into(),
            unset: BTreeSet::new(),
            absent: BTreeSet::new(),
            snapshot: None,
        }),
    };
    let all = [
        told(5, "Alice"),
        told(10, "Alice"),
        told(15, "Alice"),
        told(20, "Charlie"),
        told(12, "Bob"),
    ];
    let rows = rows(&rules, &all);
    let short: BTreeSet<_> =
        rows.iter().map(|row| (row.from, row.to, row.values["name"].as_deref().unwrap())).collect();
    let expected = [
        (5, Some(12), "Alice"),
        (12, Some(15), "Bob"),
        (15, Some(20), "Alice"),
        (20, None, "Charlie"),
    ];
    assert_eq!(short, expected.into());
}

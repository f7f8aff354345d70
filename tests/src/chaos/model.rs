//! What silver must hold, by the rules of `docs/silver.md` alone: all that raw has of a key, in the
//! order of its sequences, gone through once. Slow and plain on purpose.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A place on a topic: epoch, offset, index.
pub(crate) type Position = (u64, u64, u64);

/// A place in the source's order. An entity has one kind of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seq {
    /// A number.
    Number(u64),
    /// An instant in UTC, written with all its microseconds so that it sorts as a text.
    Time(String),
}

impl Seq {
    /// Reads one as JSON shows it.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(number.as_u64().unwrap()),
            Value::String(text) => {
                let text = text.strip_suffix('Z').unwrap();
                let (whole, part) = text.split_once('.').unwrap_or((text, ""));
                Self::Time(format!("{whole}.{part:0<6}"))
            }
            _ => panic!("{value} is no sequence"),
        }
    }
}

/// Something that raw has of an entity.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its place in the source's order.
    pub seq: Seq,
    /// Where it stands.
    pub position: Position,
    /// What it says.
    pub says: Says,
}

/// What an event says.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// A row is so; with the operation as silver calls it.
    Row(&'static str, Map<String, Value>),
    /// The row of this key is gone.
    Gone(Map<String, Value>),
    /// A snapshot at this sequence has ended: what it did not contain is gone.
    End,
}

/// What an entity is like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// The columns that name a row.
    pub keys: Vec<String>,
    /// All columns that silver stores.
    pub columns: Vec<String>,
    /// Those of them whose change opens no version.
    pub latest: Vec<String>,
    /// Whether a delete opens a row of its own.
    pub tombstones: bool,
}

impl Rules {
    fn key(&self, row: &Map<String, Value>) -> String {
        let parts = self.keys.iter().map(|name| row[name].clone()).collect();
        Value::Array(parts).to_string()
    }

    /// The row's values in the order of the columns; what is missing is null.
    fn stored(&self, row: &Map<String, Value>) -> Vec<Value> {
        self.columns.iter().map(|name| row.get(name).cloned().unwrap_or_default()).collect()
    }

    /// Whether two rows are one version.
    fn same(&self, one: &[Value], other: &[Value]) -> bool {
        let tracked = |(at, _): &(usize, &Value)| !self.latest.contains(&self.columns[*at]);
        one.iter().enumerate().filter(tracked).eq(other.iter().enumerate().filter(tracked))
    }
}

/// A row of silver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// The key, as JSON.
    pub key: String,
    /// Where it begins.
    pub from: Seq,
    /// Where it ends.
    pub to: Option<Seq>,
    /// The operation that opened it.
    pub op: String,
    /// The place of the event whose values it shows.
    pub position: Position,
    /// Its values as JSON, in the order of the columns.
    pub values: String,
}

/// What one key was told at one sequence.
#[derive(Debug, Clone)]
struct Told {
    seq: Seq,
    position: Position,
    /// None: it is gone.
    row: Option<(&'static str, Vec<Value>)>,
    /// Whether a snapshot's end says so, which stands at no place of the key's own.
    absent: bool,
}

impl Told {
    fn says_the_same(&self, other: &Self) -> bool {
        let values = |told: &Self| told.row.as_ref().map(|(_, values)| values.clone());
        values(self) == values(other)
    }
}

/// All versions of all keys, sorted.
pub(crate) fn versions(rules: &Rules, events: &[Event]) -> Vec<Version> {
    let mut keys: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    let mut ends = BTreeSet::new();
    for event in events {
        let (key, row) = match &event.says {
            Says::Row(op, row) => (rules.key(row), Some((*op, rules.stored(row)))),
            Says::Gone(key) => (rules.key(key), None),
            Says::End => {
                ends.insert((event.seq.clone(), event.position));
                continue;
            }
        };
        let (seq, position) = (event.seq.clone(), event.position);
        keys.entry(key).or_default().push(Told { seq, position, row, absent: false });
    }
    let mut all = Vec::new();
    for (key, mut told) in keys {
        let contained: BTreeSet<Seq> = told.iter().map(|told| told.seq.clone()).collect();
        told.extend(ends.iter().filter(|(seq, _)| !contained.contains(seq)).map(
            |(seq, position)| {
                let (seq, position) = (seq.clone(), *position);
                Told { seq, position, row: None, absent: true }
            },
        ));
        all.extend(of_one_key(rules, &key, &winners(told)));
    }
    all.sort();
    all
}

/// One event per sequence: a delete wins, else what was said first of what was said last.
fn winners(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by(|a, b| (&a.seq, a.position).cmp(&(&b.seq, b.position)));
    let mut winners: Vec<Vec<Told>> = Vec::new();
    for event in told {
        match winners.last_mut() {
            Some(tied) if tied[0].seq == event.seq => {
                if !tied.iter().any(|other| other.says_the_same(&event)) {
                    tied.push(event);
                }
            }
            _ => winners.push(vec![event]),
        }
    }
    let winner = |tied: Vec<Told>| {
        let gone = tied.iter().find(|told| told.row.is_none()).cloned();
        gone.unwrap_or_else(|| tied.last().unwrap().clone())
    };
    winners.into_iter().map(winner).collect()
}

fn of_one_key(rules: &Rules, key: &str, told: &[Told]) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    // The rows of the run that goes on, and the values that were last.
    let mut run: Vec<&Told> = Vec::new();
    let mut rest = told.iter().peekable();
    while let Some(event) = rest.next() {
        let Some((_, values)) = &event.row else { continue };
        let next = rest.peek();
        run.push(event);
        let goes_on = next.and_then(|next| next.row.as_ref());
        if goes_on.is_some_and(|(_, following)| rules.same(values, following)) {
            continue;
        }
        let ended = std::mem::take(&mut run);
        let equal = ended.iter().rev().take_while(|told| told.says_the_same(event)).last();
        let version = |opens: &Told, op: &str, to: Option<&Told>, place: &Told| Version {
            key: key.to_owned(),
            from: opens.seq.clone(),
            to: to.map(|told| told.seq.clone()),
            op: op.to_owned(),
            position: place.position,
            values: Value::Array(values.clone()).to_string(),
        };
        let op = ended[0].row.as_ref().unwrap().0;
        versions.push(version(ended[0], op, next.copied(), equal.unwrap()));
        let gone = next.copied().filter(|next| next.row.is_none() && rules.tombstones);
        if let Some(gone) = gone {
            assert!(!gone.absent, "the model knows no tombstones of snapshots");
            let again = told.iter().find(|told| told.seq > gone.seq && told.row.is_some());
            versions.push(version(gone, "d", again, gone));
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(tombstones: bool) -> Rules {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Rules {
            keys: names(&["id"]),
            columns: names(&["id", "city", "seen"]),
            latest: names(&["seen"]),
            tombstones,
        }
    }

    fn events(lines: &[(u64, Option<&str>)]) -> Vec<Event> {
        let says = |city: &Option<&str>| match city {
            Some(city) => {
                Says::Row("u", json!({"id": 1, "city": city}).as_object().unwrap().clone())
            }
            None => Says::Gone(json!({"id": 1}).as_object().unwrap().clone()),
        };
        let event = |(at, (seq, city)): (u64, &(u64, Option<&str>))| Event {
            seq: Seq::Number(*seq),
            position: (1, at, 0),
            says: says(city),
        };
        (0..).zip(lines).map(event).collect()
    }

    /// City, begin, end and place of each version.
    fn shown(tombstones: bool, lines: &[(u64, Option<&str>)]) -> Vec<String> {
        let show = |version: Version| {
            let values: Value = serde_json::from_str(&version.values).unwrap();
            let number = |seq: &Seq| match seq {
                Seq::Number(number) => number.to_string(),
                Seq::Time(text) => text.clone(),
            };
            let to = version.to.as_ref().map_or("-".to_owned(), number);
            let (from, place) = (number(&version.from), version.position.1);
            format!("{} {} {from} {to} @{place}", version.op, values[1].as_str().unwrap())
        };
        versions(&rules(tombstones), &events(lines)).into_iter().map(show).collect()
    }

    #[test]
    fn the_worked_example_comes_out() {
        let lines = [(5, "Alice"), (10, "Alice"), (15, "Alice"), (20, "Charlie"), (12, "Bob")];
        let lines = lines.map(|(seq, name)| (seq, Some(name)));
        let expected =
            ["u Alice 5 12 @0", "u Bob 12 15 @4", "u Alice 15 20 @2", "u Charlie 20 - @3"];
        assert_eq!(shown(false, &lines), expected);
    }

    #[test]
    fn a_delete_closes_and_wins_a_tie_and_an_early_one_is_remembered() {
        let lines = [(9, None), (5, Some("a")), (9, Some("b")), (12, Some("a"))];
        assert_eq!(shown(false, &lines), ["u a 5 9 @1", "u a 12 - @3"]);
        let tombs = ["u a 5 9 @1", "d a 9 12 @0", "u a 12 - @3"];
        assert_eq!(shown(true, &lines), tombs);
    }

    #[test]
    fn of_two_upserts_at_one_sequence_the_later_wins_and_a_repetition_moves_nothing() {
        let lines = [(5, Some("a")), (5, Some("b")), (5, Some("a")), (5, Some("b"))];
        assert_eq!(shown(false, &lines), ["u b 5 - @1"]);
    }

    #[test]
    fn the_end_of_a_snapshot_closes_what_it_did_not_contain() {
        let row = |id: u64| json!({"id": id, "city": "x"}).as_object().unwrap().clone();
        let event = |seq, at, says| Event { seq: Seq::Number(seq), position: (1, at, 0), says };
        let events = [
            event(1, 0, Says::Row("r", row(1))),
            event(1, 1, Says::Row("r", row(2))),
            event(1, 2, Says::End),
            event(2, 3, Says::Row("r", row(1))),
            event(2, 4, Says::End),
        ];
        let ends: Vec<_> =
            versions(&rules(false), &events).into_iter().map(|v| (v.key, v.to)).collect();
        assert_eq!(ends, [("[1]".to_owned(), None), ("[2]".to_owned(), Some(Seq::Number(2)))]);
    }

    #[test]
    fn instants_sort_however_many_digits_they_are_shown_with() {
        let of = |text: &str| Seq::of(&json!(text));
        assert!(of("2026-01-01T00:00:00.5Z") > of("2026-01-01T00:00:00.499999Z"));
        assert!(of("2026-01-01T00:00:01Z") > of("2026-01-01T00:00:00.9Z"));
        assert_eq!(of("2026-01-01T00:00:00.50Z"), of("2026-01-01T00:00:00.500000Z"));
    }
}

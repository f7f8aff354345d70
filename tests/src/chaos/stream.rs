//! What is said of an entity: a seeded stream of changes, shuffled, repeated and late.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::model::Rules;
use crate::Random;

/// How an entity's records get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Files are published, with deletes.
    Published,
    /// An API is polled for what is new: it tells of no deletes.
    Polled,
    /// A table is read whole: what is gone was deleted.
    Whole,
}

/// An entity of the stream.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its system.
    pub system: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How its records get in.
    pub way: Way,
    /// The columns of its key.
    pub keys: &'static [&'static str],
    /// So many keys there are.
    pub rows: u64,
    /// Of 100 records of all streams, about so many are its own.
    pub share: u64,
    /// So many records come at once.
    pub at_once: u64,
    /// So many characters stand in each note.
    pub note: usize,
    /// Whether a delete opens a row.
    pub tombstones: bool,
}

/// All entities.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        system: "push",
        name: "customers",
        way: Way::Published,
        keys: &["id"],
        rows: 300,
        share: 15,
        at_once: 300,
        note: 20,
        tombstones: false,
    },
    Shape {
        system: "push",
        name: "payments",
        way: Way::Published,
        keys: &["region", "id"],
        rows: 2_000,
        share: 15,
        at_once: 300,
        note: 20,
        tombstones: true,
    },
    // Its files are published in several pages.
    Shape {
        system: "push",
        name: "visits",
        way: Way::Published,
        keys: &["id"],
        rows: 20_000,
        share: 40,
        at_once: 12_000,
        note: 500,
        tombstones: false,
    },
    Shape {
        system: "feed",
        name: "orders",
        way: Way::Polled,
        keys: &["id"],
        rows: 1_000,
        share: 20,
        at_once: 150,
        note: 20,
        tombstones: false,
    },
    Shape {
        system: "feed",
        name: "parts",
        way: Way::Polled,
        keys: &["region", "id"],
        rows: 100,
        share: 10,
        at_once: 75,
        note: 20,
        tombstones: false,
    },
    Shape {
        system: "shop",
        name: "stock",
        way: Way::Whole,
        keys: &["id"],
        rows: 150,
        share: 0,
        at_once: 6,
        note: 20,
        tombstones: false,
    },
];

const COLUMNS: [(&str, &str); 7] = [
    ("id", "long"),
    ("region", "string"),
    ("city", "string"),
    ("amount", "double"),
    ("status", "string"),
    ("note", "string"),
    ("seen", "long"),
];

impl Shape {
    /// `system.name`.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.system, self.name)
    }

    /// What the model has to know.
    pub(crate) fn rules(&self) -> Rules {
        let mut columns: Vec<String> = COLUMNS.map(|(name, _)| name.to_owned()).into();
        let mut latest = Vec::new();
        if self.way != Way::Whole {
            latest.push("seen".to_owned());
        }
        if self.way == Way::Polled {
            columns.push("seq".to_owned());
            latest.push("seq".to_owned());
        }
        let keys = self.keys.iter().map(|name| (*name).to_owned()).collect();
        Rules { keys, columns, latest, tombstones: self.tombstones }
    }

    /// The entity for `entities.json`.
    pub(crate) fn metadata(&self) -> Value {
        let column = |name: &str, kind: &str, history: &str| {
            let nullable = !self.keys.contains(&name);
            json!({"name": name, "type": kind, "nullable": nullable, "history": history})
        };
        let history = |name: &str| if name == "seen" { "latest" } else { "track" };
        let mut columns: Vec<Value> =
            COLUMNS.iter().map(|(name, kind)| column(name, kind, history(name))).collect();
        let mut entity = json!({"system": self.system, "name": self.name, "keys": self.keys});
        let more = match self.way {
            Way::Published => json!({
                "load": "delta", "source": {}, "sequence_by": [{"carried": "long"}],
                "deletes": if self.tombstones { "tombstone" } else { "close" }
            }),
            Way::Polled => {
                columns.push(column("seq", "long", "latest"));
                columns.push(column("feed", "long", "ignore"));
                json!({
                    "load": "delta", "sequence_by": ["seq"], "source": {
                        "path": format!("/{}", self.name), "records": "$.items[*]",
                        "pagination": {"type": "cursor", "param": "token", "path": "$.next"},
                        "incremental": {"column": "feed", "param": "since", "format": "raw"}
                    }
                })
            }
            Way::Whole => {
                // The table tells its columns.
                columns.clear();
                json!({"load": "full", "source": {"table": self.name, "page_rows": 40}})
            }
        };
        if !columns.is_empty() {
            entity["columns"] = columns.into();
        }
        entity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entity
    }
}

/// A change, before it is told how it comes.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    op: &'static str,
    seq: u64,
    row: Map<String, Value>,
}

impl Change {
    /// As a line of a file to be published; `number` is no other line's.
    pub(crate) fn line(&self, number: u64) -> String {
        let side = if self.op == "delete" { "before" } else { "after" };
        json!({"n": number, "op": self.op, "seq": self.seq, side: self.row}).to_string()
    }

    /// As an API shows it.
    pub(crate) fn item(&self, number: u64) -> Value {
        let mut item = self.row.clone();
        item.insert("seq".to_owned(), json!(self.seq));
        item.insert("feed".to_owned(), json!(number));
        Value::Object(item)
    }
}

/// The changes of one entity.
pub(crate) struct Stream {
    shape: &'static Shape,
    random: Random,
    sequence: u64,
    /// The key that was spoken of last.
    key: u64,
    /// What was said last of a key.
    last: HashMap<u64, Map<String, Value>>,
    /// What is still to come, and with which batch.
    to_come: Vec<(u64, Change)>,
    batch: u64,
}

impl Stream {
    /// The stream of `seed`.
    pub(crate) fn new(shape: &'static Shape, seed: u64) -> Self {
        let random = Random::new(seed);
        let (last, to_come) = (HashMap::new(), Vec::new());
        Self { shape, random, sequence: 0, key: 0, last, to_come, batch: 0 }
    }

    /// The next batch: so many changes happen; what comes of them now, and of those before, is given
    /// in any order.
    pub(crate) fn batch(&mut self, changes: u64) -> Vec<Change> {
        for _ in 0..changes {
            let change = self.change();
            let due = self.due();
            self.to_come.push((due, change.clone()));
            if self.random.below(100) < 15 {
                let due = self.due();
                self.to_come.push((due, change));
            }
        }
        let now = self.batch;
        self.batch += 1;
        self.come(|due| due <= now)
    }

    /// All that has not come yet.
    pub(crate) fn rest(&mut self) -> Vec<Change> {
        self.come(|_| true)
    }

    fn come(&mut self, is_due: impl Fn(u64) -> bool) -> Vec<Change> {
        let all = std::mem::take(&mut self.to_come);
        let (now, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(due, _)| is_due(*due));
        self.to_come = later;
        let mut now: Vec<Change> = now.into_iter().map(|(_, change)| change).collect();
        for at in (1..now.len()).rev() {
            now.swap(at, self.random.below(at as u64 + 1) as usize);
        }
        now
    }

    /// Most come at once, some a little later, a few very late.
    fn due(&mut self) -> u64 {
        self.batch
            + match self.random.below(100) {
                0..75 => 0,
                75..93 => 1 + self.random.below(3),
                _ => 1 + self.random.below(40),
            }
    }

    fn change(&mut self) -> Change {
        // Now and then a second word on the same key, at the same place in the source's order.
        if self.sequence == 0 || self.random.below(100) >= 3 {
            self.key = self.random.below(self.shape.rows);
            self.sequence += 1;
        }
        let (key, seq) = (self.key, self.sequence);
        if self.shape.way == Way::Published && self.random.below(100) < 20 {
            let row = self.key(key);
            return Change { op: "delete", seq, row };
        }
        let op = if self.last.contains_key(&key) { "update" } else { "insert" };
        let mut row = match self.last.get(&key) {
            Some(last) if self.random.below(100) < 25 => last.clone(),
            _ => self.row(key),
        };
        row.insert("seen".to_owned(), json!(self.random.below(5)));
        self.last.insert(key, row.clone());
        Change { op, seq, row }
    }

    fn key(&self, key: u64) -> Map<String, Value> {
        let regions = ["eu", "us", "ås"];
        let mut row = Map::new();
        row.insert("id".to_owned(), json!(key));
        row.insert("region".to_owned(), json!(regions[key as usize % regions.len()]));
        row
    }

    fn row(&mut self, key: u64) -> Map<String, Value> {
        let mut row = self.key(key);
        let random = &mut self.random;
        let note: String = (0..self.shape.note.div_ceil(16)).map(|_| hex(random)).collect();
        let cities = ["Oslo", "Bergen", "Tromsø", "", "東京"];
        let values = json!({
            "city": cities[random.below(cities.len() as u64) as usize],
            // Never one that ends in .0: JSON would show it as another number.
            "amount": (random.below(1_000) * 100 + 25) as f64 / 100.0,
            "status": if random.below(4) == 0 { Value::Null } else { json!("paid") },
            "note": if random.below(2) == 0 { json!(note) } else { json!("") },
        });
        row.extend(values.as_object().unwrap().clone());
        row
    }
}

fn hex(random: &mut Random) -> String {
    format!("{:016x}", random.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_a_seed_is_always_the_same_and_has_deletes_repetitions_and_late_events() {
        let all = |seed| {
            let mut stream = Stream::new(&SHAPES[0], seed);
            let mut changes: Vec<Change> = (0..50).flat_map(|_| stream.batch(100)).collect();
            changes.extend(stream.rest());
            changes
        };
        let lines = |changes: &[Change]| {
            changes.iter().map(|change| change.line(0)).collect::<Vec<String>>()
        };
        let changes = all(7);
        assert_eq!(lines(&changes), lines(&all(7)));
        assert_ne!(lines(&changes), lines(&all(8)));
        let share = |count: usize| count * 100 / changes.len();
        let deletes = changes.iter().filter(|change| change.op == "delete").count();
        assert!((17..24).contains(&share(deletes)), "{} % deletes", share(deletes));
        let repeated = changes.len() - 5_000;
        assert!((10..17).contains(&share(repeated)), "{} % repetitions", share(repeated));
        let late = changes.windows(2).filter(|pair| pair[1].seq + 500 < pair[0].seq).count();
        assert!(late > 50, "{late} are late");
    }
}

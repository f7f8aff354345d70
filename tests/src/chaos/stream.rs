//! What is said of an entity: a seeded stream of changes, shuffled, repeated and late.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::shapes::{Shape, Way};
use crate::Random;

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
    use super::super::shapes::SHAPES;
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

//! The rows of the table, and the batches of changes that follow them.

use std::collections::HashSet;
use std::io::{Result, Write};

use serde_json::{Value, json};

use crate::Random;

/// The one entity.
pub(crate) const ENTITY: &str = "bench.items";
/// How its lines are read.
pub(crate) const MAP: &str = "op=op,sequence=seq,row=after";

/// The system and its entity: nothing is read from it, changes are published to it.
pub(crate) fn metadata() -> (Value, Value) {
    let systems = json!({"systems": [{"name": "bench", "type": "push"}]});
    let entities = json!({"entities": [{
        "system": "bench", "name": "items", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string"},
            {"name": "amount", "type": "double"}
        ]
    }]});
    (systems, entities)
}

/// Lines of changes, the same at each run. Each of them opens a version.
pub(crate) struct Rows {
    count: u64,
    each: u64,
    random: Random,
    written: u64,
    batches: u64,
}

impl Rows {
    /// So many rows, and so many changes in each batch after them.
    pub(crate) fn new(count: u64, each: u64) -> Self {
        Self { count, each, random: Random::new(5), written: 0, batches: 0 }
    }

    /// So many changes were written, and so many versions there must be.
    pub(crate) fn versions(&self) -> u64 {
        self.written
    }

    /// Writes all rows, in the order of their keys.
    pub(crate) fn load(&mut self, mut to: impl Write) -> Result<()> {
        for id in 0..self.count {
            self.written += 1;
            let (seq, number, amount) = (self.written, id * 7_919 % self.count, id % 1_000);
            let row = format!(r#"{{"id":{id},"name":"name of {number}","amount":{amount}.5}}"#);
            writeln!(to, r#"{{"op":"insert","seq":{seq},"after":{row}}}"#)?;
        }
        to.flush()
    }

    /// Writes the next batch: updates of random rows, none of them twice.
    pub(crate) fn batch(&mut self, mut to: impl Write) -> Result<()> {
        self.batches += 1;
        let (batch, mut seen) = (self.batches, HashSet::new());
        while (seen.len() as u64) < self.each {
            let id = self.random.below(self.count);
            if !seen.insert(id) {
                continue;
            }
            self.written += 1;
            let seq = self.written;
            let row = format!(r#"{{"id":{id},"name":"batch {batch}","amount":1.5}}"#);
            writeln!(to, r#"{{"op":"update","seq":{seq},"after":{row}}}"#)?;
        }
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Value> {
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
    }

    fn parse(line: &[u8]) -> Value {
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn each_line_is_a_change_of_its_own_place_and_a_batch_changes_no_row_twice() {
        let (mut rows, mut bytes) = (Rows::new(50, 40), Vec::new());
        rows.load(&mut bytes).unwrap();
        rows.batch(&mut bytes).unwrap();
        rows.batch(&mut bytes).unwrap();
        let lines = lines(&bytes);
        assert_eq!((lines.len(), rows.versions()), (130, 130));
        let places: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(places, (1..=130).collect::<Vec<u64>>());
        let keys = |range: std::ops::Range<usize>| {
            let ids = lines[range].iter().map(|line| line["after"]["id"].as_u64().unwrap());
            ids.collect::<HashSet<u64>>().len()
        };
        assert_eq!((keys(0..50), keys(50..90), keys(90..130)), (50, 40, 40));
    }

    #[test]
    fn the_lines_are_the_same_at_each_run() {
        let written = || {
            let (mut rows, mut bytes) = (Rows::new(9, 4), Vec::new());
            rows.load(&mut bytes).unwrap();
            rows.batch(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(written(), written());
    }
}

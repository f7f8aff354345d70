//! A seeded workload of changes, and the versions that must come of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::TestPlatform;

/// Numbers that are the same at each run (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// A version of a row that silver must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The sequence that opened it.
    pub from: u64,
    /// The sequence that closed it.
    pub to: Option<u64>,
    /// The row.
    pub row: Value,
}

/// Changes, and what must come of them: nothing is shared with how Alluvium gets there.
pub struct Workload {
    random: Random,
    alive: Vec<u64>,
    next: u64,
    sequence: u64,
    /// By key, the oldest version first.
    pub versions: HashMap<u64, Vec<Version>>,
}

impl Workload {
    /// Nothing yet.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            alive: Vec::new(),
            next: 0,
            sequence: 0,
            versions: HashMap::new(),
        }
    }

    /// So many new rows, one change a line.
    pub fn inserts(&mut self, count: u64) -> String {
        let mut lines = String::new();
        for _ in 0..count {
            self.insert(&mut lines);
        }
        lines
    }

    /// So many changes: of 20, 16 are updates, 3 inserts and 1 a delete. Rows must be there.
    pub fn changes(&mut self, count: u64) -> String {
        let mut lines = String::new();
        for _ in 0..count {
            match self.random.below(20) {
                0..=2 => self.insert(&mut lines),
                3 if self.alive.len() > 1 => self.delete(&mut lines),
                _ => self.update(&mut lines),
            }
        }
        lines
    }

    /// A first file of inserts and further ones of changes, written into the project.
    pub fn files(
        &mut self,
        platform: &TestPlatform,
        rows: u64,
        batches: u64,
        each: u64,
    ) -> Vec<PathBuf> {
        let mut files = vec![platform.write("b0.ndjson", &self.inserts(rows))];
        for number in 1..=batches {
            let lines = self.changes(each);
            files.push(platform.write(&format!("b{number}.ndjson"), &lines));
        }
        files
    }

    /// How many changes there were.
    pub fn count(&self) -> u64 {
        self.sequence
    }

    /// How many rows there are now.
    pub fn open(&self) -> u64 {
        self.alive.len() as u64
    }

    /// How many versions there must be.
    pub fn version_count(&self) -> u64 {
        self.versions.values().map(|versions| versions.len() as u64).sum()
    }

    /// All versions as silver shows them: `id`, `_valid_from`, `_valid_to`, and the values, sorted.
    pub fn expected(&self) -> Vec<Value> {
        let shown = |version: &Version| {
            let mut row = version.row.clone();
            row["_valid_from"] = json!(version.from);
            row["_valid_to"] = json!(version.to);
            row
        };
        let mut rows: Vec<Value> = self.versions.values().flatten().map(shown).collect();
        rows.sort_by_key(|row| (row["id"].as_u64(), row["_valid_from"].as_u64()));
        rows
    }

    fn insert(&mut self, lines: &mut String) {
        let key = self.next;
        self.next += 1;
        self.alive.push(key);
        self.put("insert", key, lines);
    }

    fn update(&mut self, lines: &mut String) {
        let at = self.random.below(self.alive.len() as u64) as usize;
        self.put("update", self.alive[at], lines);
    }

    fn put(&mut self, op: &str, key: u64, lines: &mut String) {
        self.sequence += 1;
        let row = self.row(key);
        writeln!(lines, "{}", json!({"op": op, "seq": self.sequence, "after": row})).unwrap();
        let versions = self.versions.entry(key).or_default();
        if let Some(last) = versions.last_mut() {
            last.to = Some(self.sequence);
        }
        versions.push(Version { from: self.sequence, to: None, row });
    }

    fn delete(&mut self, lines: &mut String) {
        self.sequence += 1;
        let at = self.random.below(self.alive.len() as u64) as usize;
        let key = self.alive.swap_remove(at);
        let change = json!({"op": "delete", "seq": self.sequence, "before": {"id": key}});
        writeln!(lines, "{change}").unwrap();
        if let Some(last) = self.versions.get_mut(&key).and_then(|versions| versions.last_mut()) {
            last.to = Some(self.sequence);
        }
    }

    fn row(&mut self, key: u64) -> Value {
        let random = &mut self.random;
        let note: Vec<String> = (0..4).map(|_| format!("{:x}", random.number())).collect();
        json!({
            "id": key,
            "name": format!("name-{:x}", random.number()),
            "city": random.of(&["Oslo", "Bergen", "Tromsø", "Ålesund", ""]),
            // Hundredths, and never one that ends in .0: JSON would show it as another number.
            "amount": (random.below(100_000) * 100 + 25) as f64 / 10_000.0,
            "status": if random.below(10) == 0 { Value::Null } else { json!(random.of(&["new", "paid", "sent"])) },
            "note": note.join(" "),
            "updated_at": format!("2026-01-01T{:02}:{:02}:00Z", random.below(24), random.below(60)),
        })
    }
}

/// The columns of the workload's entity, beside Alluvium's own.
pub const COLUMNS: &str = "id, name, city, amount, status, note, updated_at";

/// The systems and entities of the workload. Nothing can be read from the system: changes are
/// published to it.
pub fn metadata() -> (Value, Value) {
    let columns: Value = [
        ("id", "long", false),
        ("name", "string", true),
        ("city", "string", true),
        ("amount", "double", true),
        ("status", "string", true),
        ("note", "string", true),
        ("updated_at", "timestamp", true),
    ]
    .iter()
    .map(|(name, kind, nullable)| json!({"name": name, "type": kind, "nullable": nullable}))
    .collect();
    let systems = json!({"systems": [
        {"name": "shop", "type": "rest", "connection": {"base_url": "http://127.0.0.1:9"}}
    ]});
    let entities = json!({"entities": [{
        "system": "shop", "name": "customers", "load": "delta", "source": {"path": "/"},
        "keys": ["id"], "sequence_by": [{"carried": "long"}], "columns": columns
    }]});
    (systems, entities)
}

//! A seeded stream of customers: inserts, then batches of updates, inserts and deletes.

use bytes::Bytes;

/// Lines of one file.
pub(crate) struct Lines {
    pub(crate) records: u64,
    pub(crate) bytes: Bytes,
}

const CITIES: [&str; 8] =
    ["Oslo", "Bergen", "Stavanger", "Trondheim", "Tromsø", "Drammen", "Kristiansand", "Ålesund"];
const STATUS: [&str; 4] = ["new", "paid", "shipped", "returned"];

/// The state of the generator.
pub(crate) struct Workload {
    seed: u64,
    words: Vec<String>,
    alive: Vec<u64>,
    next_id: u64,
    sequence: u64,
    minute: u64,
}

impl Workload {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            seed: 42,
            words: Vec::new(),
            alive: Vec::new(),
            next_id: 0,
            sequence: 0,
            minute: 0,
        };
        this.words = (0..5_000).map(|_| format!("{:010x}", this.random() >> 24)).collect();
        this
    }

    /// `rows` inserts.
    pub(crate) fn first_load(&mut self, rows: u64) -> Lines {
        let mut out = String::with_capacity(rows as usize * 280);
        for _ in 0..rows {
            self.insert(&mut out);
        }
        Lines { records: rows, bytes: out.into() }
    }

    /// `changes` changes, each of another key.
    pub(crate) fn batch(&mut self, changes: u64) -> Lines {
        self.minute += 1;
        let mut out = String::with_capacity(changes as usize * 280);
        let mut used = std::collections::HashSet::new();
        for _ in 0..changes {
            let kind = self.random() % 100;
            if kind < 15 || used.len() == self.alive.len() {
                self.insert(&mut out);
                used.extend(self.alive.last());
                continue;
            }
            let at = loop {
                let at = (self.random() % self.alive.len() as u64) as usize;
                if used.insert(self.alive[at]) {
                    break at;
                }
            };
            let id = self.alive[at];
            self.sequence += 1;
            if kind < 20 {
                self.alive.swap_remove(at);
                let (sequence, time) = (self.sequence, self.time());
                out.push_str(&format!(
                    "{{\"op\": \"delete\", \"seq\": {sequence}, \"before\": {{\"id\": {id}, \"updated_at\": \"{time}\"}}}}\n"
                ));
            } else {
                self.row("update", id, &mut out);
            }
        }
        Lines { records: changes, bytes: out.into() }
    }

    fn insert(&mut self, out: &mut String) {
        let id = self.next_id;
        self.next_id += 1;
        self.alive.push(id);
        self.sequence += 1;
        self.row("insert", id, out);
    }

    fn row(&mut self, op: &str, id: u64, out: &mut String) {
        let mut word = || {
            let at = self.random() as usize % self.words.len();
            self.words[at].clone()
        };
        let name = word();
        let note: Vec<String> = (0..5).map(|_| word()).collect();
        let city = CITIES[self.random() as usize % CITIES.len()];
        let status = STATUS[self.random() as usize % STATUS.len()];
        let amount = (self.random() % 100_000) as f64 / 100.0;
        let (sequence, time, note) = (self.sequence, self.time(), note.join(" "));
        out.push_str(&format!(
            "{{\"op\": \"{op}\", \"seq\": {sequence}, \"after\": {{\"id\": {id}, \"name\": \"name-{name}\", \"email\": \"u{id}@example.com\", \"city\": \"{city}\", \"amount\": {amount}, \"status\": \"{status}\", \"note\": \"{note}\", \"updated_at\": \"{time}\"}}}}\n"
        ));
    }

    fn time(&self) -> String {
        let (hours, minutes) = (self.minute / 60 % 24, self.minute % 60);
        format!("2026-01-{:02}T{hours:02}:{minutes:02}:00Z", 1 + self.minute / 1_440 % 28)
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

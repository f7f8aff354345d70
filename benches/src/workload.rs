//! A seeded stream of customers: inserts, then batches of changes of random keys, as lines of JSON.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

const CITIES: [&str; 8] =
    ["Oslo", "Bergen", "Stavanger", "Trondheim", "Tromsø", "Drammen", "Kristiansand", "Ålesund"];
/// So many words there are for names and notes.
const WORDS: usize = 5_000;
const STATUS: [&str; 4] = ["new", "paid", "shipped", "returned"];

/// What stands in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lines {
    /// So many inserts.
    Load(u64),
    /// So many changes, each of another key: 80 % updates, 15 % inserts, 5 % deletes.
    Mixed(u64),
    /// So many updates, each of another key.
    Updates(u64),
}

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
        this.words = (0..WORDS).map(|_| format!("{:010x}", this.random() >> 24)).collect();
        this
    }

    /// Writes the next file. What was at `path` is written over.
    pub(crate) fn write(&mut self, path: &Path, lines: Lines) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        match lines {
            Lines::Load(rows) => (0..rows).try_for_each(|_| self.insert(&mut out))?,
            Lines::Mixed(changes) => self.batch(changes, 15, 20, &mut out)?,
            Lines::Updates(changes) => self.batch(changes, 0, 0, &mut out)?,
        }
        out.flush()
    }

    /// Of 100 changes, those below `inserts` are inserts, and the rest below `deletes` deletes.
    fn batch(
        &mut self,
        changes: u64,
        inserts: u64,
        deletes: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.minute += 1;
        let mut used = HashSet::new();
        for _ in 0..changes {
            let kind = self.random() % 100;
            if kind < inserts || used.len() >= self.alive.len() {
                self.insert(out)?;
                used.extend(self.alive.last());
                continue;
            }
            let at = loop {
                let at = (self.random() % self.alive.len() as u64) as usize;
                if used.insert(self.alive[at]) {
                    break at;
                }
            };
            self.sequence += 1;
            match kind < deletes {
                true => self.delete(at, out)?,
                false => self.row("update", self.alive[at], out)?,
            }
        }
        Ok(())
    }

    fn insert(&mut self, out: &mut impl Write) -> io::Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        self.alive.push(id);
        self.sequence += 1;
        self.row("insert", id, out)
    }

    fn delete(&mut self, at: usize, out: &mut impl Write) -> io::Result<()> {
        let id = self.alive.swap_remove(at);
        let (sequence, time) = (self.sequence, self.time());
        writeln!(
            out,
            "{{\"op\": \"delete\", \"seq\": {sequence}, \"before\": {{\"id\": {id}, \"updated_at\": \"{time}\"}}}}"
        )
    }

    fn row(&mut self, op: &str, id: u64, out: &mut impl Write) -> io::Result<()> {
        let mut random = |below: usize| (self.random() % below as u64) as usize;
        let words: [usize; 6] = std::array::from_fn(|_| random(WORDS));
        let (city, status) = (CITIES[random(CITIES.len())], STATUS[random(STATUS.len())]);
        let amount = random(100_000) as f64 / 100.0;
        let [name, a, b, c, d, e] = words.map(|at| &self.words[at]);
        let (sequence, time) = (self.sequence, self.time());
        writeln!(
            out,
            "{{\"op\": \"{op}\", \"seq\": {sequence}, \"after\": {{\"id\": {id}, \"name\": \"name-{name}\", \"email\": \"u{id}@example.com\", \"city\": \"{city}\", \"amount\": {amount}, \"status\": \"{status}\", \"note\": \"{a} {b} {c} {d} {e}\", \"updated_at\": \"{time}\"}}}}"
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files(workload: &mut Workload, lines: &[Lines]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let write = |lines: &Lines| {
            workload.write(&path, *lines).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        lines.iter().map(write).collect()
    }

    fn id(line: &str) -> &str {
        let rest = line.split_once("\"id\": ").unwrap().1;
        &rest[..rest.find(',').unwrap()]
    }

    #[test]
    fn a_batch_has_its_share_of_each_kind_and_each_key_once() {
        let lines = [Lines::Load(5_000), Lines::Mixed(4_000), Lines::Updates(4_000)];
        let files = files(&mut Workload::new(), &lines);
        let [load, mixed, updates] = files.as_slice() else { panic!("three files") };
        let count = |text: &str, op: &str| text.matches(&format!("{{\"op\": \"{op}\"")).count();
        assert_eq!(count(load, "insert"), 5_000);
        assert!((500..700).contains(&count(mixed, "insert")));
        assert!((150..250).contains(&count(mixed, "delete")));
        assert_eq!(count(updates, "update"), 4_000);
        for (text, keys) in [(load, 5_000), (mixed, 4_000), (updates, 4_000)] {
            assert_eq!(text.lines().map(id).collect::<HashSet<_>>().len(), keys);
        }
        let gone: HashSet<_> =
            mixed.lines().filter(|line| line.contains("delete")).map(id).collect();
        assert!(updates.lines().all(|line| !gone.contains(id(line))));
    }
}

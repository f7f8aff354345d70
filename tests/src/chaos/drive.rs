//! A run of chaos from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::faults::Deck;
use super::findings::Findings;
use super::fleet::{Job, Worker};
use super::ground::Ground;
use super::options::Options;
use super::sources::{File, Sources};
use super::tally::Tally;
use crate::Random;

/// So long nothing may land while there is something to land.
pub(super) const HANGS: Duration = Duration::from_secs(120);
/// So often workers are looked at.
pub(super) const TICK: Duration = Duration::from_millis(15);
/// So long a command may take, in seconds.
pub(super) const PATIENCE: u64 = 300;

/// Makes chaos. The report tells whether all was well: `good`.
pub fn run(options: &Options) -> Value {
    let mut chaos = Chaos::new(options.clone());
    let ended = catch_unwind(AssertUnwindSafe(|| chaos.run())).is_ok();
    let good = ended && chaos.found.as_ref().is_some_and(Findings::good);
    let mut report = chaos.report(good);
    if !good {
        drop(std::mem::take(&mut chaos.fleet));
        report["kept"] = json!(chaos.ground.keep());
    }
    report
}

/// The state of a run. What is done to workers stands in `strike`, the end in `finish`.
pub(super) struct Chaos {
    pub(super) options: Options,
    pub(super) random: Random,
    pub(super) ground: Ground,
    pub(super) sources: Sources,
    pub(super) fleet: Vec<Worker>,
    pub(super) tally: Tally,
    /// What was found at the end, as far as that was looked at.
    pub(super) found: Option<Findings>,
    /// Whether the next worker that comes and goes looks after the tables.
    pub(super) maintain: bool,
    deck: Deck,
    /// In milliseconds, how long it takes about until a worker is at work.
    pace: u64,
}

impl Chaos {
    fn new(options: Options) -> Self {
        let ground = Ground::new(&options);
        let most = ground.servers.most_at_once();
        let sources = Sources::new(ground.folder(), options.seed, most);
        ground.settle(&sources);
        let deck = Deck::new(&options, ground.disk().is_some(), &ground.servers.parts());
        let random = Random::new(options.seed);
        Self {
            options,
            random,
            ground,
            sources,
            fleet: Vec::new(),
            tally: Tally::default(),
            found: None,
            maintain: false,
            deck,
            pace: 600,
        }
    }

    /// All that is known.
    fn report(&self, good: bool) -> Value {
        let mut report = self.tally.json();
        report["bus"] = json!(self.options.bus.name());
        report["ledger"] = json!(self.options.ledger.name());
        report["seed"] = json!(self.options.seed);
        report["disk"] = json!(self.ground.disk().is_some());
        report["told"] = json!(self.sources.count());
        report["good"] = json!(good);
        match &self.found {
            Some(found) => found.tell(&mut report),
            // Broken off before the end: what silver had when it was asked last.
            None => report["landed"] = json!(self.tally.landed),
        }
        report
    }

    fn run(&mut self) {
        while self.has_more() {
            self.sources.happen(self.options.records / self.options.kills.max(1));
            let moment = self.moment();
            self.work(moment);
            let fault = self.deck.draw();
            self.meet(fault);
            self.watch();
        }
        let Options { least, seconds, .. } = self.options;
        assert!(self.tally.kills >= least, "only {} kills in {seconds} s", self.tally.kills);
        self.drain();
        assert!(self.sources.queue.is_empty(), "raw does not tell what it has");
        self.prove();
    }

    /// Whether there are to be more faults: kills, if there is time, and what has not come at all yet.
    fn has_more(&self) -> bool {
        let Options { kills, seconds, .. } = self.options;
        let in_time = self.tally.elapsed() < Duration::from_secs(seconds);
        (self.tally.kills < kills && in_time) || self.deck.is_fresh()
    }

    /// How long workers are left alone: often they have hardly begun, mostly they are at work.
    fn moment(&mut self) -> Duration {
        let reach = if self.random.below(4) == 0 { self.pace / 4 } else { self.pace * 2 };
        Duration::from_millis(self.random.below(reach))
    }

    /// Lets workers work for so long.
    fn work(&mut self, moment: Duration) {
        let until = Instant::now() + moment;
        loop {
            self.fill();
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(TICK);
        }
    }

    /// Takes away who has ended, and starts who is to work.
    pub(super) fn fill(&mut self) {
        for at in (0..self.fleet.len()).rev() {
            self.tally.memory = self.tally.memory.max(self.fleet[at].memory());
            let Some(status) = self.fleet[at].ended() else { continue };
            let worker = self.fleet.remove(at);
            let fine = status.success() && !matches!(worker.job, Job::Run);
            assert!(fine || worker.excused, "{status}: {}", worker.last_words());
            self.gone(&worker, fine);
        }
        let limit = self.options.memory;
        assert!(self.tally.memory / 1024 <= limit, "a worker has more than {limit} MiB");
        for slot in 0..=self.options.staying() {
            if self.fleet.iter().any(|worker| worker.slot == slot) {
                continue;
            }
            if let Some(job) = self.job(slot) {
                self.tally.workers += 1;
                let mut worker = Worker::start(&self.ground, job, slot, self.tally.workers);
                // What one before it had in its hands, it may not get yet.
                worker.excused = self.options.bus.is_shared() && !matches!(worker.job, Job::Run);
                self.fleet.push(worker);
            }
        }
    }

    /// What falls to the worker in this place: some stay, the last one comes and goes. Alone, it does
    /// both.
    fn job(&mut self, slot: u64) -> Option<Job> {
        if slot < self.options.staying() {
            return Some(Job::Run);
        }
        if std::mem::take(&mut self.maintain) {
            self.tally.maintained += 1;
            return Some(Job::Maintain);
        }
        if self.options.bus.is_shared() {
            return self.next_file().map(Job::Publish);
        }
        if self.random.below(2) == 0 {
            return Some(Job::Run);
        }
        Some(self.next_file().map_or(Job::Run, Job::Publish))
    }

    /// The file that is to be published, if that can be told.
    pub(super) fn next_file(&mut self) -> Option<File> {
        loop {
            let file = self.sources.queue.front()?;
            // Killed after its last word to the bus, nobody could tell that it was published.
            if !file.begun || self.records_of(&file.entity)? < file.total {
                break;
            }
            self.sources.queue.pop_front();
        }
        let file = self.sources.queue.front_mut()?;
        file.begun = true;
        Some(file.clone())
    }

    /// So many records raw has of an entity, each line counted once; none if it does not answer now.
    fn records_of(&self, entity: &str) -> Option<u64> {
        let sql = format!("SELECT count(DISTINCT record) AS records FROM raw.{entity}");
        let (code, rows, said) = self.ground.run(&["query", &sql, "-q", "-o", "ndjson"], PATIENCE);
        if code != 0 {
            return said.contains("there is no table").then_some(0);
        }
        let row: Value = serde_json::from_str(&rows).unwrap();
        row["records"].as_u64()
    }

    /// What a worker leaves behind that is gone.
    pub(super) fn gone(&mut self, worker: &Worker, done: bool) {
        for word in ["defect of Alluvium", "panicked"] {
            assert!(!worker.said().contains(word), "{word}: {}", worker.last_words());
        }
        if done && matches!(worker.job, Job::Publish(_)) {
            self.sources.queue.pop_front();
        }
    }

    /// Says how it goes, and stops where nothing goes on.
    fn watch(&mut self) {
        if !self.tally.is_due() {
            return;
        }
        let sql = "SELECT layer, sum(records) AS records FROM ledger.layer_total GROUP BY layer";
        let (_, rows, _) = self.ground.run(&["query", sql, "-q", "-o", "ndjson"], PATIENCE);
        let rows: Vec<Value> = rows.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let of = |layer: &str| {
            let row = rows.iter().find(|row| row["layer"] == layer);
            row.and_then(|row| row["records"].as_u64()).unwrap_or_default()
        };
        let (raw, silver) = (of("raw"), of("silver"));
        let since = self.tally.land(silver);
        // How fast this machine is now shows in what comes through between the kills. Of several
        // workers only one is hit at a time.
        let slow = since > Duration::from_secs(1);
        let most = if self.options.bus.is_shared() { 2_000 } else { 6_000 };
        self.pace = if slow { self.pace * 5 / 4 } else { self.pace * 9 / 10 }.clamp(200, most);
        let words = self.fleet.first().map(Worker::last_words).unwrap_or_default();
        assert!(since < HANGS, "silver landed nothing for {since:?}\n{words}");
        if self.options.quiet {
            return;
        }
        eprintln!(
            "{:>5} s  {:>4} kills of {}  {:>8} told  {raw:>8} in raw  {silver:>8} in silver  \
             {:>2} files wait  {:>4} MiB  pace {} ms",
            self.tally.elapsed().as_secs(),
            self.tally.kills,
            self.options.kills,
            self.sources.count(),
            self.sources.queue.len(),
            self.tally.memory / 1024,
            self.pace
        );
    }

    pub(super) fn say(&self, what: &str) {
        if !self.options.quiet {
            eprintln!("{:>5} s  {what}", self.tally.elapsed().as_secs());
        }
    }
}

//! A run of chaos from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::faults::Deck;
use super::findings::Findings;
use super::fleet::{Excuse, Job, Worker};
use super::ground::Ground;
use super::landed::Waits;
use super::options::Options;
use super::sources::{File, Sources};
use super::tally::Tally;
use crate::Random;

/// So long a layer of an entity may land nothing while something waits for it.
pub(super) const HANGS: Duration = Duration::from_secs(120);
/// So often workers are looked at.
pub(super) const TICK: Duration = Duration::from_millis(15);
/// So long a command may take, in seconds.
pub(super) const PATIENCE: u64 = 300;
/// So long it may take to say what has landed, in seconds. It is asked again.
pub(super) const ANSWERS: u64 = 30;

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

/// The state of a run. What is done to workers stands in `strike`, how it is watched in `watch`, the
/// end in `finish`.
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
    /// In milliseconds, how long it takes about until a worker is at work.
    pub(super) pace: u64,
    pub(super) waits: Waits,
    /// When the ledger told last how far everything is.
    pub(super) heard: Instant,
    deck: Deck,
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
            pace: 600,
            waits: Waits::default(),
            heard: Instant::now(),
            deck,
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
    pub(super) fn work(&mut self, moment: Duration) {
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
            let fine = status.success() && !worker.stays();
            assert!(fine || worker.may_fail(), "{status}: {}", worker.last_words());
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
                if self.options.bus.is_shared() && !worker.stays() {
                    worker.excuse(Excuse::Always);
                }
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
        let answer = self.ground.run(&["query", &sql, "-q", "-o", "ndjson"], ANSWERS);
        if answer.code != 0 {
            return answer.said.contains("there is no table").then_some(0);
        }
        let row: Value = serde_json::from_str(&answer.rows).unwrap();
        row["records"].as_u64()
    }

    /// What a worker leaves behind that is gone.
    pub(super) fn gone(&mut self, worker: &Worker, done: bool) {
        for word in ["defect of Alluvium", "panicked"] {
            assert!(!worker.has_said(&[word]), "{word}: {}", worker.last_words());
        }
        self.tally.starved += u64::from(worker.has_no_room());
        if done && matches!(worker.job, Job::Publish(_)) {
            self.sources.queue.pop_front();
        }
    }

    pub(super) fn say(&self, what: &str) {
        if !self.options.quiet {
            eprintln!("{:>5} s  {what}", self.tally.elapsed().as_secs());
        }
    }
}

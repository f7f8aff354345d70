//! A run of chaos from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::check::{self, Findings};
use super::faults::{Deck, Fault};
use super::fleet::{Job, Worker};
use super::ground::{Bus, Ground};
use super::sources::{File, Sources};
use super::tally::Tally;
use crate::Random;
use crate::platform::copy;

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bus.
    pub bus: Bus,
    /// So many kills are to be survived.
    pub kills: u64,
    /// What everything follows from.
    pub seed: u64,
    /// After so many seconds there are no more faults, however few kills there were.
    pub seconds: u64,
    /// So many kills there must be by then.
    pub least: u64,
    /// About so many records are told.
    pub records: u64,
    /// A worker may have so much memory, in MiB.
    pub memory: u64,
    /// Says nothing until the end.
    pub quiet: bool,
}

/// So long nothing may land while there is something to land.
const HANGS: Duration = Duration::from_secs(120);
/// So often workers are looked at.
const TICK: Duration = Duration::from_millis(15);
/// So long a command of the end may take, in seconds.
const PATIENCE: u64 = 300;

/// Makes chaos. The report tells whether all was well: `good`.
pub fn run(options: &Options) -> Value {
    let mut chaos = Chaos::new(options.clone());
    let ended = catch_unwind(AssertUnwindSafe(|| chaos.run()));
    let mut report = chaos.tally.json();
    report["bus"] = json!(options.bus.name());
    report["seed"] = json!(options.seed);
    report["told"] = json!(chaos.sources.count());
    let good = ended.as_ref().is_ok_and(Findings::good);
    report["good"] = json!(good);
    if let Ok(found) = &ended {
        report["records"] = json!(found.records);
        report["versions"] = json!(found.versions);
        report["lost"] = json!(found.lost);
        report["repeated"] = json!(found.repeated);
        report["altered"] = json!(found.altered);
        report["wrong"] = json!(found.wrong);
        report["shown"] = json!(found.shown);
    }
    if !good {
        drop(std::mem::take(&mut chaos.fleet));
        report["kept"] = json!(chaos.ground.keep());
    }
    report
}

struct Chaos {
    options: Options,
    random: Random,
    ground: Ground,
    sources: Sources,
    fleet: Vec<Worker>,
    deck: Deck,
    tally: Tally,
    /// Whether the next worker looks after the tables.
    maintain: bool,
    /// In milliseconds, how long it takes about until a worker is at work.
    pace: u64,
}

impl Chaos {
    fn new(options: Options) -> Self {
        let ground = Ground::new();
        let sources = Sources::new(ground.folder(), options.seed);
        ground.settle(&sources);
        let deck = Deck::new(ground.disk().is_some());
        if ground.disk().is_none() {
            eprintln!("no filesystem can be mounted here: no disk will be full");
        }
        let random = Random::new(options.seed);
        let (fleet, tally) = (Vec::new(), Tally::default());
        Self { options, random, ground, sources, fleet, deck, tally, maintain: false, pace: 600 }
    }

    fn run(&mut self) -> Findings {
        let limit = Duration::from_secs(self.options.seconds);
        while self.tally.kills < self.options.kills && self.tally.elapsed() < limit {
            self.sources.happen(self.options.records / self.options.kills.max(1));
            let moment = self.moment();
            self.work(moment);
            let fault = self.deck.draw(&mut self.random);
            self.meet(fault);
            self.watch();
        }
        let Options { least, seconds, .. } = self.options;
        assert!(self.tally.kills >= least, "only {} kills in {seconds} s", self.tally.kills);
        self.drain();
        assert!(self.sources.queue.is_empty(), "raw does not tell what it has");
        self.prove()
    }

    /// How long a worker is left alone: often it has hardly begun, mostly it is at work.
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
    fn fill(&mut self) {
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
        if self.fleet.is_empty() {
            let job = self.job();
            self.tally.workers += 1;
            self.fleet.push(Worker::start(&self.ground, job, self.tally.workers));
        }
    }

    fn job(&mut self) -> Job {
        if std::mem::take(&mut self.maintain) {
            self.tally.maintained += 1;
            return Job::Maintain;
        }
        if self.random.below(2) == 0 {
            return Job::Run;
        }
        self.next_file().map_or(Job::Run, Job::Publish)
    }

    /// The file that is to be published, if that can be told.
    fn next_file(&mut self) -> Option<File> {
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

    /// So many records raw has of an entity; none if it does not answer now.
    fn records_of(&self, entity: &str) -> Option<u64> {
        let sql = format!("SELECT count(*) AS records FROM raw.{entity}");
        let (code, rows, said) = self.ground.run(&["query", &sql, "-q", "-o", "ndjson"], PATIENCE);
        if code != 0 {
            return said.contains("there is no table").then_some(0);
        }
        let row: Value = serde_json::from_str(&rows).unwrap();
        row["records"].as_u64()
    }

    /// What a worker leaves behind that is gone.
    fn gone(&mut self, worker: &Worker, done: bool) {
        for word in ["defect of Alluvium", "panicked"] {
            assert!(!worker.said().contains(word), "{word}: {}", worker.last_words());
        }
        if done && matches!(worker.job, Job::Publish(_)) {
            self.sources.queue.pop_front();
        }
    }

    fn meet(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.kill(),
            Fault::Pause => self.pause(),
            Fault::Terminate => self.terminate(),
            Fault::FullDisk => self.fill_disk(),
            Fault::LostIndex | Fault::OldIndex => self.rob(fault == Fault::OldIndex),
            Fault::Maintain => {
                self.kill();
                self.maintain = true;
            }
        }
    }

    fn kill(&mut self) {
        let Some(at) = self.any() else { return };
        let mut worker = self.fleet.remove(at);
        self.tally.memory = self.tally.memory.max(worker.memory());
        self.tally.kills += u64::from(worker.kill());
        self.gone(&worker, false);
    }

    fn any(&mut self) -> Option<usize> {
        let count = self.fleet.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn pause(&mut self) {
        let Some(at) = self.any() else { return };
        self.fleet[at].signal("STOP");
        std::thread::sleep(Duration::from_millis(200 + self.random.below(1_500)));
        self.fleet[at].signal("CONT");
        self.tally.pauses += 1;
    }

    fn terminate(&mut self) {
        let Some(at) = self.any() else { return };
        let mut worker = self.fleet.remove(at);
        worker.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = worker.ended() {
                break status;
            }
            assert!(Instant::now() < deadline, "no end after SIGTERM: {}", worker.last_words());
            std::thread::sleep(TICK);
        };
        // Before it heeds the signal, or where nothing heeds it, it just ends.
        let plain = status.code().is_none() || !matches!(worker.job, Job::Run);
        assert!(plain || status.success(), "{status}: {}", worker.last_words());
        self.tally.terminations += 1;
        self.gone(&worker, status.success() && !matches!(worker.job, Job::Run));
    }

    fn fill_disk(&mut self) {
        let left = [0, 16, 64, 256, 1_024][self.random.below(5) as usize];
        let Some(disk) = self.ground.disk() else { return };
        if !disk.squeeze(left) {
            return;
        }
        let until = Instant::now() + Duration::from_millis(300 + self.random.below(1_200));
        while Instant::now() < until {
            self.fleet.iter_mut().for_each(|worker| worker.excused = true);
            self.fill();
            std::thread::sleep(TICK);
        }
        self.fleet.iter_mut().for_each(|worker| worker.excused = true);
        self.tally.full_disks += 1;
        // Layers that have stopped for want of room stay so until they are started again.
        let mut fleet = std::mem::take(&mut self.fleet);
        for worker in &mut fleet {
            self.tally.kills += u64::from(worker.kill());
        }
        self.ground.make_room();
        fleet.iter().for_each(|worker| self.gone(worker, false));
    }

    /// Takes the key index away, or puts an older one in its place.
    fn rob(&mut self, older: bool) {
        self.kill();
        let (index, kept) = (self.ground.data().join("index"), self.ground.folder().join("index"));
        if !index.exists() {
            return;
        }
        let fresh = self.ground.folder().join("index-now");
        copy(&index, &fresh);
        remove(&index);
        if older && kept.exists() {
            copy(&kept, &index);
        }
        remove(&kept);
        std::fs::rename(&fresh, &kept).unwrap();
        self.tally.indexes += 1;
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
        let since = self.tally.landed(silver);
        // How fast this machine is now shows in what comes through between the kills.
        let slow = since > Duration::from_secs(1);
        self.pace = if slow { self.pace * 5 / 4 } else { self.pace * 9 / 10 }.clamp(200, 6_000);
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

    /// No more faults: everything lands.
    fn drain(&mut self) {
        self.say("no more faults: what is left lands");
        self.ground.make_room();
        while let Some(mut worker) = self.fleet.pop() {
            worker.kill();
            self.gone(&worker, false);
        }
        self.sources.end();
        while let Some(file) = self.next_file() {
            let args = Job::Publish(file.clone()).args();
            self.good(&args.iter().map(String::as_str).collect::<Vec<_>>());
            self.sources.queue.pop_front();
        }
        // A run that was broken off is first gone on with; the second one reads what is new.
        for system in ["feed", "shop", "feed", "shop"] {
            self.good(&["ingest", system, "-o", "ndjson"]);
        }
    }

    fn prove(&mut self) -> Findings {
        self.say("verify --rebuild");
        self.verify(&["verify", "--rebuild", "-q", "-o", "ndjson"]);
        let waits = self.good(&["quarantine", "list", "-o", "ndjson"]);
        assert_eq!(waits, "", "records are in quarantine");
        self.say("upkeep, then the model");
        self.good(&["maintain", "-q", "-o", "ndjson"]);
        self.verify(&["verify", "-q", "-o", "ndjson"]);
        check::look(&self.ground, &mut self.sources)
    }

    fn verify(&self, args: &[&str]) {
        let (code, rows, said) = self.ground.run(args, 2 * PATIENCE);
        let wrong: Vec<&str> =
            rows.lines().filter(|line| !line.contains("\"holds\":true")).collect();
        assert!(code == 0 && wrong.is_empty(), "{args:?}: {code}\n{}\n{said}", wrong.join("\n"));
    }

    /// Runs to the end, which must be good.
    fn good(&self, args: &[&str]) -> String {
        let (code, rows, said) = self.ground.run(args, PATIENCE);
        assert_eq!(code, 0, "{args:?}: {rows}\n{said}");
        rows
    }

    fn say(&self, what: &str) {
        if !self.options.quiet {
            eprintln!("{:>5} s  {what}", self.tally.elapsed().as_secs());
        }
    }
}

fn remove(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

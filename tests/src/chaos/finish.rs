//! The end of a run: what is left lands, and all of it is proved.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::check;
use super::drive::{ANSWERS, Chaos, PATIENCE, TICK};
use super::findings::Findings;
use super::fleet::Job;
use super::ground::Ended;
use super::landed::Landed;
use super::shapes::{SHAPES, Shape, Way};

/// So long all that is left may take to land, in seconds.
const DRAIN: u64 = 600;
/// So often it is looked whether those who stay have landed what there is.
const LOOK: Duration = Duration::from_millis(250);

/// So many records of an entity are to land.
struct Goal {
    shape: &'static Shape,
    records: u64,
}

impl fmt::Debug for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records of {}", self.records, self.shape.id())
    }
}

impl Chaos {
    /// No more faults: everything lands.
    pub(super) fn drain(&mut self) {
        let until = Instant::now() + Duration::from_secs(DRAIN);
        if self.options.bus.is_shared() {
            self.say("no more faults: those who stay land what there is");
            self.settle(until);
        }
        self.say("what is left lands");
        while let Some(mut worker) = self.fleet.pop() {
            worker.kill();
            self.gone(&worker, false);
        }
        self.sources.end();
        while !self.sources.queue.is_empty() {
            let Some(file) = self.next_file() else {
                assert!(Instant::now() < until, "raw does not tell what it has");
                std::thread::sleep(TICK);
                continue;
            };
            let args = Job::Publish(file).args();
            self.persist(&args.iter().map(String::as_str).collect::<Vec<_>>(), until);
            self.sources.queue.pop_front();
        }
        // A run that was broken off is first gone on with; the second one reads what is new.
        for system in ["feed", "shop", "feed", "shop"] {
            self.persist(&["ingest", system, "-o", "ndjson"], until);
        }
    }

    /// Those who stay land all there is, each as it came through the faults: what only another start
    /// would mend shows here.
    fn settle(&mut self, until: Instant) {
        let mut goals: Option<Vec<Goal>> = None;
        loop {
            self.work(LOOK);
            assert!(
                Instant::now() < until,
                "{goals:?} have not landed in {DRAIN} s\n{}",
                self.last_words()
            );
            let Some((landed, _)) = self.look() else { continue };
            let goals = goals.get_or_insert_with(|| self.goals(&landed));
            goals.retain(|goal| !self.is_reached(goal, &landed));
            if goals.is_empty() && self.sources.queue.is_empty() {
                return;
            }
        }
    }

    /// What is to land of each entity: all that was told, and what is read whole once more.
    fn goals(&self, landed: &Landed) -> Vec<Goal> {
        let goal = |shape: &'static Shape| {
            let once_more = || landed.get(&shape.id(), "raw") + 1;
            Goal { shape, records: self.sources.told(shape).unwrap_or_else(once_more) }
        };
        SHAPES.iter().map(goal).collect()
    }

    /// Whether an entity has landed what is to land. Where the bus cannot take back what was broken
    /// off, the ledger counts what was published again with the rest: there raw must have as many
    /// that differ, and the others all that raw has.
    fn is_reached(&self, goal: &Goal, landed: &Landed) -> bool {
        let Goal { shape, records } = *goal;
        let entity = shape.id();
        if self.ground.servers.is_transactional() || shape.way == Way::Whole {
            return landed.has(&entity, records);
        }
        let all = landed.get(&entity, "raw").max(records);
        landed.has(&entity, all) && self.different(shape).unwrap_or_default() >= records
    }

    /// So many records raw has of what was told of an entity, each counted once however often it was
    /// published; none if it does not answer now.
    fn different(&self, shape: &Shape) -> Option<u64> {
        let sql = format!("SELECT record FROM raw.{}", shape.id());
        let answer = self.ground.run(&["query", &sql, "-q", "-o", "ndjson"], ANSWERS);
        let number = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            let record: Value = serde_json::from_str(row["record"].as_str().unwrap()).unwrap();
            shape.number(&record)
        };
        let told = || answer.rows.lines().filter_map(number).collect::<BTreeSet<_>>().len() as u64;
        (answer.code == 0).then(told)
    }

    pub(super) fn prove(&mut self) {
        self.say("verify --rebuild");
        self.verify(&["verify", "--rebuild", "-q", "-o", "ndjson"]);
        let waits = self.good(&["quarantine", "list", "-o", "ndjson"]);
        assert_eq!(waits, "", "records are in quarantine");
        self.say("upkeep, then the model");
        self.good(&["maintain", "-q", "-o", "ndjson"]);
        self.verify(&["verify", "-q", "-o", "ndjson"]);
        // A bus that cannot take back what was broken off may have a page again for each time.
        let takes_back = self.ground.servers.is_transactional();
        let broken_off = (!takes_back).then_some(self.tally.interruptions());
        let found = self.found.insert(Findings::with(broken_off));
        check::look(found, &self.ground, &mut self.sources);
    }

    fn verify(&mut self, args: &[&str]) {
        let Ended { code, rows, said, .. } = self.command(args, 2 * PATIENCE);
        let wrong: Vec<&str> =
            rows.lines().filter(|line| !line.contains("\"holds\":true")).collect();
        assert!(code == 0 && wrong.is_empty(), "{args:?}: {code}\n{}\n{said}", wrong.join("\n"));
    }

    /// Runs to the end, which must be good.
    fn good(&mut self, args: &[&str]) -> String {
        let Ended { code, rows, said, .. } = self.command(args, PATIENCE);
        assert_eq!(code, 0, "{args:?}: {rows}\n{said}");
        rows
    }

    /// Runs to the end, with no more memory than a worker may have.
    fn command(&mut self, args: &[&str], seconds: u64) -> Ended {
        let ended = self.ground.run(args, seconds);
        self.tally.command_memory = self.tally.command_memory.max(ended.memory);
        let limit = self.options.memory;
        assert!(ended.memory / 1024 <= limit, "{args:?} has more than {limit} MiB");
        ended
    }

    /// Runs to an end that is good. Where several have shared the work it is begun again while those
    /// who were killed still have their leases.
    fn persist(&mut self, args: &[&str], until: Instant) {
        let mut last = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_secs();
            assert!(left > 0, "what is left has not landed in {DRAIN} s: {args:?}: {last}");
            let Ended { code, rows, said, .. } = self.command(args, left.min(PATIENCE));
            if code == 0 {
                return;
            }
            last = format!("{code}: {rows}\n{said}");
            assert!(self.options.bus.is_shared(), "{args:?}: {last}");
            std::thread::sleep(TICK);
        }
    }
}

//! The end of a run: what is left lands, and all of it is proved.

use std::time::{Duration, Instant};

use super::check;
use super::drive::{Chaos, PATIENCE, TICK};
use super::findings::Findings;
use super::fleet::Job;

/// So long all that is left may take to land, in seconds.
const DRAIN: u64 = 600;

impl Chaos {
    /// No more faults: everything lands.
    pub(super) fn drain(&mut self) {
        self.say("no more faults: what is left lands");
        while let Some(mut worker) = self.fleet.pop() {
            worker.kill();
            self.gone(&worker, false);
        }
        self.sources.end();
        let until = Instant::now() + Duration::from_secs(DRAIN);
        while let Some(file) = self.next_file() {
            let args = Job::Publish(file).args();
            self.persist(&args.iter().map(String::as_str).collect::<Vec<_>>(), until);
            self.sources.queue.pop_front();
        }
        // A run that was broken off is first gone on with; the second one reads what is new.
        for system in ["feed", "shop", "feed", "shop"] {
            self.persist(&["ingest", system, "-o", "ndjson"], until);
        }
    }

    pub(super) fn prove(&mut self) {
        self.say("verify --rebuild");
        self.verify(&["verify", "--rebuild", "-q", "-o", "ndjson"]);
        let waits = self.good(&["quarantine", "list", "-o", "ndjson"]);
        assert_eq!(waits, "", "records are in quarantine");
        self.say("upkeep, then the model");
        self.good(&["maintain", "-q", "-o", "ndjson"]);
        self.verify(&["verify", "-q", "-o", "ndjson"]);
        let found = self.found.insert(Findings::on(&self.ground));
        check::look(found, &self.ground, &mut self.sources);
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

    /// Runs to an end that is good. Where several have shared the work it is begun again while those
    /// who were killed still have their leases.
    fn persist(&self, args: &[&str], until: Instant) {
        let mut last = String::new();
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_secs();
            assert!(left > 0, "what is left has not landed in {DRAIN} s: {args:?}: {last}");
            let (code, rows, said) = self.ground.run(args, left.min(PATIENCE));
            if code == 0 {
                return;
            }
            last = format!("{code}: {rows}\n{said}");
            assert!(self.options.bus.is_shared(), "{args:?}: {last}");
            std::thread::sleep(TICK);
        }
    }
}

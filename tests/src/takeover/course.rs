//! A run from its beginning to its end: what is done to the workers, one thing after the other, and
//! how soon the next batch of changes is landed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::options::Options;
use super::report::Report;
use super::rows::{ENTITY, Rows};
use super::site::Site;
use crate::workers::{PATIENCE, await_return, told};
use crate::{timed, until};

/// What the table has.
const COUNTS: &str = "SELECT count(*) AS versions, count(DISTINCT id) AS ids, \
     sum(CASE WHEN _is_current THEN 1 ELSE 0 END) AS open FROM silver.bench.items";

/// Measures how soon a table is another worker's.
pub fn run(options: &Options) -> Report {
    let mut course = Course::new(options);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| course.run())) {
        course.report.find(message(&*panic));
    }
    if !course.report.is_good() {
        let folder = course.site.keep();
        course.report.keep(folder);
    }
    course.report
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "it broke off".to_owned())
}

/// The state of a run.
struct Course {
    options: Options,
    site: Site,
    rows: Rows,
    batches: u64,
    report: Report,
    began: Instant,
}

impl Course {
    fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            site: Site::new(options),
            rows: Rows::new(options.rows, options.changes),
            batches: 0,
            report: Report::new(options),
            began: Instant::now(),
        }
    }

    fn run(&mut self) {
        self.site.start("a");
        self.site.start("b");
        self.site.await_all();
        self.say("two workers know of each other");
        self.load();
        self.stand_by();
        self.batch("before", "batch before");
        let killed = self.kill();
        self.batch("after", "batch after");
        self.bring_back(killed);
        self.batch("returned", "batch then");
        self.stop();
        self.join();
        self.prove();
    }

    fn load(&mut self) {
        let file = self.site.file("load.ndjson", |to| self.rows.load(to));
        self.say(&format!("{} rows are loaded", self.options.rows));
        let took = timed(|| self.site.publish(&file));
        self.step("load", "the first load", took);
    }

    /// Who is to have the table next makes or follows its index.
    fn stand_by(&mut self) {
        let took = self.site.await_standby(self.options.lease());
        self.step("standby", "the other worker is ready, from then on", took);
        let owner = self.site.await_owner();
        self.report.weigh(self.site.weights(owner));
    }

    /// Who has silver is killed, while the other one is ready. Gives who it was.
    fn kill(&mut self) -> &'static str {
        let owner = self.site.await_owner();
        let file = self.next_batch();
        let worker = self.site.workers.remove(owner);
        self.say(&format!("kill -9 of {}, which has silver", worker.name));
        let took = timed(|| {
            assert!(worker.process.kill(), "{} has ended by itself", worker.name);
            self.site.publish(&file);
        });
        self.takeover("killed", "batch, from the kill -9 of the owner on", took);
        worker.name
    }

    /// Who was killed is started again in its folder.
    fn bring_back(&mut self, killed: &'static str) {
        let took = timed(|| {
            let port = self.site.start(killed);
            await_return(port, ENTITY, self.options.patience());
        });
        self.step("back", "who was killed is ready again, in its folder", took);
    }

    /// Who has silver is asked to stop.
    fn stop(&mut self) {
        let owner = self.site.await_owner();
        let file = self.next_batch();
        let mut worker = self.site.workers.remove(owner);
        self.say(&format!("SIGTERM to {}, which has silver", worker.name));
        let took = timed(|| {
            worker.process.signal("TERM");
            self.site.publish(&file);
        });
        self.takeover("stopped", "batch, from the SIGTERM to the owner on", took);
        let status = until("the end of who was stopped", PATIENCE, || worker.process.ended());
        assert!(status.success(), "{status}: {}", worker.process.stderr());
    }

    /// Another one comes, with an empty folder. Of two workers one has the table and the other one
    /// follows it, so that there is something to do for it.
    fn join(&mut self) {
        self.say("a new worker, with an empty folder");
        let (begun, patience) = (Instant::now(), self.options.patience());
        let port = self.site.start("c");
        let joined = std::thread::spawn(move || {
            await_return(port, ENTITY, patience);
            begun.elapsed()
        });
        until("word of the new worker", PATIENCE, || told(port));
        self.batch("joining_1", "batch while a new worker joins");
        self.batch("joining_2", "the next one");
        let took = joined.join().expect("the new worker is of use");
        self.step("joined", "the new worker is ready, from its start on", took);
    }

    /// Nothing is lost, and nothing is there twice.
    fn prove(&mut self) {
        self.site.assert_at_work();
        self.say("the table's rows are counted");
        let (rows, versions) = (self.options.rows, self.rows.versions());
        let wanted = json!({"versions": versions, "ids": rows, "open": rows});
        let found = self.site.row(COUNTS);
        self.report.count(found, &wanted);
    }

    fn batch(&mut self, name: &'static str, what: &'static str) {
        let file = self.next_batch();
        let took = timed(|| self.site.publish(&file));
        self.step(name, what, took);
    }

    fn next_batch(&mut self) -> PathBuf {
        self.batches += 1;
        let name = format!("batch-{}.ndjson", self.batches);
        self.site.file(&name, |to| self.rows.batch(to))
    }

    fn step(&mut self, name: &'static str, what: &'static str, took: Duration) {
        self.say(&format!("{what}: {took:.1?}"));
        self.report.step(name, what, took);
    }

    fn takeover(&mut self, name: &'static str, what: &'static str, took: Duration) {
        self.say(&format!("{what}: {took:.1?}"));
        self.report.takeover(name, what, took);
    }

    fn say(&self, what: &str) {
        if !self.options.quiet {
            eprintln!("{:>5} s  {what}", self.began.elapsed().as_secs());
        }
    }
}

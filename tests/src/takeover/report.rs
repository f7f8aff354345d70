//! What was measured, as a table and as JSON.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::options::Options;

/// How long something took.
#[derive(Debug)]
struct Step {
    name: &'static str,
    what: &'static str,
    took: Duration,
}

/// What a worker takes, in bytes.
#[derive(Debug)]
pub(crate) struct Weight {
    pub worker: &'static str,
    /// Whether it has silver; else it stands by.
    pub has_silver: bool,
    /// Its key index, on the disk.
    pub index: u64,
    /// Resident.
    pub memory: u64,
}

/// What was measured, and what must not be.
#[derive(Debug)]
pub struct Report {
    options: Options,
    steps: Vec<Step>,
    weights: Vec<Weight>,
    /// What silver has at the end; null where that was not asked any more.
    silver: Value,
    findings: Vec<String>,
    kept: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            steps: Vec::new(),
            weights: Vec::new(),
            silver: Value::Null,
            findings: Vec::new(),
            kept: None,
        }
    }

    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    /// Takes down how long something took, under this name in JSON.
    pub(crate) fn step(&mut self, name: &'static str, what: &'static str, took: Duration) {
        self.steps.push(Step { name, what, took });
    }

    /// The same for a takeover, which may take so long and no longer.
    pub(crate) fn takeover(&mut self, name: &'static str, what: &'static str, took: Duration) {
        self.step(name, what, took);
        let most = self.options.most();
        if took > most {
            self.find(format!("{what}: {took:.1?}, and {most:?} at most was to be"));
        }
    }

    /// Takes down what the workers take.
    pub(crate) fn weigh(&mut self, weights: Vec<Weight>) {
        self.weights = weights;
    }

    /// Takes down what silver has, which must be this.
    pub(crate) fn count(&mut self, silver: Value, wanted: &Value) {
        if silver != *wanted {
            self.find(format!("silver has {silver}, and {wanted} was to be"));
        }
        self.silver = silver;
    }

    /// Takes down what must not be.
    pub(crate) fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }

    /// The project's folder was kept.
    pub(crate) fn keep(&mut self, folder: PathBuf) {
        self.kept = Some(folder);
    }

    /// All of it as one document.
    pub fn json(&self) -> Value {
        let seconds = |step: &Step| (step.name.to_owned(), json!(thousandths(step.took)));
        let seconds: Map<String, Value> = self.steps.iter().map(seconds).collect();
        let weigh = |of: &Weight| {
            json!({
                "worker": of.worker, "has_silver": of.has_silver, "index_bytes": of.index,
                "resident_bytes": of.memory
            })
        };
        let workers: Vec<Value> = self.weights.iter().map(weigh).collect();
        let Options { rows, changes, lease, limit, .. } = self.options;
        json!({
            "rows": rows, "changes": changes, "lease": lease, "limit": limit, "seconds": seconds,
            "workers": workers, "silver": self.silver, "findings": self.findings,
            "good": self.is_good(), "kept": self.kept
        })
    }
}

/// Seconds, to a thousandth.
fn thousandths(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { rows, changes, lease, .. } = self.options;
        writeln!(f, "{rows} rows, batches of {changes} changes, a lease of {lease} s\n")?;
        let width = self.steps.iter().map(|step| step.what.len()).max().unwrap_or_default();
        for Step { what, took, .. } in &self.steps {
            writeln!(f, "{what:<width$}  {:>8.1} s", took.as_secs_f64())?;
        }
        if !self.weights.is_empty() {
            writeln!(f, "\nworker             key index    resident")?;
        }
        for Weight { worker, has_silver, index, memory } in &self.weights {
            let role = if *has_silver { "has silver" } else { "stands by" };
            let (index, memory) = (index / 1_000_000, memory / 1_000_000);
            writeln!(f, "{worker}, {role:<12} {index:>9} MB {memory:>8} MB")?;
        }
        if !self.silver.is_null() {
            writeln!(f, "\nsilver has {}", self.silver)?;
        }
        for finding in &self.findings {
            writeln!(f, "WRONG: {finding}")?;
        }
        if let Some(folder) = &self.kept {
            writeln!(f, "what is left stands in {}", folder.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(&Options { lease: 5, limit: 20, ..Options::default() })
    }

    #[test]
    fn a_takeover_that_takes_longer_than_the_lease_and_the_limit_is_not_good() {
        let mut report = report();
        report.takeover("killed", "batch of the heir", Duration::from_secs(25));
        report.step("load", "the load", Duration::from_secs(900));
        assert!(report.is_good(), "{report}");
        report.takeover("stopped", "batch of the next", Duration::from_millis(25_001));
        assert!(!report.is_good(), "{report}");
        let json = report.json();
        assert_eq!(json["good"], false);
        assert_eq!(json["seconds"]["killed"], 25.0);
        assert!(report.to_string().contains("WRONG: batch of the next: 25.0s"), "{report}");
    }

    #[test]
    fn a_table_that_has_something_else_is_not_good() {
        let wanted = json!({"versions": 7, "ids": 5, "open": 5});
        let mut right = report();
        right.count(wanted.clone(), &wanted);
        assert!(right.is_good(), "{right}");
        let mut wrong = report();
        wrong.count(json!({"versions": 8, "ids": 5, "open": 5}), &wanted);
        assert!(!wrong.is_good(), "{wrong}");
    }

    #[test]
    fn the_table_has_a_line_for_each_step_and_each_worker() {
        let mut report = report();
        report.step("load", "the first load", Duration::from_millis(98_890));
        let (index, memory) = (2_300_000_000, 130_000_000);
        report.weigh(vec![Weight { worker: "a", has_silver: true, index, memory }]);
        let text = report.to_string();
        assert!(text.contains("the first load      98.9 s"), "{text}");
        assert!(text.contains("a, has silver        2300 MB      130 MB"), "{text}");
        assert_eq!(report.json()["workers"][0]["index_bytes"], index);
    }
}

//! The cases of `tests/cases`: what silver must hold after given records, in whatever way they come.
//!
//! `ALLUVIUM_SCD2_CASES` names a further file of cases.

mod arrival;
mod bus;
mod case;
mod entity;
mod record;
pub(crate) mod run;
mod values;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use self::arrival::Arrival;
use self::case::Case;
use self::run::{difference, expected, run};
use crate::reference;

/// All cases: ours, and those of the file that the environment names.
fn cases() -> Vec<Case> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases"));
    #[allow(clippy::disallowed_methods, reason = "a test may be given more cases")]
    let further = std::env::var("ALLUVIUM_SCD2_CASES").ok().map(PathBuf::from);
    let files = [folder.join("scd2.jsonl"), folder.join("more.jsonl")].into_iter().chain(further);
    files.flat_map(|file| case::read(&file)).collect()
}

/// Runs all cases in the ways that `ways` makes of each.
fn every_case(ways: impl Fn(&Case) -> Vec<Arrival>) {
    let runtime = Runtime::new().unwrap();
    let cases = cases();
    let mut tally = Tally::default();
    for case in &cases {
        for way in ways(case) {
            let outcome = runtime.block_on(run(case, &way));
            tally.add(case, &way, outcome);
        }
    }
    tally.finish(cases.len());
}

/// What became of the executions.
#[derive(Default)]
struct Tally {
    executions: usize,
    failed: usize,
    report: String,
    names: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &Case, way: &dyn std::fmt::Debug, outcome: Result<(), String>) {
        self.executions += 1;
        let Err(why) = outcome else { return };
        self.failed += 1;
        // The first way in which a case fails says enough.
        if !self.names.contains(&case.name) {
            self.names.push(case.name.clone());
            writeln!(self.report, "{}, as {way:?}:\n  {why}", case.name).unwrap();
        }
    }

    fn finish(self, cases: usize) {
        println!("{cases} cases, {} executions", self.executions);
        let Self { failed, report, names, .. } = self;
        assert!(
            failed == 0,
            "{report}\n{failed} executions of {} cases failed: {names:?}",
            names.len()
        );
    }
}

#[test]
fn the_reference_gives_the_rows_of_every_case() {
    let cases = cases();
    let mut tally = Tally::default();
    for case in &cases {
        let (expected, actual) = (expected(case), reference::rows(&case.rules(), &case.told()));
        let same = expected == actual;
        let outcome = if same { Ok(()) } else { Err(difference(&expected, &actual)) };
        tally.add(case, &"told at once", outcome);
    }
    tally.finish(cases.len());
}

#[test]
fn every_case_holds_record_by_record() {
    every_case(arrival::one_by_one);
}

#[test]
fn every_case_holds_as_one_batch() {
    every_case(arrival::at_once);
}

#[test]
fn every_case_holds_in_its_own_batches() {
    every_case(arrival::in_batches);
}

#[test]
fn every_case_holds_shuffled_and_batched_anew() {
    every_case(arrival::shuffled);
}

#[test]
fn every_case_holds_with_every_record_twice() {
    every_case(arrival::doubled);
}

#[test]
fn every_case_holds_when_the_key_index_is_deleted_between_batches() {
    every_case(arrival::without_index);
}

#[test]
fn every_case_holds_when_the_rows_bring_their_columns_themselves() {
    every_case(arrival::undeclared);
}

#[test]
fn every_case_holds_over_the_bus() {
    let runtime = Runtime::new().unwrap();
    let cases = cases();
    let mut tally = Tally::default();
    for case in &cases {
        tally.add(case, &"over the bus", runtime.block_on(bus::run(case)));
    }
    tally.finish(cases.len());
}

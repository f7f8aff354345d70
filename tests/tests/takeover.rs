//! The short form of `make takeover`.

use std::process::{Command, Output};

use alluvium_testkit::{NatsServer, PostgresServer};
use serde_json::{Value, json};

const ROWS: u64 = 20_000;
const CHANGES: u64 = 2_000;

/// What is timed. All but these are batches.
const STEPS: [&str; 11] = [
    "load",
    "standby",
    "before",
    "killed",
    "after",
    "back",
    "returned",
    "stopped",
    "joining_1",
    "joining_2",
    "joined",
];
const NO_BATCHES: u64 = 4;

fn takeover(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_takeover")).args(args).output().unwrap()
}

/// The bound of a minute is for a machine that has much else to do.
#[test]
fn who_stands_by_goes_on_with_the_table_of_one_that_is_killed_or_stopped_and_nothing_is_lost() {
    if !NatsServer::is_there() || !PostgresServer::is_there() {
        return;
    }
    let (rows, changes) = (ROWS.to_string(), CHANGES.to_string());
    let args = ["--rows", &rows, "--changes", &changes, "--lease", "5", "--limit", "55"];
    let output = takeover(&[&args[..], &["--output", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{said}");
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["good"], &report["findings"]), (&json!(true), &json!([])));
    let seconds = report["seconds"].as_object().unwrap();
    assert_eq!(seconds.len(), STEPS.len(), "{report:#}");
    for step in STEPS {
        assert!(seconds[step].is_f64(), "{step}: {report:#}");
    }
    let versions = ROWS + (STEPS.len() as u64 - NO_BATCHES) * CHANGES;
    assert_eq!(report["silver"], json!({"versions": versions, "ids": ROWS, "open": ROWS}));
    let workers = report["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2, "{report:#}");
    for worker in workers {
        assert!(worker["index_bytes"].as_u64() > Some(0), "{report:#}");
        assert!(worker["resident_bytes"].as_u64() > Some(0), "{report:#}");
    }
    assert_eq!(workers.iter().filter(|worker| worker["has_silver"] == true).count(), 1);
}

#[test]
fn what_cannot_be_asked_for_is_told_with_what_can() {
    for args in [&["--rows"][..], &["--rows", "9"], &["--kills", "9"], &["-o", "table"]] {
        let output = takeover(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(&format!("`{}", args[0])) || said.contains("`--changes`"), "{said}");
        assert!(said.contains("takeover [--rows"), "{said}");
    }
}

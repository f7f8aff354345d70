//! The short form of `make chaos`.

use std::process::Command;

use alluvium_testkit::{NatsServer, PostgresServer};
use alluvium_tests::platform::without_settings;
use serde_json::Value;

/// Makes chaos, which must end well, and gives the report. The faults end after so many seconds.
#[track_caller]
fn chaos(args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    without_settings(&mut command);
    let output = command.args(args).args(["--seed", "2026", "-o", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{said}");
    let report: Value = serde_json::from_str(&told).unwrap();
    for count in ["lost", "repeated", "altered", "wrong"] {
        assert_eq!(report[count], 0, "{count}: {report:#}");
    }
    report
}

/// About forty kills where the machine has time for them.
#[test]
fn workers_that_are_killed_and_robbed_again_and_again_lose_nothing_and_double_nothing() {
    let args = ["--bus", "embedded", "--kills", "40", "--records", "12000", "--seconds", "80"];
    let report = chaos(&[&args[..], &["--least", "3"]].concat());
    assert!(report["records"].as_u64() > Some(10_000), "{report:#}");
}

/// Three workers with a server for the bus and one for the ledger, both of which fail too.
#[test]
fn workers_that_share_a_bus_take_over_from_each_other_and_lose_nothing_and_double_nothing() {
    if !NatsServer::is_there() || !PostgresServer::is_there() {
        return;
    }
    let args = ["--bus", "nats", "--kills", "12", "--records", "2000", "--seconds", "25"];
    let report = chaos(&[&args[..], &["--least", "1"]].concat());
    assert_eq!(report["ledger"], "postgres", "{report:#}");
    assert!(report["records"].as_u64() > Some(10_000), "{report:#}");
}

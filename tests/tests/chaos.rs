//! The short form of `make chaos`.

use std::process::Command;

use alluvium_tests::platform::without_settings;
use serde_json::Value;

/// About forty kills where the machine has time for them: the faults end after so many seconds.
#[test]
fn workers_that_are_killed_and_robbed_again_and_again_lose_nothing_and_double_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    without_settings(&mut command);
    command.args(["--bus", "embedded", "--kills", "40", "--records", "12000", "--seed", "2026"]);
    let output = command.args(["--seconds", "80", "--least", "3", "-o", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{said}");
    let report: Value = serde_json::from_str(&told).unwrap();
    for count in ["lost", "repeated", "altered", "wrong"] {
        assert_eq!(report[count], 0, "{count}: {report:#}");
    }
    assert!(report["records"].as_u64() > Some(10_000), "{report:#}");
}

//! The short form of `make chaos`.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_testkit::{NatsServer, PostgresServer};
use serde_json::Value;

/// What happens to workers on each bus.
const TO_ALL: [&str; 7] =
    ["kills", "at_work", "pauses", "terminations", "maintained", "indexes", "older_indexes"];
/// What happens where several work.
const TO_SEVERAL: [&str; 4] = ["killed_together", "overslept", "bus_outages", "ledger_outages"];

/// So long a round may take at most: all three take five minutes.
const MOST: Duration = Duration::from_secs(100);

/// The rounds go one after the other where they are threads of one process, too.
static TURN: Mutex<()> = Mutex::new(());

/// Makes chaos, which must end well and in time, and gives the report. The faults end after so many
/// seconds, once each of these kinds has come.
#[track_caller]
fn chaos(args: &[&str], kinds: &[&str]) -> Value {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // It takes our own surroundings away from its workers, and itself needs to know of them which
    // binary they are and what may not be missing.
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let output = command.args(args).args(["--seed", "2026", "-o", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{said}");
    let report: Value = serde_json::from_str(&told).unwrap();
    for count in ["lost", "repeated", "altered", "wrong"] {
        assert_eq!(report[count], 0, "{count}: {report:#}");
    }
    let disk: &[&str] = if report["disk"] == true { &["full_disks_met"] } else { &[] };
    for count in [&TO_ALL[..], kinds, disk].concat() {
        assert!(report[count].as_u64() >= Some(1), "{count}: {report:#}");
    }
    let took = Duration::from_secs(report["seconds"].as_u64().unwrap());
    eprintln!("a round on {} took {took:?}, with {} kills", report["bus"], report["kills"]);
    assert!(took <= MOST, "{took:?} of {MOST:?}: {report:#}");
    report
}

/// About forty kills where the machine has time for them.
#[test]
fn workers_that_are_killed_and_robbed_again_and_again_lose_nothing_and_double_nothing() {
    let args = ["--bus", "embedded", "--kills", "40", "--records", "12000", "--seconds", "60"];
    let report = chaos(&[&args[..], &["--least", "3"]].concat(), &[]);
    assert!(report["records"].as_u64() > Some(10_000), "{report:#}");
    assert_eq!(report["published_again"], 0, "{report:#}");
}

/// Three workers with a server for the bus and one for the ledger, both of which fail too.
#[test]
fn workers_that_share_a_bus_take_over_from_each_other_and_lose_nothing_and_double_nothing() {
    if !NatsServer::is_there() || !PostgresServer::is_there() {
        return;
    }
    let args = ["--bus", "nats", "--kills", "12", "--records", "2000", "--seconds", "25"];
    let report = chaos(&[&args[..], &["--least", "1"]].concat(), &TO_SEVERAL);
    assert_eq!(report["ledger"], "postgres", "{report:#}");
    assert!(report["records"].as_u64() > Some(10_000), "{report:#}");
    assert_eq!(report["published_again"], 0, "{report:#}");
}

/// The mock cluster knows no transactions: a page that was broken off may stand there again, which is
/// counted apart (`published_again`, no more pages than were broken off) and proves nothing of Kafka.
/// Everything else must be right.
#[test]
fn workers_on_the_mock_cluster_of_kafka_lose_nothing_and_silver_is_right_whatever_comes_again() {
    if !PostgresServer::is_there() {
        return;
    }
    let args = ["--bus", "kafka", "--kills", "12", "--records", "2000", "--seconds", "20"];
    let report = chaos(&[&args[..], &["--least", "1"]].concat(), &TO_SEVERAL);
    assert!(report["published_again"].is_u64() && report["pages_again"].is_u64(), "{report:#}");
    let (records, told) = (report["records"].as_u64(), report["told"].as_u64());
    assert!(records >= told && told > Some(2_500), "{report:#}");
}

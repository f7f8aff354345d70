//! A process that is killed at any moment loses nothing and counts nothing twice.

use std::path::Path;
use std::process::Command;

use alluvium_tests::platform::{MAP, QUIET};
use alluvium_tests::workload::COLUMNS;
use alluvium_tests::{Moments, TestPlatform, Workload};
use serde_json::json;

/// All that silver holds, but where and when the records came in.
fn silver(platform: &TestPlatform) -> String {
    let sql = format!(
        "SELECT {COLUMNS}, _key_hash, _row_hash, _valid_from, _valid_to, _is_current, _op, _seq, \
         _last_seq, _changed_at FROM silver.shop.customers ORDER BY id, _valid_from"
    );
    platform.run(&["query", &sql, "-o", "ndjson"]).ok().stdout
}

#[track_caller]
fn assert_same_lines(one: &str, other: &str) {
    assert_eq!(one.lines().count(), other.lines().count(), "another number of versions");
    let different = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!(different, None, "the runs differ first here");
}

#[test]
fn publishing_that_is_killed_ten_times_ends_in_the_same_rows() {
    let undisturbed = TestPlatform::shop();
    let mut workload = Workload::new(99);
    let lines = workload.inserts(60_000) + &workload.changes(60_000);
    let file = undisturbed.write("all.ndjson", &lines);
    undisturbed.publish(&file).ok();
    let expected = silver(&undisturbed);
    assert_eq!(expected.lines().count() as u64, workload.version_count());
    undisturbed.assert_sound();

    let platform = TestPlatform::shop();
    let args = ["publish", "shop.customers", file.to_str().unwrap(), "--map", MAP, "--wait", "-q"];
    let mut killed = 0;
    Moments::new(2_026, 0..600).kill_each(
        10,
        || platform.spawn(&args),
        || {
            let before = std::mem::replace(&mut killed, runs(&platform, BROKEN_OFF));
            killed > before
        },
    );
    platform.publish(&file).ok();
    assert_same_lines(&silver(&platform), &expected);
    platform.assert_sound();
    let interrupted =
        platform.number("SELECT count(*) FROM ledger.system_run WHERE status = 'interrupted'");
    assert_eq!(interrupted, killed, "the ledger does not know of the kills");
}

/// Of runs that were begun and not ended. The ledger may not know yet that they were broken off.
pub(crate) const BROKEN_OFF: &str = "ended_at IS NULL OR status = 'interrupted'";

/// How many runs the ledger has of which this holds.
pub(crate) fn runs(platform: &TestPlatform, which: &str) -> u64 {
    if !platform.folder().join("data/ledger.db").exists() {
        return 0;
    }
    let sql = format!("SELECT count(*) FROM ledger.system_run WHERE {which}");
    let found = platform.run(&["query", &sql, "-o", "csv"]);
    // Killed in its first moments, the process has not made the ledger's tables yet.
    let number = found.stdout.lines().nth(1).and_then(|line| line.parse().ok());
    number.unwrap_or_default()
}

/// What waits in quarantine: where it stands, why, and what was received.
fn quarantine(platform: &TestPlatform) -> Vec<(String, String, String)> {
    let listed = platform.rows(&["quarantine", "list"]);
    let show = |row: &serde_json::Value| {
        let shown = platform.rows(&["quarantine", "show", &row["id"].to_string()]);
        let text = |name: &str| shown[0][name].as_str().unwrap().to_owned();
        (text("position"), text("reason"), text("record"))
    };
    let mut rows: Vec<_> = listed.iter().map(show).collect();
    rows.sort();
    rows
}

#[test]
fn quarantine_is_whole_where_the_ledger_was_not_told_of_the_latest_batches() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(4);
    let good = platform.write("good.ndjson", &workload.inserts(50));
    platform.publish(&good).ok();
    let ledger = platform.folder().join("data/ledger.db");
    let kept = platform.folder().join("kept.db");
    std::fs::copy(&ledger, &kept).unwrap();
    let no_key = json!({"op": "insert", "seq": 900, "after": {"name": "nobody"}});
    let lines = format!("{}{{nope\n{}{no_key}\n", workload.inserts(3), workload.inserts(4));
    let bad = platform.write("bad.ndjson", &lines);
    platform.publish(&bad).ok();
    let told = quarantine(&platform);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].2, "{nope");

    // As if the process had ended between the lake's commits and the ledger's rows.
    std::fs::copy(&kept, &ledger).unwrap();
    assert_eq!(quarantine(&platform), []);
    let more = platform.write("more.ndjson", &workload.inserts(2));
    platform.publish(&more).ok();
    assert_eq!(quarantine(&platform), told);
    platform.assert_sound();
}

/// Runs a script in the SQLite database of the project.
fn sqlite(platform: &TestPlatform, script: &str) -> String {
    let path = platform.folder().join("source.db");
    let output = python_sqlite(&path, script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn python_sqlite(path: &Path, script: &str) -> std::process::Output {
    Command::new("python3")
        .arg("-c")
        .arg(crate::sources::SQLITE)
        .arg(path)
        .arg(script)
        .output()
        .unwrap()
}

#[test]
fn an_ingest_that_is_killed_five_times_brings_every_row_of_the_source() {
    let systems = json!({"systems": [
        {"name": "shop", "type": "sqlite", "connection": {"path": "source.db"}}
    ]});
    let entities = json!({"entities": [{
        "system": "shop", "name": "customers", "load": "full",
        "source": {"table": "customers", "page_rows": 2_000}
    }]});
    let platform = TestPlatform::new(QUIET, &systems, &entities);
    sqlite(
        &platform,
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO customers SELECT i, 'name-' || i, hex(i * 7919) FROM n",
    );
    let mut begun = 0;
    Moments::new(5, 100..1_000).kill_each(
        5,
        || platform.spawn(&["ingest", "shop", "-q"]),
        || {
            // What changes between two runs must come as well.
            sqlite(&platform, "UPDATE customers SET name = name || 'x' WHERE id % 1000 = 1");
            // A run ends when all is published; the process goes on until it has landed.
            let before = std::mem::replace(&mut begun, runs(&platform, "TRUE"));
            begun > before
        },
    );
    platform.run(&["ingest", "shop"]).ok();
    platform.run(&["ingest", "shop"]).ok();
    let found = platform.run(&[
        "query",
        "SELECT id, name, note FROM silver.shop.customers WHERE _is_current ORDER BY id",
        "-o",
        "csv",
    ]);
    let found = found.ok().stdout;
    let expected = sqlite(&platform, "SELECT id, name, note FROM customers ORDER BY id");
    assert_same_lines(found.split_once('\n').unwrap().1, &expected);
    assert_eq!(expected.lines().count(), 60_000);
    platform.assert_sound();
}

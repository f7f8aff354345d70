//! Silver proved from raw, and made anew from it, by command.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_testkit::free_port;
use alluvium_tests::http::get;
use alluvium_tests::workload::{COLUMNS, metadata};
use alluvium_tests::{Moments, TestPlatform, Workload, until};
use serde_json::{Value, json};

const REBUILD: [&str; 3] = ["rebuild", "silver", "shop.customers"];

fn published(workload: &mut Workload) -> TestPlatform {
    let platform = TestPlatform::shop();
    for file in workload.files(&platform, 3_000, 3, 1_500) {
        platform.publish(&file).ok();
    }
    platform
}

/// All that `verify --rebuild` checks; the differences with them.
#[track_caller]
fn verified(platform: &TestPlatform, code: i32) -> Vec<Value> {
    platform.run(&["verify", "--rebuild", "shop", "-o", "ndjson"]).ended(code).rows()
}

#[track_caller]
fn assert_proved(platform: &TestPlatform) {
    let checks = verified(platform, 0);
    assert!(checks.iter().all(|check| check["holds"] == true));
    assert!(checks.iter().any(|check| check["check"] == "rows of a rebuild"), "{checks:#?}");
}

/// All that silver holds, but which batch brought it.
fn silver(platform: &TestPlatform) -> String {
    let sql = format!(
        "SELECT {COLUMNS}, _key_hash, _row_hash, _valid_from, _valid_to, _is_current, _op, _seq, \
         _last_seq, _changed_at, _run_id, _position, _ingested_at FROM silver.shop.customers \
         ORDER BY id, _valid_from"
    );
    platform.run(&["query", &sql, "-o", "ndjson"]).ok().stdout
}

/// The Parquet files that silver consists of, the largest last.
fn data_files(platform: &TestPlatform) -> Vec<PathBuf> {
    let folder = platform.table("silver/shop/customers");
    let entries = fs::read_dir(folder.join("_delta_log")).unwrap().map(|e| e.unwrap().path());
    let mut entries: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    entries.sort();
    let mut live = BTreeSet::new();
    for line in entries.iter().flat_map(|entry| lines(entry)) {
        let action: Value = serde_json::from_str(&line).unwrap();
        // Within one entry, a file's new deletion vector comes as `remove` and `add`.
        if let Some(path) = action["remove"]["path"].as_str() {
            live.remove(path);
        }
        if let Some(path) = action["add"]["path"].as_str() {
            live.insert(path.to_owned());
        }
    }
    let mut files: Vec<PathBuf> = live.iter().map(|path| folder.join(path)).collect();
    files.sort_by_key(|file| fs::metadata(file).unwrap().len());
    files
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn is_gone(path: &Path) -> bool {
    !path.exists() || fs::read_dir(path).unwrap().all(|entry| is_gone(&entry.unwrap().path()))
}

/// The folder of a rebuild that has not come to its end. Each has one of its own, made where it
/// begins to replay.
fn left_behind(platform: &TestPlatform) -> Option<PathBuf> {
    let entries = fs::read_dir(platform.folder().join("data/shadow/shop.customers")).ok()?;
    entries.map(|entry| entry.unwrap().path()).next()
}

#[test]
fn a_table_that_lost_a_file_is_found_and_made_anew() {
    let mut workload = Workload::new(31);
    let platform = published(&mut workload);
    assert_proved(&platform);
    let sound = silver(&platform);

    fs::remove_file(data_files(&platform).pop().unwrap()).unwrap();
    let checks = verified(&platform, 1);
    let rows = checks.iter().find(|check| check["check"] == "rows of a rebuild").unwrap();
    assert_eq!(rows["holds"], false);
    let detail = rows["detail"].as_str().unwrap();
    assert!(detail.contains("files cannot be read"), "{detail}");
    let differences = rows["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 20);
    assert!(differences.iter().all(|found| found["kind"] == "only_in_rebuild"), "{rows:#}");
    let shown = platform.run(&["verify", "--rebuild", "--limit", "1"]).ended(1).stdout;
    assert_eq!(shown.matches("only in the rebuild").count(), 2, "in the detail, and one: {shown}");

    let done = platform.run(&[&REBUILD[..], &["-o", "ndjson"]].concat()).ok().rows();
    assert_eq!(done[0]["records"], workload.count());
    assert_eq!(done[0]["versions"], workload.version_count());
    assert_eq!(silver(&platform), sound);
    assert_proved(&platform);
    assert!(is_gone(&platform.table("_shadow")));

    let file = platform.write("more.ndjson", &workload.changes(1_000));
    platform.publish(&file).ok();
    assert_eq!(silver(&platform).lines().count() as u64, workload.version_count());
    assert_proved(&platform);
}

#[test]
fn a_rebuild_that_is_killed_leaves_a_table_that_is_right_and_can_be_done_again() {
    let mut workload = Workload::new(32);
    let platform = TestPlatform::shop();
    let file = platform.write("b.ndjson", &(workload.inserts(30_000) + &workload.changes(30_000)));
    platform.publish(&file).ok();
    let sound = silver(&platform);
    let mut left = None;
    Moments::new(7, 80..1_500).kill_each(
        5,
        || platform.spawn(&REBUILD),
        || {
            let before = std::mem::replace(&mut left, left_behind(&platform));
            assert_eq!(silver(&platform), sound);
            left.is_some() && left != before
        },
    );
    platform.run(&REBUILD).ok();
    assert_eq!(silver(&platform), sound);
    assert_proved(&platform);
    assert!(is_gone(&platform.table("_shadow")));
}

#[test]
fn beside_a_running_process_silver_is_proved_and_not_swapped() {
    let mut workload = Workload::new(33);
    let platform = published(&mut workload);
    let port = free_port();
    platform.write("alluvium.toml", &format!("[http]\nlisten = \"127.0.0.1:{port}\"\n"));
    let running = platform.spawn(&["run"]);
    until("readiness", 30, || get(port, "/readyz").filter(|(status, _)| *status == 200));
    assert_proved(&platform);
    platform.run(&REBUILD).ended(1).told(&["another alluvium process uses this data folder"]);
    running.terminate(30);
    platform.run(&REBUILD).ok();
}

#[test]
fn a_column_that_is_no_longer_stored_goes_with_a_rebuild() {
    let mut workload = Workload::new(34);
    let platform = published(&mut workload);
    let (_, mut entities) = metadata();
    let columns = entities["entities"][0]["columns"].as_array_mut().unwrap();
    let note = columns.iter_mut().find(|column| column["name"] == "note").unwrap();
    note["history"] = json!("ignore");
    platform.write("entities.json", &entities.to_string());
    let checks = verified(&platform, 1);
    let columns = checks.iter().find(|check| check["check"] == "columns of a rebuild").unwrap();
    assert_eq!(columns["detail"], "`note` is not in the metadata");
    platform.run(&REBUILD).ok();
    assert_proved(&platform);
    let row = &platform.query("SELECT * FROM silver.shop.customers LIMIT 1")[0];
    assert!(row.get("note").is_none() && row.get("city").is_some(), "{row}");
}

#[test]
fn what_cannot_be_made_anew_or_approved_is_told() {
    let platform = TestPlatform::shop();
    platform.run(&["rebuild", "silver", "shop.nothing"]).ended(2).told(&["no entity"]);
    platform.run(&REBUILD).ended(2).told(&["raw has nothing of `shop.customers` yet"]);
    let file = platform.write("bad.ndjson", "no JSON\n");
    platform.publish(&file).ok();
    let listed = platform.rows(&["quarantine", "list"]);
    let id = listed[0]["id"].to_string();
    platform.run(&["quarantine", "approve", &id]).ended(2).told(&["only `snapshot_held`"]);
    assert_proved(&platform);
    platform.run(&REBUILD).ok();
    assert_eq!(platform.rows(&["quarantine", "list"]).len(), listed.len());
    assert_proved(&platform);
}

/// A snapshot that would close too much takes a large one; here the ledger is told that one waits.
#[test]
fn an_approval_stands_on_the_topic_and_the_record_waits_no_longer() {
    let platform = TestPlatform::shop();
    let file = platform.write("bad.ndjson", "no JSON\n");
    platform.publish(&file).ok();
    let held = "UPDATE quarantine SET code = 'snapshot_held' WHERE layer = 'silver'";
    let ledger = platform.folder().join("data/ledger.db");
    let mut python = Command::new("python3");
    let told = python.args(["-c", crate::sources::SQLITE]).arg(ledger).arg(held).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let before = platform.rows(&["quarantine", "list", "--all"]).len();
    platform.run(&["quarantine", "approve", "--entity", "shop.customers"]).ok();
    let all = platform.rows(&["quarantine", "list", "--all"]);
    assert_eq!(all.len(), before);
    let of_silver = all.iter().filter(|row| row["layer"] == "silver");
    assert!(of_silver.clone().count() > 0 && of_silver.clone().all(|r| r["status"] == "approved"));
    let sql = "SELECT record FROM raw.shop.customers WHERE record LIKE '%approve%'";
    let record = platform.query(sql)[0]["record"].as_str().unwrap().to_owned();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["kind"], &record["decision"]), (&json!("decision"), &json!("approve")));
    assert_eq!(record["position"]["offset"], 1);
    assert_proved(&platform);
}

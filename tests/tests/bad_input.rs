//! What is wrong in the data goes to quarantine and is told; what is wrong in the configuration is
//! told with its place; and a secret is never told at all.

use std::fs;
use std::path::Path;

use alluvium_testkit::free_port;
use alluvium_tests::http::get;
use alluvium_tests::workload::metadata;
use alluvium_tests::{TestPlatform, Workload, until};
use serde_json::{Value, json};

/// Lines that cannot be applied, each with a word of why.
const BAD: [(&str, &str); 5] = [
    ("this is no JSON", "JSON"),
    (r#"{"op":"update","seq":9001,"after":{"name":"no key"}}"#, "after.id"),
    (r#"{"op":"update","seq":9002,"after":{"id":1,"amount":"much"}}"#, "amount"),
    (r#"{"op":"update","seq":null,"after":{"id":2,"name":"x"}}"#, "`seq`"),
    (r#"{"op":"upend","seq":9003,"after":{"id":3,"name":"x"}}"#, "operation"),
];

/// A shop with ten good rows and, between them, the bad lines.
fn with_bad_lines() -> TestPlatform {
    let platform = TestPlatform::shop();
    let mut lines = Workload::new(1).inserts(10);
    for (at, (line, _)) in BAD.iter().enumerate() {
        let place = lines.match_indices('\n').nth(at * 2).unwrap().0 + 1;
        lines.insert_str(place, &format!("{line}\n"));
    }
    let file = platform.write("bad.ndjson", &lines);
    platform.publish(&file).ok();
    platform
}

/// The number of the first record in quarantine whose reason has this word, and the row.
fn waiting(platform: &TestPlatform, line: &str) -> (String, Value) {
    for row in platform.rows(&["quarantine", "list", "shop.customers"]) {
        let id = row["id"].to_string();
        if platform.rows(&["quarantine", "show", &id])[0]["record"] == line {
            return (id, row);
        }
    }
    panic!("{line} is not in quarantine");
}

#[test]
fn records_that_cannot_be_applied_wait_in_quarantine_and_the_others_go_on() {
    let platform = with_bad_lines();
    assert_eq!(platform.number("SELECT count(*) FROM silver.shop.customers"), 10);
    let listed = platform.rows(&["quarantine", "list"]);
    let of_silver = listed.iter().filter(|row| row["layer"] == "silver").count();
    assert_eq!(of_silver, BAD.len(), "{listed:#?}");
    for (line, word) in BAD {
        let (_, row) = waiting(&platform, line);
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains(word), "{line}: {reason}");
        assert_eq!((&row["entity"], &row["status"]), (&json!("shop.customers"), &json!("open")));
    }
    platform.run(&["quarantine", "show", "4711"]).ended(2).told(&["4711"]);
    platform.assert_sound();
}

#[test]
fn a_discarded_record_waits_no_longer_and_stays_counted() {
    let platform = with_bad_lines();
    let before = platform.rows(&["quarantine", "list"]).len();
    let (id, _) = waiting(&platform, BAD[0].0);
    platform.run(&["quarantine", "discard", &id]).ok();
    let number: i64 = id.parse().unwrap();
    let open = platform.rows(&["quarantine", "list"]);
    assert_eq!(open.len(), before - 1);
    assert!(open.iter().all(|row| row["id"] != number));
    let all = platform.rows(&["quarantine", "list", "--all"]);
    let row = all.iter().find(|row| row["id"] == number).unwrap();
    assert_eq!(row["status"], "discarded");
    platform.run(&["quarantine", "discard", &id]).ended(2).told(&["discarded"]);
    platform.assert_sound();
}

#[test]
fn a_record_that_is_still_bad_when_it_is_replayed_is_in_quarantine_again() {
    let platform = with_bad_lines();
    let before = platform.rows(&["quarantine", "list"]).len();
    let (id, _) = waiting(&platform, BAD[2].0);
    platform.run(&["quarantine", "replay", &id]).ok();
    let (again, _) = waiting(&platform, BAD[2].0);
    assert_ne!(id, again, "the record was replayed and is open under its old number");
    assert_eq!(platform.rows(&["quarantine", "list"]).len(), before);
    assert_eq!(platform.number("SELECT count(*) FROM silver.shop.customers"), 10);
    platform.assert_sound();
}

#[test]
fn a_record_that_can_be_applied_after_a_mend_lands_when_it_is_replayed() {
    let platform = with_bad_lines();
    let (id, _) = waiting(&platform, BAD[2].0);
    let (_, mut entities) = metadata();
    // The amount is looked for elsewhere from now on, and is null where it is not found.
    let columns = entities["entities"][0]["columns"].as_array_mut().unwrap();
    let amount = columns.iter_mut().find(|column| column["name"] == "amount").unwrap();
    amount["path"] = json!("/sum");
    platform.write("entities.json", &entities.to_string());
    platform.run(&["quarantine", "replay", &id]).ok();
    let rows = platform
        .query("SELECT id FROM silver.shop.customers WHERE _is_current AND _valid_from = 9002");
    assert_eq!(rows, [json!({"id": 1})]);
    platform.assert_sound();
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_one() {
    let platform = TestPlatform::shop();
    platform.write(
        "alluvium.toml",
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[layers]\nbatch_recrods = 5\n",
    );
    let finished = platform.run(&["validate"]).ended(2);
    finished.told(&["alluvium.toml:5", "batch_recrods", "batch_records"]);

    let platform = TestPlatform::shop();
    let (_, entities) = metadata();
    let wrong = format!("{entities:#}").replace("\"keys\"", "\"kyes\"");
    let line = wrong.lines().position(|line| line.contains("kyes")).unwrap() + 1;
    platform.write("entities.json", &wrong);
    let finished = platform.run(&["validate"]).ended(2);
    finished.told(&[&format!("entities.json:{line}"), "kyes", "keys"]);
}

#[test]
fn an_unknown_system_type_is_told_with_those_there_are() {
    let platform = TestPlatform::shop();
    let (systems, _) = metadata();
    platform.write("systems.json", &systems.to_string().replace("\"rest\"", "\"soap\""));
    for command in [&["validate"][..], &["ingest", "shop"], &["run"]] {
        platform.run(command).ended(2).told(&["soap", "rest", "sqlite"]);
    }
}

#[test]
fn a_secret_is_never_told() {
    const CANARY: &str = "canary-7f3a9e51c0";
    let (mut systems, entities) = metadata();
    systems["systems"][0]["connection"]["auth"] =
        json!({"type": "bearer", "token": "${env:SHOP_TOKEN}"});
    systems["systems"][0]["connection"]["headers"] = json!({"x-key": "Key ${env:SHOP_TOKEN}"});
    let settings =
        "[http]\nenabled = false\n[log]\nlevel = \"debug\"\n[runtime.retry]\nattempts = 1\n";
    let mut platform = TestPlatform::new(settings, &systems, &entities);
    platform.set_variable("SHOP_TOKEN", CANARY);
    let file = platform.write("rows.ndjson", &Workload::new(1).inserts(5));
    let finished = [
        platform.run(&["validate"]).ok(),
        platform.run(&["ingest", "shop"]).ended(1),
        platform.run(&["ingest", "shop", "-o", "json"]).ended(1),
        platform.publish(&file).ok(),
        platform.run(&["query", "SELECT * FROM ledger.metadata"]).ok(),
        platform.run(&["query", "SELECT * FROM ledger.system_run"]).ok(),
        platform.run(&["query", "SELECT * FROM ledger.entity_layer_run"]).ok(),
        platform.run(&["query", "SELECT * FROM ledger.outbox"]).ok(),
    ];
    for finished in &finished {
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!said.contains(CANARY), "the secret is told: {finished:?}");
    }
    let mut files = 0;
    assert_absent(&platform.folder().join("data"), CANARY.as_bytes(), &mut files);
    assert!(files > 5, "only {files} files were searched");
    // One that is written in the open is refused, and not shown either.
    systems["systems"][0]["connection"]["auth"]["token"] = json!(CANARY);
    platform.write("systems.json", &format!("{systems:#}"));
    let refused = platform.run(&["validate"]).ended(2);
    assert!(!refused.stderr.contains(CANARY), "{}", refused.stderr);
}

fn assert_absent(folder: &Path, secret: &[u8], files: &mut u32) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_absent(&path, secret, files);
            continue;
        }
        *files += 1;
        let bytes = fs::read(&path).unwrap();
        let told = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!told, "the secret stands in {}", path.display());
    }
}

#[test]
fn a_second_process_on_the_same_data_is_told_so() {
    let platform = TestPlatform::shop();
    let file = platform.write("rows.ndjson", &Workload::new(1).inserts(5));
    platform.publish(&file).ok();
    let port = free_port();
    let listen = format!("http.listen=127.0.0.1:{port}");
    let first = platform.spawn(&["run", "--set", "http.enabled=true", "--set", &listen]);
    until("readiness", 30, || get(port, "/readyz").filter(|(status, _)| *status == 200));
    platform.publish(&file).ended(1).told(&["another alluvium process uses this data folder"]);
    // Reading is possible meanwhile.
    assert_eq!(platform.number("SELECT count(*) FROM silver.shop.customers"), 5);
    assert!(first.terminate(30).success());
    platform.publish(&file).ok();
    platform.assert_sound();
}

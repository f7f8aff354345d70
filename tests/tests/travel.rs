//! The tables as they were: at a version, at a time, and as of a moment of their rows.

use alluvium_tests::workload::COLUMNS;
use alluvium_tests::{TestPlatform, Workload};
use serde_json::Value;

/// What silver showed at one time, and which commit it was then.
struct Seen {
    version: String,
    at_ms: i64,
    rows: Vec<Value>,
}

fn all() -> String {
    format!(
        "SELECT {COLUMNS}, _valid_from, _valid_to FROM silver.shop.customers \
         ORDER BY id, _valid_from"
    )
}

fn see(platform: &TestPlatform) -> Seen {
    let log = platform.table("silver/shop/customers/_delta_log");
    let files = std::fs::read_dir(log).unwrap().map(|file| file.unwrap().path());
    let entries = files.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    let newest = entries.max().unwrap();
    let text = std::fs::read_to_string(&newest).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let number: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let at_ms = first["commitInfo"]["timestamp"].as_i64().unwrap();
    Seen { version: number.to_string(), at_ms, rows: platform.query(&all()) }
}

/// Milliseconds since 1970 as the command line takes them.
fn instant(platform: &TestPlatform, millis: i64) -> String {
    let rows = platform.query(&format!("SELECT to_timestamp_millis({millis}) AS at"));
    rows[0]["at"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_query_said_once_it_says_again_of_that_version_and_that_time() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(5);
    let mut seen = Vec::new();
    for file in workload.files(&platform, 400, 3, 200) {
        platform.publish(&file).ok();
        seen.push(see(&platform));
    }
    for then in &seen {
        let at = instant(&platform, then.at_ms);
        assert_eq!(platform.rows(&["query", &all(), "--version", &then.version]), then.rows);
        assert_eq!(platform.rows(&["query", &all(), "--at", &at]), then.rows, "{at}");
    }
    // Between two commits the earlier one holds.
    let before_last = instant(&platform, seen[3].at_ms - 1);
    assert_eq!(platform.rows(&["query", &all(), "--at", &before_last]), seen[2].rows);
    let both = "SELECT count(*) FROM bronze.shop.customers b, silver.shop.customers s";
    platform.run(&["query", both, "--version", "1"]).ended(2).told(&["use --at TIMESTAMP"]);
    let began = instant(&platform, 0);
    platform.run(&["query", &all(), "--at", &began]).ended(2).told(&["it began with version 0"]);
    let far = platform.run(&["query", &all(), "--version", "99"]).ended(2);
    far.told(&["has no version 99 yet: the newest is"]);
    platform.run(&["query", &all(), "--at", "yesterday"]).ended(2).told(&["--at"]);
}

#[test]
fn as_of_a_moment_each_row_is_as_the_source_had_it_then() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(6);
    for file in workload.files(&platform, 300, 2, 300) {
        platform.publish(&file).ok();
    }
    for moment in [0, 1, 299, 300, 500, 899, 5_000] {
        let found = platform.rows(&["query", &all(), "--as-of", &moment.to_string()]);
        let valid = |row: &Value| {
            let from = row["_valid_from"].as_u64().unwrap();
            from <= moment && row["_valid_to"].as_u64().is_none_or(|to| moment < to)
        };
        let expected: Vec<Value> = workload.expected().into_iter().filter(valid).collect();
        assert_eq!(found, expected, "as of {moment}");
    }
    let wrong = platform.run(&["query", &all(), "--as-of", "2026-01-31"]).ended(2);
    wrong.told(&["`2026-01-31` does not fit silver.shop.customers, whose `_valid_from` is a long"]);
}

#[test]
fn a_history_too_is_as_it_was_known_then() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(8);
    let files = workload.files(&platform, 20, 1, 400);
    let (key, versions) = workload.versions.iter().max_by_key(|(_, all)| all.len()).unwrap();
    let key = key.to_string();
    let history = ["history", "shop.customers", "--key", &key];
    platform.publish(&files[0]).ok();
    let first = see(&platform);
    let known = platform.rows(&history);
    platform.publish(&files[1]).ok();
    let asked = |further: &[&str]| platform.rows(&[&history[..], further].concat());
    assert_eq!(asked(&[]).len(), versions.len());
    assert_eq!(asked(&["--version", &first.version]), known);
    assert_eq!(asked(&["--at", &instant(&platform, first.at_ms)]), known);
    let third = &versions[2];
    let found = asked(&["--as-of", &third.from.to_string()]);
    assert_eq!((found.len(), &found[0]["_valid_from"]), (1, &Value::from(third.from)));
    // What is valid now was not known then: the first version was open.
    let both = asked(&["--as-of", &third.from.to_string(), "--version", &first.version]);
    assert_eq!(both, known);
}

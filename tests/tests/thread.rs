//! A published change lands in raw, bronze and silver, once, and can be asked for.

use alluvium_tests::workload::COLUMNS;
use alluvium_tests::{TestPlatform, Workload};
use serde_json::{Value, json};

const SILVER: &str = "silver.shop.customers";

/// The versions that silver has, in the form of [`Workload::expected`].
pub(crate) fn versions(platform: &TestPlatform) -> Vec<Value> {
    platform.query(&format!(
        "SELECT {COLUMNS}, _valid_from, _valid_to FROM {SILVER} ORDER BY id, _valid_from"
    ))
}

/// The same versions, in the same order.
#[track_caller]
pub(crate) fn assert_same(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len(), "another number of versions");
    let different = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!(different, None, "silver and the model differ first here");
}

#[test]
fn thirty_thousand_changes_make_the_versions_that_a_plain_model_makes() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(42);
    for file in workload.files(&platform, 20_000, 4, 2_500) {
        let published = platform.publish(&file).ok().rows();
        assert_eq!(published[0]["status"], "succeeded");
    }
    assert_eq!(workload.count(), 30_000);
    for layer in ["raw", "bronze"] {
        let count = platform.number(&format!("SELECT count(*) FROM {layer}.shop.customers"));
        assert_eq!(count, 30_000, "{layer}");
    }
    let open = platform.number(&format!("SELECT count(*) FROM {SILVER} WHERE _is_current"));
    assert_eq!(open, workload.open());
    assert_same(&versions(&platform), &workload.expected());
    platform.assert_sound();
}

#[test]
fn what_is_published_again_changes_nothing_in_silver() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(7);
    let files = workload.files(&platform, 25_000, 1, 5_000);
    for file in files.iter().chain(&files) {
        platform.publish(file).ok();
    }
    assert_same(&versions(&platform), &workload.expected());
    let totals =
        platform.query("SELECT records, duplicate FROM ledger.layer_total WHERE layer = 'silver'");
    assert_eq!(totals, [json!({"records": 60_000, "duplicate": 30_000})]);
    let raw = platform.number("SELECT count(*) FROM raw.shop.customers");
    assert_eq!(raw, 60_000, "raw keeps every record as it came");
    platform.assert_sound();
}

#[test]
fn verify_notices_that_raw_or_a_table_has_lost_what_was_counted() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(11);
    for file in workload.files(&platform, 500, 1, 100) {
        platform.publish(&file).ok();
    }
    platform.assert_sound();
    let lake = platform.folder().join("data/lake");
    let epochs = lake.join("raw/shop/customers");
    let epoch = std::fs::read_dir(epochs).unwrap().next().unwrap().unwrap().path();
    let objects = std::fs::read_dir(epoch).unwrap().map(|entry| entry.unwrap().path());
    std::fs::remove_file(objects.max().unwrap()).unwrap();
    std::fs::remove_dir_all(lake.join("silver/shop/customers")).unwrap();
    let found = platform.run(&["verify", "-o", "ndjson"]).ended(1).rows();
    let lost: Vec<&Value> = found.iter().filter(|row| row["holds"] == false).collect();
    let layers: Vec<&Value> = lost.iter().map(|row| &row["layer"]).collect();
    assert_eq!(layers, ["raw", "silver"], "{lost:#?}");
}

#[test]
fn the_history_of_a_row_tells_all_its_versions() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(3);
    let file = platform.write("all.ndjson", &(workload.inserts(20) + &workload.changes(400)));
    platform.publish(&file).ok();
    let (key, expected) = workload.versions.iter().max_by_key(|(_, all)| all.len()).unwrap();
    let found = platform.rows(&["history", "shop.customers", "--key", &key.to_string()]);
    let place = |row: &Value| (row["_valid_from"].as_u64().unwrap(), row["_valid_to"].as_u64());
    assert_eq!(
        found.iter().map(place).collect::<Vec<_>>(),
        expected.iter().map(|version| (version.from, version.to)).collect::<Vec<_>>()
    );
    let raw = platform.query(&format!(
        "SELECT record FROM raw.shop.customers WHERE position = '{}'",
        found[0]["_position"].as_str().unwrap()
    ));
    let record: Value = serde_json::from_str(raw[0]["record"].as_str().unwrap()).unwrap();
    assert_eq!(record["after"], expected[0].row, "a version leads to the record it came from");
}

#[test]
fn a_query_says_the_same_in_every_form_and_nothing_else_on_stdout() {
    let platform = TestPlatform::shop();
    let file = platform.write("few.ndjson", &Workload::new(1).inserts(3));
    platform.publish(&file).ok();
    let sql = "SELECT id, name FROM silver.shop.customers ORDER BY id";
    let said = |form: &str| platform.run(&["query", sql, "-o", form]).ok().stdout;
    let json: Vec<Value> = serde_json::from_str(&said("json")).unwrap();
    assert_eq!(json, platform.query(sql));
    assert_eq!(json.len(), 3);
    let csv = said("csv");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("id,name"));
    for (line, row) in lines.by_ref().zip(&json) {
        assert_eq!(line, format!("{},{}", row["id"], row["name"].as_str().unwrap()));
    }
    assert_eq!(csv.lines().count(), 4);
    let table = said("table");
    for row in &json {
        assert!(table.contains(row["name"].as_str().unwrap()), "{table}");
    }
}

#[test]
fn stdin_is_published_like_a_file() {
    let platform = TestPlatform::shop();
    let lines = Workload::new(1).inserts(50);
    let args = [
        "publish",
        "shop.customers",
        "-",
        "--map",
        alluvium_tests::platform::MAP,
        "--wait",
        "-o",
        "ndjson",
    ];
    let rows = platform.run_with_input(&args, &lines).ok().rows();
    assert_eq!(rows[0]["records"], 50);
    assert_eq!(platform.number("SELECT count(*) FROM silver.shop.customers"), 50);
}

#[test]
fn the_exit_code_tells_done_from_failed_from_wrongly_asked() {
    let platform = TestPlatform::shop();
    platform.run(&["validate"]).ok();
    // Nothing answers at the system's address.
    let settings = "[http]\nenabled = false\n[runtime.retry]\nattempts = 1\n";
    platform.write("alluvium.toml", settings);
    platform.run(&["ingest", "shop"]).ended(1);
    for (args, told) in [
        (&["publish", "shop.nothing", "b.ndjson"][..], ""),
        (&["publish", "shop.customers", "absent.ndjson"], "absent.ndjson"),
        (&["publish", "shop.customers", "--map", "nonsense"], "--map"),
        (&["nonsense"], "nonsense"),
        (&["query"], "SQL"),
        (&["validate", "--set", "http.listn=1"], "listen"),
        (&["verify", "other"], "no such system"),
    ] {
        let finished = platform.run(args).ended(2).told(&[told]);
        assert_eq!(finished.stdout, "", "{args:?}: what went wrong belongs on stderr");
    }
    let unknown = platform.run(&["query", "SELECT * FROM silver.shop.custmers"]);
    assert_ne!(unknown.code, 0);
    unknown.told(&["custmers"]);
}

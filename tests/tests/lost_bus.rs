//! The bus is lost and the lake stays: everything stops until the operator accepts it, and then goes
//! on with nothing twice.

use std::fs;
use std::process::Command;

use alluvium_tests::platform::copy;
use alluvium_tests::{TestPlatform, Workload};
use serde_json::{Value, json};

use crate::sources::SQLITE;

pub(crate) const SETTINGS: &str = "[http]\nenabled = false\n\n[runtime.retry]\nattempts = 1\n";

/// A shop with a table that is read whole, and one of which changes are read.
pub(crate) fn shop() -> TestPlatform {
    let systems = json!({"systems": [
        {"name": "shop", "type": "sqlite", "connection": {"path": "source.db"}}
    ]});
    let entities = json!({"entities": [
        {"system": "shop", "name": "people", "load": "full", "source": {"table": "people"}},
        {
            "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
            "source": {"table": "orders", "cursor_column": "id"}
        }
    ]});
    let platform = TestPlatform::new(SETTINGS, &systems, &entities);
    sqlite(
        &platform,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER);
        INSERT INTO people VALUES (1, 'Ada'), (2, 'Grace');
        INSERT INTO orders VALUES (1, 10), (2, 20)",
    );
    platform
}

pub(crate) fn sqlite(platform: &TestPlatform, script: &str) {
    database(platform, "source.db", script);
}

/// Runs a script in an SQLite database of the project.
pub(crate) fn database(platform: &TestPlatform, name: &str, script: &str) {
    let path = platform.folder().join(name);
    let output =
        Command::new("python3").arg("-c").arg(SQLITE).arg(path).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn lose_the_bus(platform: &TestPlatform) {
    fs::remove_dir_all(platform.folder().join("data/bus")).unwrap();
}

pub(crate) fn rows(platform: &TestPlatform, entity: &str, columns: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT {columns}, _is_current AS open FROM silver.shop.{entity} ORDER BY id, _valid_from"
    );
    platform.query(&sql)
}

/// All checks hold, also those of a rebuild.
#[track_caller]
pub(crate) fn assert_proved(platform: &TestPlatform) {
    let finished = platform.run(&["verify", "--rebuild", "-o", "ndjson"]);
    let wrong: Vec<_> = finished.rows().into_iter().filter(|row| row["holds"] != true).collect();
    assert!(wrong.is_empty() && finished.code == 0, "{wrong:#?}\n{}", finished.stderr);
}

#[test]
fn a_lost_bus_stops_everything_until_it_is_accepted_and_then_nothing_is_there_twice() {
    let platform = shop();
    platform.run(&["ingest", "shop"]).ok();
    lose_the_bus(&platform);
    sqlite(
        &platform,
        "INSERT INTO orders VALUES (3, 30); UPDATE people SET name = 'Ada L.' WHERE id = 1",
    );
    let stopped = platform.run(&["ingest", "shop", "-o", "ndjson"]).ended(1);
    assert!(
        format!("{}{}", stopped.stdout, stopped.stderr).contains("`alluvium epoch accept shop."),
        "{stopped:?}"
    );
    let found = platform.run(&["verify", "-o", "ndjson"]).ended(1).rows();
    let stops: Vec<_> = found.iter().filter(|row| row["check"] == "at work").collect();
    assert!(!stops.is_empty() && stops.iter().all(|row| row["holds"] == false), "{found:#?}");
    let said = stops[0]["detail"].as_str().unwrap();
    assert!(said.contains("alluvium epoch accept shop."), "{said}");

    let accepted = platform.rows(&["epoch", "accept", "shop"]);
    assert_eq!(accepted.len(), 2, "{accepted:#?}");
    for row in &accepted {
        assert_eq!(row["gone"], 0, "raw had everything: {row}");
        assert_eq!(row["source_from"], "cursor", "{row}");
    }
    assert!(platform.rows(&["epoch", "accept", "shop"]).is_empty(), "there is no more to accept");

    let polled = platform.rows(&["ingest", "shop"]);
    let orders = polled.iter().find(|row| row["entity"] == "shop.orders").unwrap();
    assert_eq!(orders["polled"], 2, "from the cursor on, its last row once more: {orders}");
    let expected = [
        json!({"id": 1, "total": 10, "open": true}),
        json!({"id": 2, "total": 20, "open": true}),
        json!({"id": 3, "total": 30, "open": true}),
    ];
    assert_eq!(rows(&platform, "orders", "id, total"), expected);
    let people = [
        json!({"id": 1, "name": "Ada", "open": false}),
        json!({"id": 1, "name": "Ada L.", "open": true}),
        json!({"id": 2, "name": "Grace", "open": true}),
    ];
    assert_eq!(rows(&platform, "people", "id, name"), people);
    assert_proved(&platform);

    platform.run(&["rebuild", "silver", "shop.people"]).ok();
    assert_eq!(rows(&platform, "people", "id, name"), people);
    assert_proved(&platform);

    lose_the_bus(&platform);
    platform.run(&["ingest", "shop"]).ended(1);
    platform.run(&["epoch", "accept", "shop"]).ok();
    sqlite(&platform, "INSERT INTO orders VALUES (4, 40)");
    platform.run(&["ingest", "shop"]).ok();
    assert_eq!(rows(&platform, "orders", "id, total").len(), 4);
    assert_proved(&platform);
}

#[test]
fn a_table_that_is_behind_reads_the_lost_epoch_from_raw_first() {
    let platform = shop();
    platform.run(&["ingest", "shop"]).ok();
    lose_the_bus(&platform);
    // Bronze and silver have to begin anew: with what raw has of the epoch that is over.
    for layer in ["bronze", "silver"] {
        fs::remove_dir_all(platform.table(&format!("{layer}/shop/orders"))).unwrap();
    }
    platform.run(&["epoch", "accept", "shop.orders"]).ok();
    platform.run(&["epoch", "accept", "shop.people"]).ok();
    sqlite(&platform, "INSERT INTO orders VALUES (3, 30)");
    platform.run(&["ingest", "shop"]).ok();
    assert_eq!(rows(&platform, "orders", "id, total").len(), 3);
    let bronze = platform.number("SELECT count(*) FROM bronze.shop.orders");
    assert_eq!(bronze, 4, "each record that came, the last row of before once more");
    assert_proved(&platform);
}

#[test]
fn what_only_the_lost_bus_had_is_told_and_comes_again_from_the_source() {
    let platform = shop();
    platform.run(&["ingest", "shop"]).ok();
    // Raw loses its newest object, as if it had not landed it when the bus died; so do the tables.
    sqlite(&platform, "INSERT INTO orders VALUES (3, 30), (4, 40)");
    let lake = platform.folder().join("data/lake");
    copy(&lake, &platform.folder().join("kept"));
    platform.run(&["ingest", "shop"]).ok();
    fs::remove_dir_all(&lake).unwrap();
    fs::rename(platform.folder().join("kept"), &lake).unwrap();
    lose_the_bus(&platform);

    platform.run(&["ingest", "shop"]).ended(1);
    let accepted = platform.rows(&["epoch", "accept", "shop"]);
    let orders = accepted.iter().find(|row| row["entity"] == "shop.orders").unwrap();
    // Two rows, and the last one before them, which a delta reads once more.
    assert_eq!((&orders["gone"], &orders["source_from"]), (&json!(3), &json!("beginning")));
    platform.run(&["ingest", "shop"]).ok();
    let expected: Vec<Value> =
        (1..=4).map(|id| json!({"id": id, "total": id * 10, "open": true})).collect();
    assert_eq!(rows(&platform, "orders", "id, total"), expected);
    assert_eq!(rows(&platform, "people", "id, name").len(), 2);
    assert_proved(&platform);
}

#[test]
fn a_file_is_published_again_after_its_topic_was_accepted() {
    let platform = TestPlatform::shop();
    let mut workload = Workload::new(17);
    let files = workload.files(&platform, 300, 2, 100);
    platform.publish(&files[0]).ok();
    lose_the_bus(&platform);
    let refused = platform.publish(&files[1]).ended(1);
    assert!(
        format!("{}{}", refused.stdout, refused.stderr)
            .contains("`alluvium epoch accept shop.customers`"),
        "{refused:?}"
    );
    platform.run(&["epoch", "accept", "shop.customers"]).ok();
    for file in &files {
        platform.publish(file).ok();
    }
    let open = platform.number("SELECT count(*) FROM silver.shop.customers WHERE _is_current");
    assert_eq!(open, workload.open());
    assert_proved(&platform);
}

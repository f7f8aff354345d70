//! What the names of each layer read.

use std::sync::Arc;

use alluvium_ledger::{Ledger, NewRun, SqlLedger};
use alluvium_model::{Epoch, SystemClock};
use serde_json::json;

use crate::fixture::{Fixture, Orders, json, land, orders};

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_not_read_and_closed_versions_are() {
    let fixture = Fixture::with_orders().await;
    let rows = fixture
        .rows(
            "SELECT _is_current, count(*) AS n, count(DISTINCT id) AS ids, sum(price) AS price \
             FROM silver.shop.orders GROUP BY 1 ORDER BY 1",
        )
        .await;
    assert_eq!(
        rows,
        [
            json!({"_is_current": false, "n": 10, "ids": 10, "price": "55.10"}),
            json!({"_is_current": true, "n": 100, "ids": 100, "price": "5051.10"}),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_reads_the_newest_version() {
    let fixture = Fixture::new();
    let mut orders = Orders::create(&fixture.lake, "silver").await;
    let query = fixture.query();
    let count = "SELECT count(*) AS n FROM shop.orders WHERE NOT _is_current";
    assert_eq!(json(&query, count).await.unwrap(), [json!({"n": 0})]);
    orders.update(1..=10, 2).await;
    assert_eq!(json(&query, count).await.unwrap(), [json!({"n": 10})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_can_be_joined() {
    let fixture = Fixture::with_orders().await;
    Orders::create(&fixture.lake, "bronze").await;
    land(&fixture.lake, &[b"{\"id\":1}\n", b"{\"id\":2}\n"]).await;
    let rows = fixture
        .rows(
            "SELECT s.id, b.id AS of_bronze, r.record FROM silver.shop.orders s \
             JOIN bronze.shop.orders b ON b.id = s.id \
             JOIN raw.shop.orders r ON r.position = s._position WHERE s._is_current ORDER BY 1",
        )
        .await;
    assert_eq!(
        rows,
        [
            json!({"id": 1, "of_bronze": 1, "record": "{\"id\":1}"}),
            json!({"id": 2, "of_bronze": 2, "record": "{\"id\":2}"}),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_shows_each_record_as_received() {
    let fixture = Fixture::new();
    land(&fixture.lake, &[b"{\"id\":1}\n{\"id\":2}\n", b"not \xff json"]).await;
    let rows = fixture.rows("SELECT * FROM raw.shop.orders").await;
    assert_eq!(
        rows[1],
        json!({
            "position": "1/1/1",
            "published_at": "1970-01-01T00:00:01Z",
            "headers": "{\"content-type\":\"application/x-ndjson\"}",
            "record": "{\"id\":2}",
        })
    );
    assert_eq!(rows[2]["record"], "not \u{fffd} json");
    assert_eq!(rows.len(), 3);
    assert_eq!(fixture.rows("SELECT count(*) AS n FROM raw.shop.orders").await, [json!({"n": 3})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_record_is_found_by_its_position_without_reading_the_others() {
    let fixture = Fixture::new();
    land(&fixture.lake, &[b"{\"id\":1}\n", b"{\"id\":2}\n{\"id\":3}\n", b"{\"id\":4}\n"]).await;
    for after in [0, 2] {
        let other = alluvium_lake::path::raw_object(&orders(), Epoch(1), after);
        fixture.lake.put(&other, "damaged".into()).await.unwrap();
    }
    let found = fixture.rows("SELECT record FROM raw.shop.orders WHERE position = '1/2/1'").await;
    assert_eq!(found, [json!({"record": "{\"id\":3}"})]);
    let damaged = fixture.error("SELECT record FROM raw.shop.orders").await;
    assert!(damaged.to_string().starts_with("the lake is damaged"), "{damaged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_tables_are_read_as_they_stand() {
    let fixture = Fixture::new();
    let ledger = SqlLedger::open(&fixture.ledger(), Arc::new(SystemClock)).await.unwrap();
    let query = fixture.query();
    for (trigger, runs) in [("manual", 1), ("cron", 2)] {
        let started_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let (system, trigger) = ("shop".parse().unwrap(), trigger.to_owned());
        ledger
            .open_run(NewRun { system, trigger, started_at, traceparent: None, worker: None })
            .await
            .unwrap();
        for table in ["ledger.system_run", "ledger.main.system_run"] {
            let count = json(&query, &format!("SELECT count(*) AS n FROM {table}")).await.unwrap();
            assert_eq!(count, [json!({"n": runs})]);
        }
    }
    let rows = json(
        &query,
        "SELECT \"trigger\", status, ended_at, polled FROM ledger.system_run ORDER BY 1",
    );
    assert_eq!(
        rows.await.unwrap()[0],
        json!({"trigger": "cron", "status": "running", "ended_at": null, "polled": 0})
    );
    let metadata = json(&query, "SELECT kind, name FROM ledger.metadata").await.unwrap();
    assert!(metadata.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_not_there_has_no_tables_and_is_not_made() {
    let fixture = Fixture::new();
    let error = fixture.error("SELECT * FROM ledger.batch").await.to_string();
    assert!(error.starts_with("there is no table `ledger.batch`"), "{error}");
    assert!(!fixture.ledger().exists());
}

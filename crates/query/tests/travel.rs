//! The tables as seen from another moment, in either time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_lake::{Lake, Table, TableSpec, path};
use alluvium_model::clock::ManualClock;
use alluvium_query::{Moment, Query, QueryError, TableTime, output::Format};
use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::path::Path;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Orders, commit, json, land, orders, text};

/// How many rows there are, how many of them open, and the sum of their prices.
const SUMMARY: &str = "SELECT count(*) AS n, count(*) FILTER (WHERE _is_current) AS open, \
                       sum(price) AS price FROM shop.orders";
const HOUR: Duration = Duration::from_hours(1);

/// Orders at noon; the first ten updated on day 2, at one o'clock; the next ten on day 3, at two.
async fn three_hours() -> (Fixture, Orders) {
    let clock = Arc::new(ManualClock::at("2026-01-01T12:00:00Z".parse().unwrap()));
    let fixture = Fixture::with_clock(clock.clone());
    let mut orders = Orders::create(&fixture.lake, "silver").await;
    clock.advance(HOUR);
    orders.update(1..=10, 2).await;
    clock.advance(HOUR);
    orders.update(11..=20, 3).await;
    (fixture, orders)
}

fn as_of(text: &str) -> Moment {
    Moment { as_of: Some(text.to_owned()), table: None }
}

fn version(number: u64) -> Moment {
    Moment { as_of: None, table: Some(TableTime::Version(number)) }
}

fn at(text: &str) -> Moment {
    Moment { as_of: None, table: Some(TableTime::At(text.parse().unwrap())) }
}

async fn rows(query: &Query, moment: Moment, sql: &str) -> Vec<Value> {
    json(&query.at(moment), sql).await.unwrap()
}

async fn refused(query: &Query, moment: Moment, sql: &str) -> String {
    match json(&query.at(moment), sql).await {
        Err(QueryError::Moment(why)) => why,
        other => panic!("{sql}: {other:?}"),
    }
}

fn summary(n: u64, open: u64, price: &str) -> [Value; 1] {
    [json!({"n": n, "open": open, "price": price})]
}

#[tokio::test(flavor = "multi_thread")]
async fn as_of_a_moment_each_key_has_the_version_that_was_valid_then() {
    let (fixture, _) = three_hours().await;
    let query = fixture.query();
    // A version holds from its first moment to the last before its end.
    for (moment, closed, price) in [
        ("1970-01-02", 20, "5051.00"),
        ("1970-01-02T23:59:59.999999Z", 20, "5051.00"),
        ("1970-01-03T00:00:00", 10, "5051.10"),
        ("1970-01-04T02:00:00+02:00", 0, "5051.30"),
        ("2026-01-01", 0, "5051.30"),
    ] {
        let found = rows(&query, as_of(moment), SUMMARY).await;
        assert_eq!(found, summary(100, 100 - closed, price), "{moment}");
    }
    let before = rows(&query, as_of("1970-01-01T23:59:59.999999Z"), SUMMARY).await;
    assert_eq!(before, [json!({"n": 0, "open": 0, "price": null})]);
    assert_eq!(json(&query, SUMMARY).await.unwrap(), summary(120, 100, "5261.50"), "as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_in_which_a_statement_names_the_table_is_as_of_the_moment() {
    let (fixture, _) = three_hours().await;
    let query = fixture.query();
    for sql in [
        "SELECT count(*) AS n FROM silver.shop.orders a JOIN shop.orders b ON a.id = b.id",
        "WITH o AS (SELECT * FROM shop.orders) SELECT count(*) AS n FROM o WHERE id IN \
         (SELECT id FROM silver.shop.orders)",
    ] {
        assert_eq!(rows(&query, as_of("1970-01-03"), sql).await, [json!({"n": 100})], "{sql}");
    }
    let sql = "DESCRIBE shop.orders";
    assert_eq!(rows(&query, as_of("1970-01-03"), sql).await, json(&query, sql).await.unwrap());
    let error = json(&query.at(as_of("1970-01-03")), "SELECT pricee FROM shop.orders").await;
    assert!(matches!(error, Err(QueryError::NoColumn { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_which_nothing_was_valid_are_not_read() {
    let (fixture, orders) = three_hours().await;
    let mut files = orders.table.files();
    let opened = files.find(|file| file.current == Some(true) && file.stats.contains("1970-01-04"));
    let file = format!("{}/{}", orders.table.path(), opened.unwrap().path);
    fixture.lake.put(&Path::parse(file).unwrap(), "damaged".into()).await.unwrap();
    let query = fixture.query();
    for moment in [as_of("1970-01-04"), Moment::default()] {
        let error = json(&query.at(moment), SUMMARY).await.unwrap_err();
        assert!(matches!(error, QueryError::Unavailable(_)), "{error:?}");
    }
    let sql = "SELECT count(*) AS n FROM shop.orders WHERE id < 11";
    assert_eq!(rows(&query, as_of("1970-01-03"), sql).await, [json!({"n": 10})]);
    assert_eq!(rows(&query, as_of("1970-01-03"), SUMMARY).await, summary(100, 90, "5051.10"));
}

/// A table whose one key has a version from 10 to 20 and one from 20, at the scale of the type.
async fn numbered(lake: &Lake, entity: &str, kind: DataType) {
    let values = |values: Vec<Option<i64>>| -> ArrayRef {
        match kind {
            DataType::Decimal128(precision, scale) => {
                let unit = 10i128.pow(u32::from(scale.unsigned_abs()));
                let digits = values.into_iter().map(|v| v.map(|v| i128::from(v) * unit));
                let digits = digits.collect::<Decimal128Array>();
                Arc::new(digits.with_precision_and_scale(precision, scale).unwrap())
            }
            _ => Arc::new(Int64Array::from(values)),
        }
    };
    let schema = Schema::new(vec![
        Field::new("_valid_from", kind.clone(), false),
        Field::new("_valid_to", kind.clone(), true),
        Field::new("_is_current", DataType::Boolean, false),
    ]);
    let spec = TableSpec {
        path: path::silver(&entity.parse().unwrap()),
        description: String::new(),
        schema: Arc::new(schema.clone()),
        partition_by: Some("_is_current"),
        deletion_vectors: true,
        stats: ["_valid_from", "_valid_to"].map(str::to_owned).to_vec(),
    };
    let mut table = Table::open_or_create(lake, spec).await.unwrap();
    let stored = Arc::new(schema.project(&[0, 1]).unwrap());
    let mut staged = Vec::new();
    for (from, to) in [(10, Some(20)), (20, None)] {
        let columns = vec![values(vec![Some(from)]), values(vec![to])];
        let batch = RecordBatch::try_new(Arc::clone(&stored), columns).unwrap();
        staged.push(table.stage_file(&batch, Some(to.is_none())).await.unwrap());
    }
    commit(&mut table, staged, BTreeMap::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_is_read_in_each_entitys_own_type_or_the_type_is_named() {
    let (fixture, _) = three_hours().await;
    numbered(&fixture.lake, "shop.counted", DataType::Int64).await;
    numbered(&fixture.lake, "shop.logged", DataType::Decimal128(38, 9)).await;
    let query = fixture.query();
    for (table, moment, open) in [
        ("counted", "9", None),
        ("counted", "19", Some(false)),
        ("counted", "20", Some(true)),
        ("logged", "9.999999999", None),
        ("logged", "19.999999999", Some(false)),
        ("logged", "20", Some(true)),
    ] {
        let sql = format!("SELECT _is_current AS open FROM shop.{table}");
        let expected: Vec<Value> = open.iter().map(|open| json!({"open": open})).collect();
        assert_eq!(rows(&query, as_of(moment), &sql).await, expected, "{table} {moment}");
    }
    for (from, moment, table, kind) in [
        ("shop.orders", "19", "shop.orders", "a timestamp: 2026-01-31T12:00:00Z"),
        ("shop.counted", "19.5", "shop.counted", "a long"),
        ("shop.logged", "2026-01-31", "shop.logged", "a decimal with 9 digits after the point"),
        ("shop.counted, shop.orders", "19", "shop.orders", "a timestamp: 2026-01-31T12:00:00Z"),
    ] {
        let why = refused(&query, as_of(moment), &format!("SELECT 1 FROM {from}")).await;
        let expected =
            format!("`{moment}` does not fit silver.{table}, whose `_valid_from` is {kind}");
        assert_eq!(why, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_the_table_as_that_commit_left_it_deleted_rows_included() {
    let (fixture, _) = three_hours().await;
    let query = fixture.query();
    let empty = [json!({"n": 0, "open": 0, "price": null})];
    assert_eq!(rows(&query, version(0), SUMMARY).await, empty);
    assert_eq!(rows(&query, version(1), SUMMARY).await, summary(100, 100, "5051.00"));
    assert_eq!(rows(&query, version(2), SUMMARY).await, summary(110, 100, "5106.20"));
    assert_eq!(rows(&query, version(3), SUMMARY).await, json(&query, SUMMARY).await.unwrap());
    assert_eq!(
        refused(&query, version(4), SUMMARY).await,
        "silver.shop.orders has no version 4 yet: the newest is 3, committed at \
         2026-01-01T14:00:00Z"
    );
    refused(&query, version(u64::MAX), SUMMARY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_time_each_table_has_the_newest_version_that_was_committed_by_then() {
    let (fixture, _) = three_hours().await;
    let mut bronze = Orders::create(&fixture.lake, "bronze").await;
    bronze.update(1..=10, 2).await;
    let query = fixture.query();
    assert_eq!(rows(&query, at("2026-01-01T12:00:00Z"), SUMMARY).await[0]["n"], 100);
    assert_eq!(rows(&query, at("2026-01-01T12:59:59.999Z"), SUMMARY).await[0]["n"], 100);
    assert_eq!(rows(&query, at("2026-01-01T13:00:00Z"), SUMMARY).await[0]["n"], 110);
    assert_eq!(rows(&query, at("2126-01-01T00:00:00Z"), SUMMARY).await[0]["n"], 120);
    let both = "SELECT (SELECT count(*) FROM shop.orders) AS silver, \
                (SELECT count(*) FROM bronze.shop.orders) AS bronze";
    let found = rows(&query, at("2026-01-01T14:00:00Z"), both).await;
    assert_eq!(found, [json!({"silver": 120, "bronze": 110})]);
    assert_eq!(
        refused(&query, at("2026-01-01T11:59:59.999Z"), SUMMARY).await,
        "silver.shop.orders was not there at 2026-01-01T11:59:59.999Z: it began with version 0, \
         committed at 2026-01-01T12:00:00Z"
    );
    // Bronze came two hours after silver.
    let why = refused(&query, at("2026-01-01T13:00:00Z"), both).await;
    assert!(why.starts_with("bronze.shop.orders was not there"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_times_together_show_what_was_then_believed_of_a_moment() {
    let (fixture, _) = three_hours().await;
    let query = fixture.query();
    let day_3 = Some("1970-01-04".to_owned());
    for (table, price) in [
        (TableTime::Version(1), "5051.00"),
        (TableTime::Version(2), "5051.10"),
        (TableTime::At("2026-01-01T13:30:00Z".parse().unwrap()), "5051.10"),
        (TableTime::At("2026-01-01T14:00:00Z".parse().unwrap()), "5051.30"),
    ] {
        let moment = Moment { as_of: day_3.clone(), table: Some(table) };
        assert_eq!(rows(&query, moment, SUMMARY).await, summary(100, 100, price), "{table:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_whose_log_was_cleaned_away_are_refused_with_the_oldest_that_is_left() {
    let (fixture, mut orders) = three_hours().await;
    let library = deltalake::open_table(orders.table.url()).await.unwrap();
    deltalake::checkpoints::create_checkpoint(&library, None).await.unwrap();
    orders.update(21..=30, 4).await;
    // A checkpoint that is newer than what is asked for does no harm.
    assert_eq!(rows(&fixture.query(), version(1), SUMMARY).await, summary(100, 100, "5051.00"));
    let log = orders.table.path().clone().join("_delta_log");
    for version in 0..3 {
        fixture.lake.delete(&log.clone().join(format!("{version:020}.json"))).await.unwrap();
    }
    let query = fixture.query();
    assert_eq!(rows(&query, version(3), SUMMARY).await, summary(120, 100, "5261.50"));
    assert_eq!(rows(&query, version(4), SUMMARY).await[0]["n"], 130);
    assert_eq!(
        refused(&query, version(2), SUMMARY).await,
        "version 2 of silver.shop.orders was cleaned away: the oldest left is 3, committed at \
         2026-01-01T14:00:00Z"
    );
    assert_eq!(
        refused(&query, at("2026-01-01T13:00:00Z"), SUMMARY).await,
        "what silver.shop.orders was at 2026-01-01T13:00:00Z was cleaned away: the oldest version \
         left is 3, committed at 2026-01-01T14:00:00Z"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_files_were_cleaned_away_says_so() {
    let (fixture, orders) = three_hours().await;
    let query = fixture.query();
    let folder = orders.table.path().clone();
    for object in fixture.lake.list(&folder).await.unwrap() {
        if object.location.extension() == Some("parquet") {
            fixture.lake.delete(&object.location).await.unwrap();
        }
    }
    let error = json(&query.at(version(1)), SUMMARY).await.unwrap_err();
    assert!(matches!(error, QueryError::Gone(_)), "{error:?}");
    assert!(error.to_string().contains("cleaned away"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_that_a_statement_cannot_be_seen_from_is_refused_not_ignored() {
    let (fixture, _) = three_hours().await;
    Orders::create(&fixture.lake, "bronze").await;
    land(&fixture.lake, &[b"{}\n"]).await;
    let query = fixture.query();
    let two = "SELECT 1 FROM shop.orders JOIN bronze.shop.orders b USING (id)";
    let why = refused(&query, version(1), two).await;
    assert!(why.contains("names 2: use --at TIMESTAMP"), "{why}");
    let twice = "SELECT count(*) AS n FROM shop.orders, silver.shop.orders b";
    assert_eq!(rows(&query, version(1), twice).await, [json!({"n": 10_000})], "it is one table");
    for (sql, name) in [
        ("SELECT * FROM raw.shop.orders", "raw.shop.orders"),
        ("SELECT * FROM ledger.batch, shop.orders", "ledger.batch"),
        ("SELECT * FROM ledger.main.batch", "ledger.batch"),
    ] {
        for moment in [version(1), at("2026-01-01T13:00:00Z")] {
            let why = refused(&query, moment, sql).await;
            assert_eq!(why, format!("{name} has no versions: only bronze and silver have"));
        }
    }
    for sql in ["SELECT 1", "SELECT * FROM generate_series(1, 3)", "SHOW TABLES"] {
        for moment in [as_of("2026-01-01"), version(1), at("2026-01-01T13:00:00Z")] {
            refused(&query, moment, sql).await;
        }
    }
    for sql in ["SELECT * FROM bronze.shop.orders", "SELECT * FROM raw.shop.orders"] {
        let why = refused(&query, as_of("2026-01-01"), sql).await;
        assert_eq!(why, "--as-of is for tables of silver, and the statement names none");
    }
    // Beside silver they are read as they are: a version leads to the record it came from.
    let joined =
        "SELECT s.id FROM shop.orders s JOIN raw.shop.orders r ON s._position = r.position";
    assert_eq!(rows(&query, as_of("1970-01-03"), joined).await, [json!({"id": 1})]);
    let missing = json(&query.at(version(1)), "SELECT * FROM shop.ordres").await;
    assert!(matches!(missing, Err(QueryError::NoTable { .. })), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_can_be_seen_from_a_moment() {
    let (fixture, _) = three_hours().await;
    let query = fixture.query();
    for (moment, key, expected) in [
        (as_of("1970-01-02"), "3", &["3.01"][..]),
        (as_of("1970-01-03"), "3", &["3.02"]),
        (as_of("1970-01-01"), "3", &[]),
        (version(1), "3", &["3.01"]),
        (at("2026-01-01T13:00:00Z"), "3", &["3.01", "3.02"]),
        (at("2026-01-01T13:00:00Z"), "13", &["13.01"]),
    ] {
        let rows = query.at(moment.clone()).history(&orders(), &["id".to_owned()], key).await;
        let rows = text(rows.unwrap(), Format::Ndjson).await.unwrap();
        let prices = rows.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["price"].as_str().unwrap().to_owned()
        });
        assert_eq!(prices.collect::<Vec<_>>(), expected, "{moment:?}");
    }
}

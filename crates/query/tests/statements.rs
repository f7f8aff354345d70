//! Which statements are answered, and what is said of the others.

use alluvium_query::QueryError;
use serde_json::json;

use crate::fixture::{Fixture, Orders, land};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_would_change_something_is_refused() {
    let fixture = Fixture::with_orders().await;
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("out.csv");
    let copy = format!("COPY silver.shop.orders TO '{}'", file.display());
    let external = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", file.display());
    for sql in [
        "INSERT INTO silver.shop.orders SELECT * FROM silver.shop.orders",
        "EXPLAIN ANALYZE INSERT INTO silver.shop.orders SELECT * FROM silver.shop.orders",
        "DELETE FROM silver.shop.orders",
        "UPDATE silver.shop.orders SET id = 1",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE silver.shop.orders",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "PREPARE p AS SELECT 1",
        "BEGIN",
        &copy,
        &external,
    ] {
        let error = fixture.error(sql).await;
        assert!(matches!(error, QueryError::NotReadOnly(_)), "{sql}: {error:?}");
    }
    assert!(!file.exists());
    assert_eq!(fixture.rows("SELECT count(*) AS n FROM shop.orders").await, [json!({"n": 110})]);
    for sql in [
        "SELECT 1 AS a INTO silver.shop.copy",
        "SELECT 1; SELECT 2",
        "",
        "SELECT * FROM '/etc/passwd'",
    ] {
        fixture.error(sql).await;
    }
    assert_eq!(fixture.query().list_tables().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_is_answered_with_the_nearest_ones() {
    let fixture = Fixture::with_orders().await;
    land(&fixture.lake, &[b"{}\n"]).await;
    for name in
        ["silver.shop.order", "orders", "gold.shop.orders", "shop.ordres", "silver.\"Shop\".orders"]
    {
        match fixture.error(&format!("SELECT * FROM {name}")).await {
            QueryError::NoTable { known, .. } => {
                assert_eq!(known[0], "silver.shop.orders", "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let error = fixture.error("SELECT * FROM bronze.shop.orders").await.to_string();
    assert_eq!(
        error,
        "there is no table `bronze.shop.orders`; there are `silver.shop.orders`, `raw.shop.orders`"
    );
    let empty = Fixture::new().error("SELECT * FROM bronze.shop.orders").await.to_string();
    assert_eq!(empty, "there is no table `bronze.shop.orders`: the lake holds none yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_not_there_is_answered_with_the_nearest_ones() {
    let fixture = Fixture::with_orders().await;
    match fixture.error("SELECT pricee FROM shop.orders").await {
        QueryError::NoColumn { name, known } => {
            assert_eq!((name.as_str(), known[0].as_str()), ("pricee", "price"));
        }
        other => panic!("{other:?}"),
    }
    // Names are lower-case unless quoted; the answer leads to the quotes.
    let error = fixture.error("SELECT Name FROM shop.orders").await.to_string();
    assert!(error.starts_with("there is no column `name`; there are `Name`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_said_without_the_engines_names_for_its_parts() {
    let fixture = Fixture::with_orders().await;
    for sql in [
        "SELEC 1",
        "SELECT no_such_function(1)",
        "SELECT CAST('x' AS BIGINT)",
        "SELECT id / 0 FROM shop.orders",
        "SELECT id FROM shop.orders WHERE Name = 1 +",
    ] {
        let error = fixture.error(sql).await;
        assert!(
            matches!(error, QueryError::Statement(_) | QueryError::NotReadOnly(_)),
            "{error:?}"
        );
        let error = error.to_string();
        for word in
            ["DataFusion", "Error during planning", "Arrow error", "ParserError", "Optimizer"]
        {
            assert!(!error.contains(word), "{sql}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_are_listed_and_only_ours() {
    let fixture = Fixture::with_orders().await;
    Orders::create(&fixture.lake, "bronze").await;
    land(&fixture.lake, &[b"{}\n"]).await;
    let rows = fixture.rows("SHOW TABLES").await;
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["raw.shop.orders", "bronze.shop.orders", "silver.shop.orders"]);
    assert_eq!(rows[0]["layer"], "raw");
    let listed = fixture.query().list_tables().await.unwrap();
    assert_eq!(listed.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_describe_are_answered() {
    let fixture = Fixture::with_orders().await;
    let columns = fixture.rows("DESCRIBE silver.shop.orders").await;
    assert_eq!(columns[0]["column_name"], "id");
    assert_eq!(fixture.rows("SHOW COLUMNS FROM silver.shop.orders").await.len(), columns.len());
    assert!(!fixture.rows("EXPLAIN SELECT * FROM shop.orders").await.is_empty());
    let with = "WITH o AS (SELECT id FROM shop.orders) SELECT max(id) AS id FROM o;";
    assert_eq!(fixture.rows(with).await, [json!({"id": 100})]);
}

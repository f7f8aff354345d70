//! Delta loads: equal values, late commits, nulls, and what orders the rows.

use alluvium_model::metadata::SequenceBy;
use serde_json::json;

use crate::shop::{Shop, entity, values};

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, updated_at TEXT);";

fn delta(overlap: u64) -> alluvium_model::EntitySpec {
    let source = json!({"cursor_column": "updated_at", "overlap": overlap, "page_rows": 2});
    entity("t", "delta", source)
}

#[tokio::test]
async fn rows_with_equal_values_are_not_lost_at_the_edge_of_a_page() {
    let mut shop = Shop::new(TABLE).await;
    shop.sql(
        "INSERT INTO t VALUES (1, '2026-11-21 07:00:00'), (2, '2026-11-21 07:00:00'); INSERT INTO t
         SELECT id + 2, updated_at FROM t; INSERT INTO t SELECT id + 4, updated_at FROM t LIMIT 3",
    )
    .await;
    let run = shop.run(&delta(0), None).await.unwrap();
    assert_eq!(values(&run, "id"), [1, 2, 3, 4, 5, 6, 7]);
    shop.sql("INSERT INTO t VALUES (0, '2026-11-21 07:00:00')").await;
    let again = shop.run(&delta(0), run.cursor).await.unwrap();
    assert!(values(&again, "id").contains(&json!(0)), "an equal value that came later");
}

#[tokio::test]
async fn rows_committed_late_are_read_within_the_overlap() {
    let mut shop = Shop::new(TABLE).await;
    shop.sql("INSERT INTO t VALUES (1, '2026-11-21 07:00:00'), (2, '2026-11-21 07:10:00')").await;
    let first = shop.run(&delta(300), None).await.unwrap();
    shop.sql("INSERT INTO t VALUES (3, '2026-11-21 07:05:00'), (4, '2026-11-21 07:04:59')").await;
    let second = shop.run(&delta(300), first.cursor).await.unwrap();
    assert_eq!(values(&second, "id"), [3, 2], "4 is older than the overlap reaches");
}

#[tokio::test]
async fn rows_without_a_value_come_first_in_each_run_unless_they_are_left_out() {
    let mut shop = Shop::new(TABLE).await;
    shop.sql("INSERT INTO t VALUES (1, '2026-11-21 07:00:00'), (2, NULL), (3, NULL), (4, NULL)")
        .await;
    let first = shop.run(&delta(0), None).await.unwrap();
    assert_eq!(values(&first, "id"), [2, 3, 4, 1]);
    let second = shop.run(&delta(0), first.cursor).await.unwrap();
    assert_eq!(values(&second, "id"), [2, 3, 4, 1]);
    let mut skipping = delta(0);
    skipping.source["null_cursor"] = json!("skip");
    assert_eq!(values(&shop.run(&skipping, None).await.unwrap(), "id"), [1]);
}

#[tokio::test]
async fn a_time_in_the_future_does_not_end_the_reading() {
    let mut shop = Shop::new(TABLE).await;
    shop.sql("INSERT INTO t VALUES (1, '2126-01-01 00:00:00')").await;
    let first = shop.run(&delta(0), None).await.unwrap();
    shop.sql("INSERT INTO t VALUES (2, '2026-11-21 09:00:00')").await;
    let second = shop.run(&delta(0), first.cursor).await.unwrap();
    assert_eq!(values(&second, "id"), [2, 1]);
}

#[tokio::test]
async fn the_cursor_column_orders_the_rows_if_it_can() {
    let mut shop = Shop::new(TABLE).await;
    shop.sql("INSERT INTO t VALUES (1, '2026-11-21 07:00:00')").await;
    let found = shop.discover(&[delta(0)]).await.unwrap();
    assert_eq!(found[0].sequence_by, [SequenceBy::Column("updated_at".into())]);
    shop.sql("UPDATE t SET updated_at = 'v1'").await;
    let found = shop.discover(&[delta(0)]).await.unwrap();
    assert!(matches!(found[0].sequence_by[..], [SequenceBy::Carried { .. }]), "a text is no order");
    let run = shop.run(&delta(0), None).await.unwrap();
    assert_eq!(run.changes()[0].sequence, ["2026-11-21T08:00:01Z"]);
}

#[tokio::test]
async fn a_run_without_rows_leaves_the_cursor_alone() {
    let shop = Shop::new(TABLE).await;
    let run = shop.run(&delta(0), None).await.unwrap();
    assert!(run.text().is_empty() && run.cursor.is_none());
}

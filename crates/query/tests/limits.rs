//! What a query may use.

use alluvium_query::{QueryError, QueryOptions};

use crate::fixture::{Fixture, json};

#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_the_limit_are_kept_back_and_that_is_said() {
    let fixture = Fixture::with_orders().await;
    for (rows, truncated) in [(109, true), (110, false), (0, true)] {
        let query =
            fixture.query_with(QueryOptions { rows: Some(rows), ..QueryOptions::default() });
        let mut answer = query.sql("SELECT id FROM shop.orders").await.unwrap();
        let mut seen = 0;
        while let Some(batch) = answer.next().await.unwrap() {
            seen += batch.num_rows() as u64;
        }
        assert_eq!((seen, answer.truncated()), (rows, truncated));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_needs_more_memory_than_it_may_have_ends_with_that_word() {
    let options = QueryOptions { memory_bytes: 1 << 20, spill_bytes: 1, ..QueryOptions::default() };
    let query = Fixture::new().query_with(options);
    let sql = "SELECT value, count(*) FROM generate_series(1, 300000) GROUP BY value ORDER BY 1";
    let error = json(&query, sql).await.unwrap_err();
    assert!(matches!(error, QueryError::Memory(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_in_memory_goes_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = QueryOptions {
        memory_bytes: 16 << 20,
        spill_folder: Some(folder.path().to_owned()),
        parallelism: 2,
        ..QueryOptions::default()
    };
    let query = Fixture::new().query_with(options);
    let sql =
        "SELECT value, repeat('x', 100) AS t FROM generate_series(1, 300000) ORDER BY value DESC";
    let mut answer = query.sql(sql).await.unwrap();
    let mut seen = 0;
    while let Some(batch) = answer.next().await.unwrap() {
        seen += batch.num_rows();
    }
    assert_eq!(seen, 300_000);
}

//! How answers are written.

use std::io::{self, Write};

use alluvium_query::{QueryError, QueryOptions, Rows, output, output::Format};

use crate::fixture::{Fixture, text};

const VALUES: &str = "SELECT 1 AS id, 'a,\"b' AS text, CAST(NULL AS TEXT) AS nothing, '' AS empty, \
    true AS yes, 0.1e0 AS double, CAST('12345678901234567.80' AS DECIMAL(38,2)) AS price, \
    x'00ff' AS bytes, [1, NULL] AS list, {'a': 'x'} AS row, 2 AS \"ID\"";

async fn written(sql: &str, format: Format) -> String {
    text(Fixture::new().query().sql(sql).await.unwrap(), format).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_array_and_ndjson_one_object_a_line() {
    let object = r#"{"id":1,"text":"a,\"b","nothing":null,"empty":"","yes":true,"double":0.1,"price":"12345678901234567.80","bytes":"00ff","list":[1,null],"row":{"a":"x"},"ID":2}"#;
    assert_eq!(written(VALUES, Format::Ndjson).await, format!("{object}\n"));
    assert_eq!(written(VALUES, Format::Json).await, format!("[\n{object}\n]\n"));
    let two = "SELECT value AS v FROM generate_series(1, 2)";
    assert_eq!(written(two, Format::Json).await, "[\n{\"v\":1},\n{\"v\":2}\n]\n");
    let none = "SELECT 1 AS v WHERE false";
    assert_eq!(written(none, Format::Json).await, "[]\n");
    assert_eq!(written(none, Format::Ndjson).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_one_name_are_told_apart_in_json() {
    let twice = "SELECT a.v, b.v FROM (SELECT 1 AS v) a, (SELECT 2 AS v) b";
    assert_eq!(written(twice, Format::Ndjson).await, "{\"v\":1,\"v_2\":2}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_csv_null_differs_from_empty_text() {
    assert_eq!(
        written(VALUES, Format::Csv).await,
        "id,text,nothing,empty,yes,double,price,bytes,list,row,ID\n\
         1,\"a,\"\"b\",,\"\",true,0.1,12345678901234567.80,00ff,\"[1,null]\",\"{\"\"a\"\":\"\"x\"\"}\",2\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_shows_null_and_cannot_be_made_to_move_the_cursor() {
    let sql = "SELECT 12 AS n, CAST(NULL AS TEXT) AS t UNION ALL SELECT 3, chr(27) || '[2J' ORDER BY 1 DESC";
    assert_eq!(
        written(sql, Format::Table).await,
        "┌────┬───────────┐\n\
         │  n ┆ t         │\n\
         ╞════╪═══════════╡\n\
         │ 12 ┆ null      │\n\
         │  3 ┆ \\u{1b}[2J │\n\
         └────┴───────────┘\n"
    );
    assert!(written("SELECT 1 AS v WHERE false", Format::Table).await.contains("v"));
    let long = written("SELECT value FROM generate_series(1, 2500)", Format::Table).await;
    assert_eq!(long.matches("value").count(), 3, "one table a thousand rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_went_away_ends_the_query() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let endless = "SELECT value FROM generate_series(1, 1000000000000)";
    let rows = Fixture::new().query().sql(endless).await.unwrap();
    let error = output::write(rows, Format::Ndjson, &mut Gone).await.unwrap_err();
    assert!(matches!(error, QueryError::Output(e) if e.kind() == io::ErrorKind::BrokenPipe));
}

/// Divides by zero after so many rows, in one thread, so that these come before it.
async fn divided(after: u32) -> Rows {
    let options = QueryOptions { parallelism: 1, ..QueryOptions::default() };
    let sql =
        format!("SELECT 10 / ({after} - value) AS v FROM generate_series(0, {after}) AS t(value)");
    Fixture::new().query_with(options).sql(&sql).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_of_an_answer_that_fails_before_its_first_row() {
    for format in Format::ALL {
        let mut out = Vec::new();
        let error = output::write(divided(0).await, format, &mut out).await.unwrap_err();
        assert!(matches!(error, QueryError::Statement(_)), "{error:?}");
        assert_eq!(String::from_utf8(out).unwrap(), "", "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_says_so_and_its_json_has_no_end() {
    let mut out = Vec::new();
    let rows = divided(50_000).await;
    let error = output::write(rows, Format::Json, &mut out).await.unwrap_err();
    assert!(error.to_string().starts_with("the answer is not whole, it broke off: "), "{error}");
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("[\n{\"v\":0}") && text.ends_with("}"), "{}", text.len());
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
}

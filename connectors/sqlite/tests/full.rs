//! Full loads: exact values, snapshots with an end, and keyset pages.

use alluvium_model::{Control, Op, Record};
use serde_json::{Value, json};

use crate::shop::{Shop, entity, rows, values};

#[tokio::test]
async fn values_are_exact() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, \"b c\"\"d\", x);
         INSERT INTO t VALUES (9223372036854775807, 0.1, 'æ \"q\" \n', x'00ff');
         INSERT INTO t VALUES (-1, 1e300, NULL, 9e999);
         INSERT INTO t VALUES (-2, -0.0, 1.0, CAST(x'ff41' AS TEXT));",
    )
    .await;
    let run = shop.run(&entity("t", "full", json!({})), None).await.unwrap();
    assert_eq!(
        rows(&run),
        [
            r#"{"id":-2,"a":-0.0,"b c\"d":1.0,"x":{"$not_utf8":"/0E="}}"#,
            r#"{"id":-1,"a":1e+300,"b c\"d":null,"x":"Infinity"}"#,
            r#"{"id":9223372036854775807,"a":0.1,"b c\"d":"æ \"q\" \n","x":"AP8="}"#,
        ]
    );
}

#[tokio::test]
async fn a_snapshot_has_an_id_a_sequence_and_an_end_that_counts_its_rows() {
    let mut shop = Shop::new(
        "CREATE TABLE t (a INTEGER, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
         INSERT INTO t VALUES (2, 'x'), (1, 'y'), (1, 'x'), (3, 'x'), (2, 'y');",
    )
    .await;
    let declared = entity("t", "full", json!({"page_rows": 2}));
    let run = shop.run(&declared, None).await.unwrap();
    assert_eq!(values(&run, "a"), [1, 1, 2, 2, 3]);
    assert_eq!(values(&run, "b"), ["x", "y", "x", "y", "x"]);
    let start = Value::from("2026-11-21T08:00:01Z");
    for change in run.changes() {
        assert_eq!((change.op, change.snapshot.as_deref()), (Op::Read, start.as_str()));
        assert_eq!(change.sequence, std::slice::from_ref(&start));
    }
    let Some(Record::Control(end)) = run.pages.last().unwrap().1.last() else { panic!("no end") };
    let snapshot = start.as_str().unwrap().to_owned();
    assert_eq!(*end, Control::SnapshotEnd { snapshot, sequence: vec![start], rows: 5 });

    shop.sql("DELETE FROM t").await;
    let empty = shop.run(&declared, run.cursor).await.unwrap();
    let text = empty.text();
    assert!(text.len() == 1 && text[0].contains("08:00:02Z") && text[0].contains("rows: 0"));
}

#[tokio::test]
async fn a_writer_is_not_held_up_between_pages_and_each_key_is_read_once() {
    let mut shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
         INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'a'), (4, 'a');",
    )
    .await;
    let mut source = shop.connect().await.unwrap();
    let declared = [entity("t", "full", json!({"page_rows": 2}))];
    let t = source.discover(&declared).await.unwrap().all().unwrap().remove(0);
    let first = source.poll(&t, None).await.unwrap();
    shop.sql("DELETE FROM t WHERE id IN (1, 3); INSERT INTO t VALUES (5, 'b')").await;
    let second = source.poll(&t, first.next.as_ref()).await.unwrap();
    let ids = |page: &alluvium_model::Page| -> Vec<String> {
        page.records.iter().map(alluvium_connector::contract::text_of).collect()
    };
    assert!(ids(&first)[0].contains("\"id\":1") && ids(&first)[1].contains("\"id\":2"));
    assert!(ids(&second)[0].contains("\"id\":4") && ids(&second)[1].contains("\"id\":5"));
}

#[tokio::test]
async fn the_source_is_not_modified() {
    let mut shop =
        Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);").await;
    let path = shop.folder.path().join("shop.db");
    shop.sql("PRAGMA user_version = 7").await;
    let before = std::fs::read(&path).unwrap();
    shop.run(&entity("t", "full", json!({})), None).await.unwrap();
    assert!(before == std::fs::read(&path).unwrap(), "the file is the same, byte for byte");
}

#[tokio::test]
async fn a_database_in_wal_mode_is_read_while_a_writer_has_it_open() {
    let mut shop = Shop::new(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY);
         INSERT INTO t VALUES (1);",
    )
    .await;
    shop.sql("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").await;
    let run = shop.run(&entity("t", "full", json!({})), None).await.unwrap();
    assert_eq!(values(&run, "id"), [1], "what is committed");
}

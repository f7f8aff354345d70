//! Discovery: keys, columns and types from the tables, and tables that nobody declared.

use alluvium_model::metadata::Load;
use alluvium_model::{ColumnType, EntitySpec};
use serde_json::json;

use crate::shop::{Shop, entity};

const SHOP: &str = "
    CREATE TABLE Customers (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL, vip BOOLEAN);
    CREATE TABLE \"Order Lines\" (\"order\" INT, line INT, total DECIMAL(12, 2), at DATETIME,
        _note TEXT, photo BLOB, weight REAL, double_total AS (total * 2),
        PRIMARY KEY (\"order\", line)) WITHOUT ROWID;
    CREATE TABLE audit_log (what TEXT, updated_at INTEGER);
    CREATE VIEW v AS SELECT 1 AS id;";

fn kinds(entity: &EntitySpec) -> Vec<(&str, ColumnType)> {
    entity.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect()
}

#[tokio::test]
async fn keys_and_types_are_read_from_the_table() {
    use ColumnType::{Binary, Boolean, Decimal, Double, Long, String, Timestamp};
    let shop = Shop::new(SHOP).await;
    let declared =
        [entity("Customers", "full", json!({})), entity("Order Lines", "full", json!({}))];
    let found = shop.discover(&declared).await.unwrap();
    assert_eq!(found[0].keys, ["id"]);
    assert_eq!(kinds(&found[0]), [("id", Long), ("name", String), ("vip", Boolean)]);
    let nullable: Vec<_> = found[0].columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, true]);
    assert_eq!(found[1].keys, ["order", "line"]);
    let expected = [
        ("order", Long),
        ("line", Long),
        ("total", Decimal),
        ("at", Timestamp),
        ("c_note", String),
        ("photo", Binary),
        ("weight", Double),
        ("double_total", String),
    ];
    assert_eq!(kinds(&found[1]), expected);
    assert_eq!((found[1].columns[2].precision, found[1].columns[2].scale), (Some(12), Some(2)));
    assert_eq!(found[1].columns[4].path.as_deref(), Some("/_note"), "names with _ are ours");
}

#[tokio::test]
async fn all_tables_or_some_become_entities() {
    let mut shop = Shop::new(SHOP).await;
    shop.connection["tables"] = json!({"exclude": ["*_log"]});
    let found = shop.discover(&[]).await.unwrap();
    let names: Vec<_> = found.iter().map(|entity| entity.name.as_str()).collect();
    assert_eq!(names, ["customers", "order_lines"]);

    shop.connection["tables"] = json!({
        "include": ["cust*", "audit_log"], "load": "delta", "cursor_column": "updated_at",
        "overlap": 5, "rowid_key": true,
    });
    let found = shop.discover(&[]).await.unwrap();
    let loads: Vec<_> = found.iter().map(|e| (e.name.as_str(), e.load)).collect();
    assert_eq!(loads, [("customers", Load::Full), ("audit_log", Load::Delta)]);
    assert_eq!(found[1].keys, ["rowid"]);
    assert_eq!(found[1].source["overlap"], 5);
}

#[tokio::test]
async fn a_declared_table_is_not_found_a_second_time() {
    let mut shop = Shop::new(SHOP).await;
    shop.connection["tables"] = json!({"include": ["customers"]});
    let mut declared = entity("customers", "full", json!({}));
    declared.name = "clients".parse().unwrap();
    let found = shop.discover(&[declared]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name.as_str(), &found[0].keys[..]), ("clients", &["id".to_owned()][..]));
}

#[tokio::test]
async fn tables_that_cannot_be_entities_are_all_named() {
    let mut shop = Shop::new(SHOP).await;
    shop.sql("CREATE TABLE \"order.lines\" (id INTEGER PRIMARY KEY)").await;
    shop.connection["tables"] = json!({});
    let error = shop.discover(&[]).await.unwrap_err().to_string();
    assert!(error.contains("`audit_log` has no primary key"), "{error}");
    assert!(error.contains("`order.lines` would be called `order_lines`"), "{error}");
}

#[tokio::test]
async fn a_missing_table_fails_its_own_entity_and_names_the_file_and_the_known_tables() {
    let shop =
        Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE u (id INTEGER)").await;
    let declared = [entity("gone", "full", json!({})), entity("t", "full", json!({}))];
    let found = shop.connect().await.unwrap().discover(&declared).await.unwrap();
    let names: Vec<_> = found.entities.iter().map(|entity| entity.name.as_str()).collect();
    assert_eq!(names, ["t"]);
    let (id, error) = &found.failed[0];
    assert_eq!((id, found.failed.len()), (&declared[0].id(), 1));
    let error = error.to_string();
    assert!(error.contains("no table `gone` in ") && error.contains("shop.db"), "{error}");
    assert!(error.contains("known: `t`, `u`"), "{error}");
}

#[tokio::test]
async fn a_table_without_a_primary_key_needs_declared_keys_or_the_rowid() {
    let mut shop = Shop::new(SHOP).await;
    shop.sql("INSERT INTO audit_log VALUES ('x', 1), ('x', 1)").await;
    let error = shop.discover(&[entity("audit_log", "full", json!({}))]).await.unwrap_err();
    assert!(error.to_string().contains("rowid_key"), "{error}");
    let mut keyed = entity("audit_log", "full", json!({}));
    keyed.keys = vec!["what".into()];
    assert_eq!(shop.discover(&[keyed]).await.unwrap()[0].keys, ["what"]);
    let by_rowid = entity("audit_log", "full", json!({"rowid_key": true, "page_rows": 1}));
    let run = shop.run(&by_rowid, None).await.unwrap();
    assert_eq!(
        crate::shop::rows(&run),
        [r#"{"what":"x","updated_at":1,"rowid":1}"#, r#"{"what":"x","updated_at":1,"rowid":2}"#]
    );
}

#[tokio::test]
async fn times_kept_as_numbers_are_not_taken_for_milliseconds() {
    let mut shop = Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME)").await;
    let kind = async |shop: &Shop| {
        shop.discover(&[entity("t", "full", json!({}))]).await.unwrap()[0].columns[1].kind
    };
    assert_eq!(kind(&shop).await, ColumnType::Timestamp);
    shop.sql("INSERT INTO t VALUES (1, 1763708400)").await;
    assert_eq!(kind(&shop).await, ColumnType::Long, "seconds, most likely");
    shop.sql("UPDATE t SET at = '2026-11-21 08:00:00'").await;
    assert_eq!(kind(&shop).await, ColumnType::Timestamp);
}

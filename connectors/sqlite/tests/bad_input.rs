//! Databases and metadata that are not as they should be, and the examples of the README.

use alluvium_model::{EntitySpec, SourceError, SystemSpec};
use serde_json::{Value, json};

use crate::shop::{Shop, entity, registry, values};

#[tokio::test]
async fn a_file_that_is_missing_or_no_database_is_named() {
    let mut shop = Shop::new("").await;
    let path = shop.folder.path().join("other.db");
    shop.connection["path"] = json!(path);
    let missing = shop.connect().await.err().unwrap();
    assert!(matches!(&missing, SourceError::Misconfigured(text) if text.contains("other.db")));
    assert!(!path.exists(), "it is not made");
    std::fs::write(&path, "this is no database, but it is long enough. ".repeat(50)).unwrap();
    let other = shop.connect().await.err().unwrap();
    assert!(matches!(&other, SourceError::Misconfigured(text) if text.contains("not an SQLite")));
}

#[tokio::test]
async fn a_locked_database_is_unavailable_and_comes_back() {
    let mut shop = Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    let mut source = shop.connect().await.unwrap();
    let declared = [entity("t", "full", json!({}))];
    let t = source.discover(&declared).await.unwrap().all().unwrap().remove(0);
    shop.sql("BEGIN EXCLUSIVE").await;
    let locked = source.poll(&t, None).await.unwrap_err();
    assert!(
        matches!(&locked, SourceError::Unavailable(text) if text.contains("locked")),
        "{locked}"
    );
    shop.sql("COMMIT").await;
    source.poll(&t, None).await.unwrap();
}

#[tokio::test]
async fn a_table_or_a_column_that_vanished_stops_the_run() {
    let mut shop = Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT)").await;
    let mut source = shop.connect().await.unwrap();
    let declared = [entity("t", "full", json!({}))];
    let t = source.discover(&declared).await.unwrap().all().unwrap().remove(0);
    shop.sql("ALTER TABLE t DROP COLUMN v").await;
    let error = source.poll(&t, None).await.unwrap_err();
    assert!(matches!(&error, SourceError::Misconfigured(text) if text.contains("`v`")), "{error}");
    shop.sql("DROP TABLE t; CREATE TABLE u (id INTEGER)").await;
    let error = source.poll(&t, None).await.unwrap_err();
    let SourceError::Misconfigured(text) = &error else { panic!("{error}") };
    assert!(text.contains("no table `t`") && text.contains("`u`"), "{error}");
}

#[tokio::test]
async fn a_column_that_was_added_comes_along() {
    let mut shop = Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    let mut source = shop.connect().await.unwrap();
    let declared = [entity("t", "full", json!({}))];
    let t = source.discover(&declared).await.unwrap().all().unwrap().remove(0);
    shop.sql("ALTER TABLE t ADD COLUMN v TEXT; INSERT INTO t VALUES (1, 'new')").await;
    let run = alluvium_connector::contract::drain(&mut *source, &t, None).await.unwrap();
    assert_eq!(values(&run, "v"), ["new"]);
}

#[tokio::test]
async fn a_value_of_another_type_is_handed_on_as_it_is() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER);
         INSERT INTO t VALUES (1, 'many'), (2, 2);",
    )
    .await;
    let run = shop.run(&entity("t", "full", json!({})), None).await.unwrap();
    assert_eq!(values(&run, "n"), [json!("many"), json!(2)]);
}

#[tokio::test]
async fn a_cursor_column_of_numbers_and_texts_is_refused_rather_than_half_read() {
    let shop = Shop::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at);
         INSERT INTO t VALUES (1, 1763708400), (2, '2026-11-21 08:00:00');",
    )
    .await;
    let declared = entity("t", "delta", json!({"cursor_column": "at"}));
    let error = shop.run(&declared, None).await.err().unwrap();
    assert!(matches!(&error, SourceError::Misconfigured(text) if text.contains("`at`")), "{error}");
}

#[tokio::test]
async fn metadata_that_do_not_fit_are_named() {
    let shop = Shop::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)").await;
    let mut other = entity("t", "full", json!({}));
    other.columns = vec![alluvium_model::Column::new("V", alluvium_model::ColumnType::String)];
    for (declared, word) in [
        (entity("t", "delta", json!({})), "cursor_column"),
        (entity("t", "full", json!({"cursor_column": "v"})), "delta"),
        (entity("t", "delta", json!({"cursor_column": "w"})), "`w`"),
        (other, "`V`"),
    ] {
        let error = shop.discover(&[declared]).await.unwrap_err();
        assert!(matches!(error, SourceError::Misconfigured(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_examples_are_valid() {
    let file = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut systems = file(include_str!("../examples/systems.json"));
    let mut entities = file(include_str!("../examples/entities.json"));
    let systems: Vec<SystemSpec> = serde_json::from_value(systems["systems"].take()).unwrap();
    let entities: Vec<EntitySpec> = serde_json::from_value(entities["entities"].take()).unwrap();
    for system in &systems {
        registry().check_connection(system).unwrap();
    }
    for entity in &entities {
        registry().check_source("sqlite", entity).unwrap();
        assert!(systems.iter().any(|system| system.name == entity.system));
    }
    for block in include_str!("../README.md").split("```json").skip(1) {
        serde_json::from_str::<Value>(block.split("```").next().unwrap()).unwrap();
    }
}

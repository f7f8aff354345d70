//! All versions of one key.

use alluvium_query::{QueryError, output::Format};
use serde_json::{Value, json};

use crate::fixture::{Fixture, orders, text};

async fn history(fixture: &Fixture, keys: &[&str], key: &str) -> Result<Vec<Value>, QueryError> {
    let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
    let rows = fixture.query().history(&orders(), &keys, key).await?;
    let text = text(rows, Format::Ndjson).await?;
    Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_of_a_key_come_oldest_first_with_what_they_are_in_front() {
    let fixture = Fixture::with_orders().await;
    let keys = ["id".to_owned()];
    let rows = fixture.query().history(&orders(), &keys, "3").await.unwrap();
    assert_eq!(
        text(rows, Format::Csv).await.unwrap(),
        "_valid_from,_valid_to,_is_current,_op,id,Name,price,weight,due,_position,_run_id,_batch_id\n\
         1970-01-02T00:00:00Z,1970-01-03T00:00:00Z,false,c,3,name 3,3.01,0.375,1970-01-04,1/3/0,run,batch\n\
         1970-01-03T00:00:00Z,,true,u,3,name 3,3.02,0.375,1970-01-04,1/3/0,run,batch\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_be_text_a_decimal_or_several_columns() {
    let fixture = Fixture::with_orders().await;
    assert_eq!(history(&fixture, &["Name"], "name 50").await.unwrap().len(), 1);
    assert_eq!(history(&fixture, &["price"], "3.02").await.unwrap().len(), 1);
    assert_eq!(history(&fixture, &["due"], "1970-01-04").await.unwrap().len(), 2);
    let both = history(&fixture, &["id", "Name"], r#"{"Name":"name 3","id":3}"#).await.unwrap();
    assert_eq!(both.len(), 2);
    assert_eq!(both[1]["price"], json!("3.02"));
    assert!(history(&fixture, &["id"], "12345").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_never_read_as_sql() {
    let fixture = Fixture::with_orders().await;
    assert!(history(&fixture, &["Name"], "x' OR '1'='1").await.unwrap().is_empty());
    let error = history(&fixture, &["id"], "1 OR 1=1").await.unwrap_err();
    assert!(matches!(error, QueryError::Key(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_what_is_not_there_names_what_is() {
    let fixture = Fixture::with_orders().await;
    let entity = "shop.order".parse().unwrap();
    let error = fixture.query().history(&entity, &["id".to_owned()], "1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no table `silver.shop.order`; there are `silver.shop.orders`"
    );
    let error = history(&fixture, &["ids"], "1").await.unwrap_err().to_string();
    assert!(error.starts_with("there is no column `ids`; there are `id`"), "{error}");
}

//! The SDK's contract, against tables with and without a rowid.

use alluvium_connector::Registry;
use alluvium_connector::contract::{CANARY, Subject};
use alluvium_connector_sqlite::SqliteConnection;
use alluvium_model::{EntitySpec, SystemSpec};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use crate::shop::{self, Shop};

struct SqliteSubject {
    shop: Shop,
    load: &'static str,
    ticks: i64,
    failures: usize,
}

async fn subject(load: &'static str, options: &str) -> SqliteSubject {
    let sql = format!(
        "CREATE TABLE things (id INTEGER PRIMARY KEY, value TEXT, updated INTEGER NOT NULL) {options}"
    );
    SqliteSubject { shop: Shop::new(&sql).await, load, ticks: 0, failures: 0 }
}

#[async_trait]
impl Subject for SqliteSubject {
    fn registry(&self) -> Registry {
        shop::registry()
    }

    fn system(&self) -> SystemSpec {
        self.shop.system()
    }

    fn entity(&self) -> EntitySpec {
        let mut source = json!({"page_rows": 2});
        if self.load == "delta" {
            source["cursor_column"] = json!("updated");
        }
        shop::entity("things", self.load, source)
    }

    fn connection_debug(&self) -> String {
        format!("{:?}", SqliteConnection::deserialize(self.system().connection).unwrap())
    }

    async fn put(&mut self, id: i64, value: &str) {
        self.ticks += 1;
        let upsert = "INSERT INTO things VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET value = ?2, updated = ?3";
        let query = sqlx::query(upsert).bind(id).bind(value).bind(self.ticks);
        query.execute(&mut self.shop.writer).await.unwrap();
    }

    async fn move_quietly(&mut self) -> bool {
        // A run without rows leaves the cursor where it was.
        false
    }

    async fn limit_rate(&mut self) -> bool {
        // A database file knows no rate limits.
        false
    }

    async fn fail_next(&mut self) -> bool {
        self.failures += 1;
        match self.failures {
            1 => {
                let sql = format!("UPDATE things SET value = '{CANARY}'; BEGIN EXCLUSIVE");
                self.shop.sql(&sql).await;
            }
            2 => self.shop.sql("ROLLBACK; ALTER TABLE things RENAME TO other").await,
            3 => {
                let path = self.shop.folder.path().join("shop.db");
                tokio::fs::write(path, CANARY.repeat(500)).await.unwrap();
            }
            _ => return false,
        }
        true
    }
}

mod full_load {
    async fn make() -> super::SqliteSubject {
        super::subject("full", "").await
    }
    alluvium_connector::contract_suite!(make);
}

mod full_load_without_rowid {
    async fn make() -> super::SqliteSubject {
        super::subject("full", "WITHOUT ROWID").await
    }
    alluvium_connector::contract_suite!(make);
}

mod delta_load {
    async fn make() -> super::SqliteSubject {
        super::subject("delta", "").await
    }
    alluvium_connector::contract_suite!(make);
}

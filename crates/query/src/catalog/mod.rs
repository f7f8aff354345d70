//! The names that a statement may use: a catalog a layer, a schema a system, a table an entity.
//!
//! Nothing is listed before a statement asks what there is: a schema is there for any name, and
//! says that a table is missing when it is asked for it.

mod listing;
mod places;

use std::sync::Arc;

use async_trait::async_trait;
use deltalake::datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use deltalake::datafusion::error::DataFusionError;
use deltalake::datafusion::logical_expr::TableType;
use deltalake::datafusion::prelude::SessionContext;

pub use listing::TableName;
pub(crate) use places::Places;

pub(crate) const RAW: &str = "raw";
pub(crate) const BRONZE: &str = "bronze";
pub(crate) const SILVER: &str = "silver";
pub(crate) const LEDGER: &str = "ledger";
/// The ledger has no systems to tell its tables apart by.
pub(crate) const MAIN: &str = "main";
/// All catalogs.
pub(crate) const NAMES: [&str; 4] = [RAW, BRONZE, SILVER, LEDGER];
/// Where a name of two parts is looked for.
pub(crate) const DEFAULT: &str = SILVER;
/// Where a name of one part would be looked for: no system can have this name.
pub(crate) const NOWHERE: &str = "-";

/// Lets statements use the names of all places.
pub(crate) fn register(context: &SessionContext, places: &Places) {
    for name in NAMES {
        context.register_catalog(name, Arc::new(Catalog { name, places: places.clone() }));
    }
}

#[derive(Debug)]
struct Catalog {
    name: &'static str,
    places: Places,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.places.listed(|table| (table.catalog == self.name).then(|| table.schema.clone()));
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (catalog, places) = (self.name, self.places.clone());
        Some(Arc::new(Schema { catalog, name: name.to_owned(), places }))
    }
}

#[derive(Debug)]
struct Schema {
    catalog: &'static str,
    name: String,
    places: Places,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.places.listed(|table| {
            let ours = table.catalog == self.catalog && table.schema == self.name;
            ours.then(|| table.table.clone())
        })
    }

    async fn table(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.name == NOWHERE {
            return Ok(None);
        }
        let mut name = TableName::new(self.catalog, &self.name, table);
        let mut found = self.places.open(&name).await?;
        // `ledger.batch` reads as a table of silver's system `ledger`, which there seldom is.
        if found.is_none() && self.catalog == DEFAULT && self.name == LEDGER {
            name = TableName::new(LEDGER, MAIN, table);
            found = self.places.open(&name).await?;
        }
        match found {
            Some(found) => Ok(Some(found)),
            None => Err(self.places.missing(name.to_string()).await.into()),
        }
    }

    async fn table_type(&self, _: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(Some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

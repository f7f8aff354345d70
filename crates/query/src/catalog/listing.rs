//! What is in the lake, found by looking.

use std::fmt;

use alluvium_lake::{Lake, LakeError};
use object_store::path::Path;

use super::{BRONZE, LEDGER, RAW, SILVER};

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    /// `raw`, `bronze`, `silver` or `ledger`.
    pub catalog: &'static str,
    /// The system; `main` in the ledger.
    pub schema: String,
    /// The entity, or the ledger's table.
    pub table: String,
}

impl TableName {
    pub(crate) fn new(catalog: &'static str, schema: &str, table: &str) -> Self {
        Self { catalog, schema: schema.to_owned(), table: table.to_owned() }
    }
}

/// As a statement would name it.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.catalog {
            LEDGER => write!(f, "{LEDGER}.{}", self.table),
            catalog => write!(f, "{catalog}.{}.{}", self.schema, self.table),
        }
    }
}

/// The layers' tables, in order.
pub(super) async fn layers(lake: &Lake) -> Result<Vec<TableName>, LakeError> {
    let mut tables = Vec::new();
    for layer in [RAW, BRONZE, SILVER] {
        for system in lake.folders(&Path::from(layer)).await? {
            for entity in lake.folders(&system).await? {
                let names = (system.filename(), entity.filename());
                if let (Some(system), Some(entity)) = names {
                    tables.push(TableName::new(layer, system, entity));
                }
            }
        }
    }
    Ok(tables)
}

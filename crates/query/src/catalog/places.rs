//! Where tables come from, and the list of them.

use std::sync::{Arc, PoisonError, RwLock};

use alluvium_lake::{Lake, path};
use alluvium_ledger::LedgerTables;
use alluvium_model::{EntityId, EntityName, SystemName};
use deltalake::datafusion::catalog::TableProvider;

use super::{BRONZE, LEDGER, MAIN, RAW, SILVER, TableName, listing};
use crate::ledger;
use crate::raw::RawTable;
use crate::{Moment, QueryError, delta, nearest, valid};

/// The lake, the ledger, from when they are looked at, and what was last seen in them. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    lake: Lake,
    ledger: Option<LedgerTables>,
    known: Arc<RwLock<Vec<TableName>>>,
    moment: Arc<Moment>,
}

impl Places {
    pub(crate) fn new(lake: Lake, ledger: Option<LedgerTables>) -> Self {
        Self { lake, ledger, known: Arc::default(), moment: Arc::default() }
    }

    /// The same places, looked at from another moment.
    pub(crate) fn at(&self, moment: Moment) -> Self {
        Self { moment: Arc::new(moment), ..self.clone() }
    }

    pub(crate) fn moment(&self) -> &Moment {
        &self.moment
    }

    /// A table as it stood at the moment; `None` if there is none.
    pub(super) async fn open(
        &self,
        name: &TableName,
    ) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
        if name.catalog == LEDGER {
            return match &self.ledger {
                Some(ledger) if name.schema == MAIN => ledger::open(ledger, &name.table).await,
                _ => Ok(None),
            };
        }
        let Some(entity) = entity(&name.schema, &name.table) else { return Ok(None) };
        match name.catalog {
            RAW => RawTable::open(&self.lake, entity).await,
            BRONZE => {
                delta::open(&self.lake, &path::bronze(&entity), name, self.moment.table).await
            }
            SILVER => self.open_silver(name, &entity).await,
            _ => Ok(None),
        }
    }

    async fn open_silver(
        &self,
        name: &TableName,
        entity: &EntityId,
    ) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
        let path = path::silver(entity);
        let table = delta::open(&self.lake, &path, name, self.moment.table).await?;
        match (table, &self.moment.as_of) {
            (Some(table), Some(as_of)) => valid::at(name, table, as_of).map(Some),
            (table, _) => Ok(table),
        }
    }

    /// All tables there are now.
    pub(crate) async fn list(&self) -> Result<Vec<TableName>, QueryError> {
        let mut tables = listing::layers(&self.lake).await?;
        if let Some(ledger) = &self.ledger {
            let names = ledger::names(ledger).await?;
            tables.extend(names.iter().map(|name| TableName::new(LEDGER, MAIN, name)));
        }
        Ok(tables)
    }

    /// Looks what there is, for [`listed`](Self::listed).
    pub(crate) async fn refresh(&self) -> Result<(), QueryError> {
        let tables = self.list().await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = tables;
        Ok(())
    }

    /// What `pick` takes of the tables last seen.
    pub(super) fn listed<T>(&self, pick: impl FnMut(&TableName) -> Option<T>) -> Vec<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(pick).collect()
    }

    /// The error for a table that is not there.
    pub(crate) async fn missing(&self, name: String) -> QueryError {
        match self.list().await {
            Ok(tables) => {
                // Of names equally near, silver's is the likeliest.
                let likely = |table: &TableName| usize::from(table.catalog != SILVER);
                let mut tables = tables;
                tables.sort_by_key(likely);
                let known = nearest::first(&name, tables.iter().map(TableName::to_string));
                QueryError::NoTable { name, known }
            }
            Err(error) => error,
        }
    }
}

fn entity(system: &str, entity: &str) -> Option<EntityId> {
    let (system, entity) = (system.parse::<SystemName>(), entity.parse::<EntityName>());
    Some(EntityId::new(system.ok()?, entity.ok()?))
}

//! All versions of one key.

use alluvium_model::EntityId;
use deltalake::datafusion::common::TableReference;
use deltalake::datafusion::logical_expr::Expr;
use deltalake::datafusion::prelude::{DataFrame, ident};

use crate::{Query, QueryError, Rows, catalog, key};

/// What a version is, before its values.
const FIRST: [&str; 4] = ["_valid_from", "_valid_to", "_is_current", "_op"];
/// Where a version comes from, after its values.
const LAST: [&str; 3] = ["_position", "_run_id", "_batch_id"];
/// What a version is ordered by: two may begin at the same time.
const ORDER: [&str; 2] = ["_valid_from", "_seq"];

impl Query {
    /// All versions of a key in silver, or those that the moment shows, the oldest first: `_valid_from`, `_valid_to`,
    /// `_is_current`, `_op`, the values, `_position`, `_run_id`, `_batch_id`. `keys` are the names
    /// of the entity's key columns; `key` is the value of a single one, or a JSON object with the
    /// values of all.
    pub async fn history(
        &self,
        entity: &EntityId,
        keys: &[String],
        key: &str,
    ) -> Result<Rows, QueryError> {
        let (system, entity) = (entity.system.as_str(), entity.entity.as_str());
        let table = TableReference::full(catalog::SILVER, system, entity);
        let frame = self.context.table(table).await?;
        let is_key = key::predicate(frame.schema().as_arrow(), keys, key)?;
        let order = columns(&frame, &ORDER).map(|column| column.sort(true, true)).collect();
        let columns = shown(&frame);
        self.run(frame.filter(is_key)?.sort(order)?.select(columns)?).await
    }
}

fn shown(frame: &DataFrame) -> Vec<Expr> {
    let names = frame.schema().fields().iter().map(|field| field.name().as_str());
    // No column of an entity begins with an underscore.
    let values = names.filter(|name| !name.starts_with('_')).map(ident);
    columns(frame, &FIRST).chain(values).chain(columns(frame, &LAST)).collect()
}

/// Those of the columns that the table has.
fn columns(frame: &DataFrame, names: &[&'static str]) -> impl Iterator<Item = Expr> {
    let has = |name: &&&str| frame.schema().has_column_with_unqualified_name(name);
    names.iter().filter(has).map(|name| ident(*name)).collect::<Vec<_>>().into_iter()
}

//! Checks entities against what a REST API can give, and fills in what orders their rows. Pure.

use alluvium_connector::{JsonPath, carry_run_start, parse_source, require_snapshot_sequence};
use alluvium_model::metadata::{Load, SchemaEvolution, SequenceBy};
use alluvium_model::{ColumnType, EntitySpec, SourceError};

use crate::settings::{Incremental, RestEntity};

/// Checks an entity and fills in what orders its rows. A REST API tells neither keys nor columns.
pub(crate) fn complete(mut entity: EntitySpec) -> Result<EntitySpec, SourceError> {
    let settings: RestEntity = parse_source(&entity)?;
    let id = entity.id();
    let misfit = |what: &str| Err(SourceError::Misconfigured(format!("entity `{id}`: {what}")));
    if entity.keys.is_empty() {
        return misfit("declare its `keys`; a REST API does not tell them");
    }
    if entity.columns.is_empty() && entity.schema_evolution != SchemaEvolution::Evolve {
        return misfit("declare its `columns`; a REST API does not tell them");
    }
    if settings.incremental.is_some() && entity.load == Load::Full {
        return misfit("`incremental` needs `load: delta`");
    }
    let cursor_column = cursor_column(&entity, &settings)?.map(|(i, _)| i.column.clone());
    if entity.load == Load::Full {
        require_snapshot_sequence(&mut entity)?;
    } else if entity.sequence_by.is_empty() {
        match cursor_column.filter(|name| entity.column(name).is_some_and(|c| orders(c.kind))) {
            Some(column) => entity.sequence_by = vec![SequenceBy::Column(column)],
            None => carry_run_start(&mut entity),
        }
    }
    Ok(entity)
}

/// The cursor column, and where it stands in a record.
pub(crate) fn cursor_column<'a>(
    entity: &EntitySpec,
    settings: &'a RestEntity,
) -> Result<Option<(&'a Incremental, JsonPath)>, SourceError> {
    let Some(incremental) = &settings.incremental else { return Ok(None) };
    let misfit = |what: String| {
        SourceError::Misconfigured(format!("entity `{}`: `incremental`: {what}", entity.id()))
    };
    let column = entity
        .column(&incremental.column)
        .ok_or_else(|| misfit(format!("`{}` is no declared column", incremental.column)))?;
    Ok(Some((incremental, JsonPath::of_column(column).map_err(misfit)?)))
}

fn orders(kind: ColumnType) -> bool {
    use ColumnType::{Byte, Decimal, Integer, Long, Short, Timestamp};
    matches!(kind, Byte | Short | Integer | Long | Decimal | Timestamp)
}

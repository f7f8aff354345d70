//! Schema evolution: what becomes of columns that the source adds, drops or widens.
//!
//! What the source brought stands in the table's own schema, so that it is known again when the
//! stage opens, and a rebuild from raw comes to the same.

use std::collections::BTreeSet;

use alluvium_lake::Table;
use alluvium_model::metadata::SchemaEvolution;
use alluvium_model::{Column, ColumnType, Control, Quarantined, StageError};

use super::closing::Closings;
use super::gather::Incoming;
use super::shape::Shape;
use super::{SilverStage, index_error, lake_error};
use crate::decode::{control_id, is_fit};
use crate::schema::stored_type;

/// Why a schema message cannot be applied.
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// What a schema message makes of a shape.
pub(super) fn told(shape: &Shape, control: &Control) -> Result<Result<Shape, Refused>, StageError> {
    let Control::Schema { added, dropped, widened } = control else {
        return shape.dropping(shape.dropped()).map(Ok);
    };
    let evolves = shape.entity.schema_evolution == SchemaEvolution::Evolve;
    let mut shape = shape.dropping(shape.dropped())?;
    for column in added.iter().chain(widened) {
        if let Some(refused) = refused(&shape, column) {
            return Ok(Err(refused));
        }
        shape = match shape.entity.column(&column.name) {
            Some(_) => shape.widened(column)?,
            None if evolves => shape.grown(vec![bare(column)], false)?,
            None => shape,
        };
    }
    let mut gone: BTreeSet<String> = shape.dropped().clone();
    gone.retain(|name| !added.iter().any(|column| column.name == *name));
    let there = |name: &&String| shape.entity.column(name).is_some();
    gone.extend(dropped.iter().filter(there).cloned());
    shape.dropping(&gone).map(Ok)
}

/// What a table remembers of a column that the source brought.
fn bare(column: &Column) -> Column {
    let Column { length, precision, scale, .. } = *column;
    Column { length, precision, scale, ..Column::new(&column.name, column.kind) }
}

/// Why a column cannot be added or widened.
fn refused(shape: &Shape, column: &Column) -> Option<Refused> {
    let name = &column.name;
    let Some(known) = shape.entity.column(name) else {
        if shape.entity.schema_evolution == SchemaEvolution::Freeze {
            let reason = format!("column `{name}` is not declared, and schema_evolution is freeze");
            return Some(Refused { code: "new_column", reason });
        }
        return unfit(shape, column).map(|reason| Refused { code: "bad_column", reason });
    };
    let (is, to_be) = (stored_type(known), stored_type(column));
    let reason = format!("column `{name}` is stored as {is}, which {to_be} does not fit");
    (is != to_be).then_some(Refused { code: "incompatible_type", reason })
}

/// Why a table cannot have a new column.
fn unfit(shape: &Shape, column: &Column) -> Option<String> {
    let name = &column.name;
    if !is_fit(name) {
        return Some(format!("no column can be called `{name}`"));
    }
    let lower = name.to_lowercase();
    if let Some(other) = shape.entity.columns.iter().find(|c| c.name.to_lowercase() == lower) {
        return Some(format!("there is another column `{}`, but for the case", other.name));
    }
    let places = column.scale.filter(|_| column.kind == ColumnType::Decimal)?;
    (places > 38).then(|| format!("column `{name}` has {places} decimal places: 38 are the most"))
}

impl SilverStage {
    /// Takes columns over that rows brought by themselves. Returns whether there were any.
    pub(super) async fn take_over_members(
        &mut self,
        incoming: &Incoming,
    ) -> Result<bool, StageError> {
        // In the order of the messages, as if each of them had come alone.
        let (mut lower, mut new) = (BTreeSet::new(), Vec::new());
        for name in incoming.decoded.iter().flat_map(|decoded| &decoded.new_members) {
            if lower.insert(name.to_lowercase()) && self.shape.entity.column(name).is_none() {
                new.push(Column::new(name, ColumnType::String));
            }
        }
        if new.is_empty() {
            return Ok(false);
        }
        let shape = self.shape.grown(new, true)?;
        self.reshape(shape).await?;
        Ok(true)
    }

    /// Does what schema messages tell. Returns the records that cannot be applied.
    pub(super) async fn evolve(
        &mut self,
        incoming: &Incoming,
        closings: &mut Closings,
    ) -> Result<Vec<Quarantined>, StageError> {
        let mut refused = Vec::new();
        for (message, decoded) in incoming.messages.iter().zip(&incoming.decoded) {
            for (index, control) in &decoded.controls {
                if !matches!(control, Control::Schema { .. }) {
                    continue;
                }
                let id = control_id(&self.shape.entity.id(), message, *index);
                if id.as_ref().is_some_and(|id| closings.heard.contains(id)) {
                    continue;
                }
                match told(&self.shape, control)? {
                    Ok(shape) => {
                        closings.heard.extend(id);
                        closings.dropped = shape.dropped().clone();
                        self.reshape(shape).await?;
                    }
                    Err(Refused { code, reason }) => refused.push(Quarantined {
                        position: message.position(*index),
                        code: code.to_owned(),
                        reason,
                        bytes: message.lines().nth(*index as usize).unwrap_or_default().to_vec(),
                    }),
                }
            }
        }
        Ok(refused)
    }

    /// Gives the table the columns of `shape`.
    async fn reshape(&mut self, shape: Shape) -> Result<(), StageError> {
        let mut expected = self.open().await?.table.version();
        if shape.schema != self.shape.schema {
            // Commits the new columns. Nothing of the rows is altered, and so nothing of the index.
            let table = Table::open_or_create(&self.lake, shape.table()).await;
            let mark = table.map_err(lake_error)?.mark();
            expected += 1;
            // What else was committed meanwhile, the index does not reflect.
            if mark.version != expected {
                return Err(overtaken());
            }
            self.index.adopt(&mark, &shape.fingerprint).map_err(index_error)?;
            self.open = None;
        }
        let dropped = shape.dropped().clone();
        self.shape = shape;
        // The batch was taken up with the progress of before.
        if self.open().await?.table.version() != expected {
            return Err(overtaken());
        }
        // What the index says of dropped columns is older than this batch.
        if *self.shape.dropped() != dropped {
            self.shape = self.shape.dropping(&dropped)?;
        }
        Ok(())
    }
}

fn overtaken() -> StageError {
    StageError::Unavailable("another writer committed meanwhile; planning anew".to_owned())
}

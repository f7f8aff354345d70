//! The versions that differ, in words: read once more from both tables, column by column.

use std::collections::{BTreeMap, HashMap};

use alluvium_model::{EntitySpec, StageError};
use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use serde::Serialize;

use super::compare::Found;
use super::prints::Prints;

/// In which way a version differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The table has it, the rebuild has not.
    OnlyInTable,
    /// The rebuild has it, the table has not.
    OnlyInRebuild,
    /// Both have it, with another value in a column.
    Column,
}

/// A version that the table and its rebuild do not share, or a column in which they differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// In which way.
    pub kind: DifferenceKind,
    /// The key columns: `id=7`.
    pub key: String,
    /// Where the version begins.
    pub valid_from: String,
    /// The column that differs; none where a whole version is there once.
    pub column: Option<String>,
    /// What the table has: a value, or a whole version. None is null, or nothing.
    pub table: Option<String>,
    /// What the rebuild has.
    pub rebuilt: Option<String>,
}

/// A row in words; a value that is null is none.
type Row = BTreeMap<String, Option<String>>;

/// Says of each version that was found in what it differs.
pub(super) async fn describe(
    entity: &EntitySpec,
    table: &mut Prints,
    rebuild: &mut Prints,
    found: &[Found],
) -> Result<Vec<Difference>, StageError> {
    let in_table = found.iter().filter_map(|found| match found {
        Found::OnlyInTable(row) | Found::Differing { table: row, .. } => Some(*row),
        Found::OnlyInRebuild(_) => None,
    });
    let in_rebuild = found.iter().filter_map(|found| match found {
        Found::OnlyInRebuild(row) | Found::Differing { rebuild: row, .. } => Some(*row),
        Found::OnlyInTable(_) => None,
    });
    let in_table = rows(table, in_table).await?;
    let in_rebuild = rows(rebuild, in_rebuild).await?;
    let words = Words { entity };
    let mut differences = Vec::new();
    for found in found {
        match found {
            Found::OnlyInTable(row) => {
                let row = in_table.get(row);
                differences.extend(row.map(|row| words.one(DifferenceKind::OnlyInTable, row)));
            }
            Found::OnlyInRebuild(row) => {
                let row = in_rebuild.get(row);
                differences.extend(row.map(|row| words.one(DifferenceKind::OnlyInRebuild, row)));
            }
            Found::Differing { table, rebuild } => {
                let pair = in_table.get(table).zip(in_rebuild.get(rebuild));
                differences.extend(pair.into_iter().flat_map(|(a, b)| words.columns(a, b)));
            }
        }
    }
    differences.sort_by(|a, b| (&a.key, &a.valid_from).cmp(&(&b.key, &b.valid_from)));
    Ok(differences)
}

/// The rows with these hashes.
async fn rows(
    prints: &mut Prints,
    wanted: impl Iterator<Item = u128>,
) -> Result<HashMap<u128, Row>, StageError> {
    let mut missing: std::collections::HashSet<u128> = wanted.collect();
    let mut found = HashMap::new();
    if missing.is_empty() {
        return Ok(found);
    }
    let mut each = |print: super::prints::Print, batch: &RecordBatch, at: usize| {
        if missing.remove(&print.row) {
            found.insert(print.row, row(batch, at));
        }
        !missing.is_empty()
    };
    prints.each(&mut each).await?;
    Ok(found)
}

fn row(batch: &RecordBatch, at: usize) -> Row {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let text = |column: &dyn Array| {
        let text = || array_value_to_string(column, at).unwrap_or_else(|e| e.to_string());
        column.is_valid(at).then(text)
    };
    columns.map(|(field, column)| (field.name().clone(), text(column))).collect()
}

struct Words<'e> {
    entity: &'e EntitySpec,
}

impl Words<'_> {
    /// A version that is there once.
    fn one(&self, kind: DifferenceKind, row: &Row) -> Difference {
        let text = Some(self.version(row));
        let (table, rebuilt) = match kind {
            DifferenceKind::OnlyInTable => (text, None),
            _ => (None, text),
        };
        Difference { kind, column: None, table, rebuilt, ..self.place(row) }
    }

    /// The columns in which two rows of a version differ.
    fn columns(&self, table: &Row, rebuilt: &Row) -> Vec<Difference> {
        let differing = table.iter().filter(|(name, value)| rebuilt.get(*name) != Some(*value));
        let describe = |(name, value): (&String, &Option<String>)| Difference {
            column: Some(name.clone()),
            table: value.clone(),
            rebuilt: rebuilt.get(name).cloned().flatten(),
            ..self.place(table)
        };
        differing.map(describe).collect()
    }

    fn place(&self, row: &Row) -> Difference {
        Difference {
            kind: DifferenceKind::Column,
            key: named(self.entity.keys.iter(), row),
            valid_from: value(row, "_valid_from"),
            column: None,
            table: None,
            rebuilt: None,
        }
    }

    /// The version with its values.
    fn version(&self, row: &Row) -> String {
        let own = self.entity.columns.iter().map(|column| &column.name);
        let values = own.filter(|name| !self.entity.keys.contains(name) && row.contains_key(*name));
        let (from, to) = (value(row, "_valid_from"), value(row, "_valid_to"));
        format!("[{from}, {to}) {}", named(values, row))
    }
}

fn named<'n>(names: impl Iterator<Item = &'n String>, row: &Row) -> String {
    names.map(|name| format!("{name}={}", value(row, name))).collect::<Vec<_>>().join(" ")
}

fn value(row: &Row, name: &str) -> String {
    row.get(name).cloned().flatten().unwrap_or_else(|| "null".to_owned())
}

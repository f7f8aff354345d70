//! What the database says about its tables: columns, types, keys.

use alluvium_model::{Column, ColumnType, SourceError};
use sqlx::{Row as _, SqliteConnection as Handle};

use crate::database::Database;
use crate::query::quoted;

/// A table as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) without_rowid: bool,
    pub(crate) columns: Vec<TableColumn>,
}

/// A column as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) declared: String,
    pub(crate) not_null: bool,
    /// Its place in the primary key, from 1; 0 if it is not part of it.
    pub(crate) key_part: i64,
}

impl Table {
    /// The columns of the primary key, in its order.
    pub(crate) fn primary_key(&self) -> Vec<&TableColumn> {
        let mut key: Vec<_> = self.columns.iter().filter(|c| c.key_part > 0).collect();
        key.sort_by_key(|column| column.key_part);
        key
    }

    /// The column of this name, which SQLite compares without regard to case.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// What orders the rows, each exactly once: the rowid, or the primary key where there is none.
    /// Quoted, fit for SQL.
    pub(crate) fn order(&self) -> Result<Vec<String>, SourceError> {
        if self.without_rowid {
            return Ok(self.primary_key().iter().map(|column| quoted(&column.name)).collect());
        }
        let free = ["rowid", "_rowid_", "oid"].into_iter().find(|name| self.column(name).is_none());
        free.map(|name| vec![name.to_owned()]).ok_or_else(|| {
            let text = format!("table `{}` hides its rowid behind columns of that name", self.name);
            SourceError::Misconfigured(text)
        })
    }
}

/// All tables, without their columns: names, and whether they have no rowid.
pub(crate) async fn tables(
    database: &Database,
    handle: &mut Handle,
) -> Result<Vec<(String, bool)>, SourceError> {
    let rows = sqlx::query(include_str!("../sql/tables.sql")).fetch_all(handle).await;
    let rows = rows.map_err(|e| database.meaning(e))?;
    let pair = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect::<Result<_, sqlx::Error>>().map_err(|e| database.meaning(e))
}

/// The table called `name`.
pub(crate) async fn table(
    database: &Database,
    handle: &mut Handle,
    name: &str,
) -> Result<Table, SourceError> {
    let known = tables(database, handle).await?;
    let Some((name, without_rowid)) =
        known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).cloned()
    else {
        let listed: Vec<_> = known.iter().take(20).map(|(name, _)| name.as_str()).collect();
        let known = match listed.is_empty() {
            true => "it has no tables".to_owned(),
            false => format!("known: `{}`", listed.join("`, `")),
        };
        let path = database.path().display();
        let text = format!("there is no table `{name}` in {path}; {known}");
        return Err(SourceError::Misconfigured(text));
    };
    let rows = sqlx::query(include_str!("../sql/columns.sql")).bind(&name).fetch_all(handle).await;
    let rows = rows.map_err(|e| database.meaning(e))?;
    let column = |row: &sqlx::sqlite::SqliteRow| {
        Ok(TableColumn {
            name: row.try_get(0)?,
            declared: row.try_get(1)?,
            not_null: row.try_get(2)?,
            key_part: row.try_get(3)?,
        })
    };
    let columns = rows.iter().map(column).collect::<Result<_, sqlx::Error>>();
    let columns = columns.map_err(|e| database.meaning(e))?;
    Ok(Table { name, without_rowid, columns })
}

/// The column as an entity declares it, by the type that the table declares.
pub(crate) fn column_of(table: &Table, column: &TableColumn) -> Column {
    let mut declared = Column::new(&column.name, kind_of(&column.declared));
    if declared.kind == ColumnType::Decimal
        && let Some((precision, scale)) = digits(&column.declared)
    {
        (declared.precision, declared.scale) = (Some(precision), Some(scale));
    }
    let row_id = is_row_id(table, column);
    declared.nullable =
        !(column.not_null || row_id || (column.key_part > 0 && table.without_rowid));
    declared
}

/// Whether the column is another name of the rowid: an integer primary key.
fn is_row_id(table: &Table, column: &TableColumn) -> bool {
    !table.without_rowid
        && table.primary_key().len() == 1
        && column.key_part == 1
        && column.declared.eq_ignore_ascii_case("integer")
}

/// The type that a declared type means: a few well-known names first, then SQLite's affinities.
fn kind_of(declared: &str) -> ColumnType {
    let upper = declared.to_ascii_uppercase();
    let name = upper.split('(').next().unwrap_or_default().trim();
    match name {
        "BOOLEAN" | "BOOL" => return ColumnType::Boolean,
        "DATE" => return ColumnType::Date,
        "DATETIME" => return ColumnType::Timestamp,
        "DECIMAL" | "NUMERIC" if digits(&upper).is_some() => return ColumnType::Decimal,
        _ if name.starts_with("TIMESTAMP") => return ColumnType::Timestamp,
        _ => {}
    }
    let has = |part: &str| name.contains(part);
    if has("INT") {
        ColumnType::Long
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        ColumnType::String
    } else if has("BLOB") {
        ColumnType::Binary
    } else if has("REAL") || has("FLOA") || has("DOUB") || matches!(name, "NUMERIC" | "DECIMAL") {
        ColumnType::Double
    } else {
        ColumnType::String
    }
}

/// Precision and scale of `DECIMAL(12, 2)`, where an exact column can hold them.
fn digits(declared: &str) -> Option<(u8, u8)> {
    let (_, inside) = declared.split_once('(')?;
    let inside = inside.strip_suffix(')')?;
    let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=38).contains(&precision) && scale <= precision).then_some((precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_become_ours_and_unknown_ones_text() {
        use ColumnType::{Binary, Boolean, Date, Decimal, Double, Long, String, Timestamp};
        for (declared, kind) in [
            ("INTEGER", Long),
            ("UNSIGNED BIG INT", Long),
            ("VARCHAR(20)", String),
            ("text", String),
            ("BLOB", Binary),
            ("REAL", Double),
            ("double precision", Double),
            ("FLOAT", Double),
            ("DECIMAL(12, 2)", Decimal),
            ("NUMERIC", Double),
            ("DECIMAL(50,2)", Double),
            ("BOOLEAN", Boolean),
            ("DATE", Date),
            ("DATETIME", Timestamp),
            ("TIMESTAMP WITH TIME ZONE", Timestamp),
            ("", String),
            ("GEOMETRY", String),
        ] {
            assert_eq!(kind_of(declared), kind, "{declared}");
        }
        assert_eq!(digits("DECIMAL(12, 2)"), Some((12, 2)));
    }
}

//! Completes what was declared with what the tables know, and finds the tables that were asked for
//! without being declared.

use std::collections::HashSet;

use alluvium_connector::{carry_run_start, parse_source, require_snapshot_sequence};
use alluvium_model::metadata::{Load, SequenceBy};
use alluvium_model::sequence::parse_timestamp;
use alluvium_model::{Column, ColumnType, EntityName, EntitySpec, SourceError, SystemName};
use jiff::tz::TimeZone;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection as Handle};

use crate::catalog::{self, Table, column_of};
use crate::database::Database;
use crate::query::quoted;
use crate::settings::{NullCursor, SqliteEntity, Tables, default_rows};

/// How many rows are looked at to tell how a table writes its times.
const SAMPLE: u32 = 1_000;

/// Completes an entity by its table.
pub(crate) async fn complete(
    database: &Database,
    handle: &mut Handle,
    mut entity: EntitySpec,
) -> Result<EntitySpec, SourceError> {
    let settings: SqliteEntity = parse_source(&entity)?;
    let table = catalog::table(database, handle, &settings.table).await?;
    let misfit = |what: String| {
        SourceError::Misconfigured(format!("entity `{}.{}`: {what}", entity.system, entity.name))
    };
    check_cursor(&entity, &settings, &table).map_err(misfit)?;
    let found = columns_of(&table, settings.rowid_key).map_err(misfit)?;
    if entity.keys.is_empty() {
        entity.keys = keys_of(&table, &found, settings.rowid_key).map_err(misfit)?;
    }
    if entity.columns.is_empty() {
        entity.columns = found.into_iter().map(|(_, column)| column).collect();
        sample_times(database, handle, &table, &settings, &mut entity.columns).await?;
    }
    check_columns(&entity, &table).map_err(misfit)?;
    order(&mut entity, &settings)?;
    Ok(entity)
}

/// The entities for the tables that `wanted` names and nobody declared.
pub(crate) async fn undeclared(
    database: &Database,
    handle: &mut Handle,
    system: &SystemName,
    wanted: &Tables,
    declared: &[EntitySpec],
) -> Result<Vec<EntitySpec>, SourceError> {
    let mut names: HashSet<EntityName> = declared.iter().map(|e| e.name.clone()).collect();
    let taken: Vec<String> = declared
        .iter()
        .map(|entity| Ok(parse_source::<SqliteEntity>(entity)?.table.to_ascii_lowercase()))
        .collect::<Result<_, SourceError>>()?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (name, _) in catalog::tables(database, handle).await? {
        if !selects(wanted, &name) || taken.contains(&name.to_ascii_lowercase()) {
            continue;
        }
        let table = catalog::table(database, handle, &name).await?;
        match entity_of(system, wanted, &table) {
            Ok(entity) if names.insert(entity.name.clone()) => found.push(entity),
            Ok(entity) => problems.push(format!(
                "table `{name}` would be called `{}`, which is taken; declare it under another name",
                entity.name
            )),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(SourceError::Misconfigured(problems.join("; ")))
    }
}

/// The columns that an entity declares and its table does not have.
pub(crate) fn check_columns(entity: &EntitySpec, table: &Table) -> Result<(), String> {
    for column in &entity.columns {
        let member = match &column.path {
            None => column.name.clone(),
            Some(path) => match path.strip_prefix('/') {
                Some(pointer) => pointer
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .replace("~1", "/")
                    .replace("~0", "~"),
                None => continue,
            },
        };
        if member != "rowid" && !table.columns.iter().any(|known| known.name == member) {
            let known: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
            let known = known.join("`, `");
            return Err(format!(
                "table `{}` has no column `{member}`; known: `{known}`",
                table.name
            ));
        }
    }
    Ok(())
}

fn check_cursor(entity: &EntitySpec, settings: &SqliteEntity, table: &Table) -> Result<(), String> {
    match (&settings.cursor_column, entity.load) {
        (None, Load::Delta) => Err("`load: delta` needs a `cursor_column`".to_owned()),
        (Some(_), Load::Full) => Err("a `cursor_column` needs `load: delta`".to_owned()),
        (Some(name), Load::Delta) if table.column(name).is_none() => {
            Err(format!("table `{}` has no column `{name}` to be its cursor", table.name))
        }
        _ => Ok(()),
    }
}

/// Fills in what orders the rows.
fn order(entity: &mut EntitySpec, settings: &SqliteEntity) -> Result<(), SourceError> {
    if entity.load == Load::Full {
        return require_snapshot_sequence(entity);
    }
    if !entity.sequence_by.is_empty() {
        return Ok(());
    }
    use ColumnType::{Byte, Decimal, Integer, Long, Short, Timestamp};
    let cursor = entity.columns.iter().find(|column| {
        let member =
            column.path.as_deref().map_or(column.name.as_str(), |p| p.trim_start_matches('/'));
        settings.cursor_column.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(member))
            && matches!(column.kind, Byte | Short | Integer | Long | Decimal | Timestamp)
    });
    match cursor.map(|column| column.name.clone()) {
        Some(name) => entity.sequence_by = vec![SequenceBy::Column(name)],
        None => carry_run_start(entity),
    }
    Ok(())
}

fn keys_of(
    table: &Table,
    columns: &[(String, Column)],
    rowid_key: bool,
) -> Result<Vec<String>, String> {
    let key = table.primary_key();
    if rowid_key && key.is_empty() {
        return Ok(vec!["rowid".to_owned()]);
    }
    if key.is_empty() {
        return Err(no_key(&table.name));
    }
    let renamed = |name: &str| {
        let known = columns.iter().find(|(original, _)| original == name);
        known.map_or(name.to_owned(), |(_, column)| column.name.clone())
    };
    Ok(key.iter().map(|column| renamed(&column.name)).collect())
}

fn no_key(table: &str) -> String {
    format!(
        "table `{table}` has no primary key; declare `keys`, set `rowid_key`, or leave it out with \
         `exclude`"
    )
}

/// The table's columns as an entity declares them, beside the names that they have in the table.
fn columns_of(table: &Table, rowid_key: bool) -> Result<Vec<(String, Column)>, String> {
    let mut columns: Vec<(String, Column)> = Vec::new();
    if rowid_key {
        if table.without_rowid || table.column("rowid").is_some() {
            return Err(format!("table `{}` has no rowid to be its key", table.name));
        }
        let mut rowid = Column::new("rowid", ColumnType::Long);
        rowid.nullable = false;
        columns.push(("rowid".to_owned(), rowid));
    }
    for known in &table.columns {
        let mut column = column_of(table, known);
        column.name = fit_name(&known.name);
        while columns.iter().any(|(_, other)| other.name.eq_ignore_ascii_case(&column.name)) {
            column.name.push('_');
        }
        if column.name != known.name {
            let pointer = known.name.replace('~', "~0").replace('/', "~1");
            column.path = Some(format!("/{pointer}"));
        }
        columns.push((known.name.clone(), column));
    }
    Ok(columns)
}

/// A column name that Parquet and Delta take and that is not one of ours.
fn fit_name(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.starts_with('_') || name.is_empty() { format!("c{name}") } else { name }
}

/// Columns of times are such only if the table writes them as text: a number in a `DATETIME` may
/// count seconds, milliseconds or days, and nothing tells which. A cursor column of text is taken
/// for a time if it reads as one.
async fn sample_times(
    database: &Database,
    handle: &mut Handle,
    table: &Table,
    settings: &SqliteEntity,
    columns: &mut [Column],
) -> Result<(), SourceError> {
    let pairs = table.columns.iter().zip(columns.iter_mut().skip(usize::from(settings.rowid_key)));
    for (known, column) in pairs {
        let cursor = settings.cursor_column.as_deref();
        let is_cursor = cursor.is_some_and(|name| name.eq_ignore_ascii_case(&known.name));
        let may_be = matches!(column.kind, ColumnType::Timestamp | ColumnType::Date);
        let text_cursor = is_cursor && column.kind == ColumnType::String;
        if !(may_be || text_cursor) {
            continue;
        }
        let (name, from) = (quoted(&known.name), quoted(&table.name));
        let sql = format!(
            "SELECT typeof(v), CAST(v AS TEXT) FROM (SELECT {name} AS v FROM {from} LIMIT {SAMPLE}) \
             WHERE v IS NOT NULL LIMIT 1"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut *handle).await;
        let row = row.map_err(|e| database.meaning(e))?;
        let sample = row.and_then(|row| {
            Some((row.try_get::<String, _>(0).ok()?, row.try_get::<String, _>(1).ok()?))
        });
        column.kind = match sample {
            None => column.kind,
            Some((class, _)) if class == "integer" => ColumnType::Long,
            Some((class, _)) if class == "real" => ColumnType::Double,
            Some((_, text)) if parse_timestamp(&text, &TimeZone::UTC).is_err() => {
                ColumnType::String
            }
            Some(_) if column.kind == ColumnType::String => ColumnType::Timestamp,
            Some(_) => column.kind,
        };
    }
    Ok(())
}

fn entity_of(system: &SystemName, wanted: &Tables, table: &Table) -> Result<EntitySpec, String> {
    let cursor = wanted.cursor_column.as_deref().and_then(|name| table.column(name));
    let cursor = cursor.filter(|_| wanted.load == Load::Delta);
    let no_key = table.primary_key().is_empty();
    if no_key && !wanted.rowid_key {
        return Err(self::no_key(&table.name));
    }
    let source = SqliteEntity {
        table: table.name.clone(),
        cursor_column: cursor.map(|column| column.name.clone()),
        overlap: if cursor.is_some() { wanted.overlap } else { 0 },
        null_cursor: NullCursor::Read,
        rowid_key: no_key,
        page_rows: default_rows(),
    };
    let load = if cursor.is_some() { Load::Delta } else { Load::Full };
    let name = entity_name(&table.name);
    let spec = serde_json::json!({"system": system, "name": name, "load": load, "source": source});
    serde_json::from_value(spec)
        .map_err(|e| format!("table `{}` needs a declared entity: {e}", table.name))
}

/// The entity's name for a table: lower-case, what does not fit as `_`.
fn entity_name(table: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = table.chars().map(fits).collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { format!("t_{name}") }
}

fn selects(wanted: &Tables, name: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
    any(&wanted.include) && !any(&wanted.exclude)
}

/// Whether a name fits a pattern with `*` and `?`, without regard to case.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, eaten)) = star {
            star = Some((at, eaten + 1));
            (p, n) = (at + 1, eaten + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_select_tables() {
        for (pattern, name, fits) in [
            ("*", "orders", true),
            ("order?", "orders", true),
            ("ORD*", "orders", true),
            ("*_log", "audit_log", true),
            ("*_log", "logs", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "x", false),
            ("orders", "orders2", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn names_are_made_to_fit() {
        assert_eq!(entity_name("Order Lines"), "order_lines");
        assert_eq!(entity_name("2024"), "t_2024");
        assert_eq!(fit_name("unit price (€)"), "unit_price____");
        assert_eq!(fit_name("_id"), "c_id");
    }
}

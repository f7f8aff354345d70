//! The tables as they stand, read-only, for who asks in SQL.

use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use super::fields::Fields;
use super::statement::{On, Row, statement};
use super::{postgres, sqlite};
use crate::{LedgerError, Place};

const TABLES: [&str; 2] = [
    include_str!("../../queries/sqlite/tables.sql"),
    include_str!("../../queries/postgres/tables.sql"),
];
const COLUMNS: [&str; 2] = [
    include_str!("../../queries/sqlite/columns.sql"),
    include_str!("../../queries/postgres/columns.sql"),
];

const DOING: &str = "read its tables";

/// The tables of a ledger, whoever else has it open.
#[derive(Debug, Clone)]
pub struct LedgerTables {
    place: Place,
}

impl LedgerTables {
    /// The tables of the ledger at `place`. Nothing is opened yet, and nothing is ever made.
    pub fn at(place: impl Into<Place>) -> Self {
        Self { place: place.into() }
    }

    /// A connection that cannot write; `None` if there is no such file yet.
    pub async fn connect(&self) -> Result<Option<LedgerReader>, LedgerError> {
        Ok(Some(LedgerReader(match &self.place {
            Place::File(path) if !path.exists() => return Ok(None),
            Place::File(path) => Connection::Sqlite(sqlite::reader(path, DOING).await?),
            Place::Server(server) => {
                Connection::Postgres(postgres::reader(server, DOING).await?, server.statement_time)
            }
        })))
    }
}

/// A connection that cannot write.
#[derive(Debug)]
pub struct LedgerReader(Connection);

#[derive(Debug)]
enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection, Duration),
}

/// How a column's values are read. The tables know no other types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A whole number of 64 bits.
    Number,
    /// Bytes.
    Bytes,
    /// Text.
    Text,
}

impl LedgerReader {
    /// The names of the tables and views, in their order.
    pub async fn tables(&mut self) -> Result<Vec<String>, LedgerError> {
        let rows = statement(self.told(TABLES)).fetch_all(self, DOING).await?;
        rows.iter().map(|row| Fields(row).get("name")).collect()
    }

    /// The columns of a table; none if there is no such table.
    pub async fn columns(&mut self, table: &str) -> Result<Vec<(String, ColumnKind)>, LedgerError> {
        let rows = statement(self.told(COLUMNS)).bind(table).fetch_all(self, DOING).await?;
        rows.iter().map(|row| column(&Fields(row))).collect()
    }

    /// The rows of a table as they come: these columns in this order, at most `limit` rows.
    pub fn rows(
        &mut self,
        table: &str,
        columns: &[&str],
        limit: Option<usize>,
    ) -> BoxStream<'_, Result<LedgerRow, LedgerError>> {
        let select = AssertSqlSafe(select(table, columns, limit));
        Box::pin(statement(select).fetch(self, DOING).map_ok(LedgerRow))
    }

    fn told(&self, [sqlite, postgres]: [&'static str; 2]) -> &'static str {
        match self.0 {
            Connection::Sqlite(_) => sqlite,
            Connection::Postgres(..) => postgres,
        }
    }
}

impl<'a> From<&'a mut LedgerReader> for On<'a> {
    fn from(reader: &'a mut LedgerReader) -> Self {
        match &mut reader.0 {
            Connection::Sqlite(on) => On::SqliteConnection(on),
            Connection::Postgres(on, limit) => On::PostgresConnection(on, *limit),
        }
    }
}

/// A row of a table.
pub struct LedgerRow(Row);

impl LedgerRow {
    /// The number in the column of this number.
    pub fn number(&self, column: usize) -> Result<Option<i64>, LedgerError> {
        self.0.get(column).map_err(unreadable(column))
    }

    /// The bytes in the column of this number.
    pub fn bytes(&self, column: usize) -> Result<Option<&[u8]>, LedgerError> {
        self.0.get(column).map_err(unreadable(column))
    }

    /// The text in the column of this number.
    pub fn text(&self, column: usize) -> Result<Option<&str>, LedgerError> {
        self.0.get(column).map_err(unreadable(column))
    }
}

fn unreadable(column: usize) -> impl Fn(sqlx::Error) -> LedgerError {
    move |error| LedgerError::Corrupt(format!("column {column} that was asked for: {error}"))
}

fn column(row: &Fields<'_>) -> Result<(String, ColumnKind), LedgerError> {
    Ok((row.get("name")?, kind(row.get("type")?)))
}

/// By the words of either engine.
fn kind(declared: &str) -> ColumnKind {
    match declared {
        "INTEGER" | "bigint" => ColumnKind::Number,
        "BLOB" | "bytea" => ColumnKind::Bytes,
        _ => ColumnKind::Text,
    }
}

/// Names come from the database itself, and are quoted nonetheless.
fn select(table: &str, columns: &[&str], limit: Option<usize>) -> String {
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    // Where only the count of rows is asked for, a column is needed all the same.
    let columns = if columns.is_empty() { "1".to_owned() } else { columns.join(", ") };
    let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    format!("SELECT {columns} FROM {}{limit}", quoted(table))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

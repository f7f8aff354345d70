//! Statements and rows of either engine.
//!
//! A statement is one text for both: `$1` is a place for a value in SQLite as in PostgreSQL. Values
//! are numbers, text and bytes; the tables know no other types.

use std::future::Future;
use std::io;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    ColumnIndex, Decode, PgConnection, PgPool, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite,
    SqliteConnection, SqlitePool, Type,
};

use super::failure::failed;
use crate::LedgerError;

/// A statement, and the values for its places in their order.
pub(super) struct Statement {
    sql: SqlStr,
    values: Vec<Value>,
}

/// A statement without values yet.
pub(super) fn statement(sql: impl SqlSafeStr) -> Statement {
    Statement { sql: sql.into_sql_str(), values: Vec::new() }
}

/// What comes of a statement. Boxed, so that the library's futures, four to a call, end here.
pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// Where a statement is executed; for a server also how long it may take to answer.
pub(super) enum On<'a> {
    SqlitePool(&'a SqlitePool),
    SqliteConnection(&'a mut SqliteConnection),
    PostgresPool(&'a PgPool, Duration),
    PostgresConnection(&'a mut PgConnection, Duration),
}

/// Gives the statement to a method of the library, on whichever engine, and reads what comes back.
macro_rules! given {
    ($statement:ident, $on:expr, $method:ident, $read:expr) => {
        match $on {
            On::SqlitePool(on) => $statement.sqlite().$method(on).await.map($read),
            On::SqliteConnection(on) => $statement.sqlite().$method(on).await.map($read),
            On::PostgresPool(on, limit) => {
                within(limit, $statement.postgres().$method(on)).await.map($read)
            }
            On::PostgresConnection(on, limit) => {
                within(limit, $statement.postgres().$method(on)).await.map($read)
            }
        }
    };
}

/// The library's query of one engine, with all values.
macro_rules! bound {
    ($statement:ident, $engine:ty) => {{
        let query = sqlx::query::<$engine>($statement.sql);
        $statement.values.into_iter().fold(query, |query, value| match value {
            Value::Number(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }};
}

impl Statement {
    /// The next value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows it altered.
    pub(super) fn execute<'a>(self, on: impl Into<On<'a>>, doing: &'static str) -> Answer<'a, u64> {
        let on = on.into();
        Box::pin(async move {
            given!(self, on, execute, |done| done.rows_affected()).map_err(failed(doing))
        })
    }

    /// All its rows.
    pub(super) fn fetch_all<'a>(
        self,
        on: impl Into<On<'a>>,
        doing: &'static str,
    ) -> Answer<'a, Vec<Row>> {
        let on = on.into();
        Box::pin(async move {
            given!(self, on, fetch_all, |rows| rows.into_iter().map(Row::from).collect())
                .map_err(failed(doing))
        })
    }

    /// Its first row, if it has one.
    pub(super) fn fetch_optional<'a>(
        self,
        on: impl Into<On<'a>>,
        doing: &'static str,
    ) -> Answer<'a, Option<Row>> {
        let on = on.into();
        Box::pin(async move {
            given!(self, on, fetch_optional, |row| row.map(Row::from)).map_err(failed(doing))
        })
    }

    /// Its rows as they come. The time between two of them is not bounded: who reads may be slow.
    pub(super) fn fetch<'a>(
        self,
        on: impl Into<On<'a>>,
        doing: &'static str,
    ) -> BoxStream<'a, Result<Row, LedgerError>> {
        match on.into() {
            On::SqlitePool(on) => rows(self.sqlite().fetch(on), doing),
            On::SqliteConnection(on) => rows(self.sqlite().fetch(on), doing),
            On::PostgresPool(on, _) => rows(self.postgres().fetch(on), doing),
            On::PostgresConnection(on, _) => rows(self.postgres().fetch(on), doing),
        }
    }

    fn sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        bound!(self, Sqlite)
    }

    fn postgres(self) -> Query<'static, Postgres, PgArguments> {
        bound!(self, Postgres)
    }
}

fn rows<'a, R: Into<Row> + 'a>(
    rows: BoxStream<'a, Result<R, sqlx::Error>>,
    doing: &'static str,
) -> BoxStream<'a, Result<Row, LedgerError>> {
    Box::pin(rows.map_ok(Into::into).map_err(failed(doing)))
}

/// What a server answers within `limit`. A machine that is gone answers nothing, not even that.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = |_| {
        let said = format!("no answer came within {} seconds", limit.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, said)))
    };
    tokio::time::timeout(limit, answer).await.unwrap_or_else(late)
}

/// A value for a place in a statement.
pub(super) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(Some(number.into()))
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Number(Some(yes.into()))
    }
}

/// PostgreSQL's text holds no NUL, which what others say may contain.
impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(|text| text.replace('\0', "\u{fffd}")))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Some(text).into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// A row of either engine.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl Row {
    /// The value in a column, by its name or number.
    pub(super) fn get<'r, T, I>(&'r self, column: I) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

//! A SQLite database as a source: one page per poll, progress in the cursor.

use std::sync::Arc;

use alluvium_connector::{RunStart, parse_source};
use alluvium_model::metadata::{Load, SequenceBy};
use alluvium_model::{
    Change, Clock, Control, Cursor, Discovery, EntitySpec, Op, Page, Record, Source, SourceError,
    SystemName,
};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::tz::TimeZone;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection as Handle};

use crate::catalog::{self, Table};
use crate::cursor::{Phase, Run, Stored, TableCursor};
use crate::database::Database;
use crate::discover;
use crate::query::{page_query, quoted};
use crate::reach;
use crate::rows::{Members, stored};
use crate::settings::{NullCursor, SqliteEntity, Tables};

/// A page ends early when its rows have so many bytes.
const PAGE_BYTES: usize = 16 << 20;

/// A SQLite database.
pub(crate) struct SqliteSource {
    pub(crate) name: SystemName,
    pub(crate) database: Database,
    pub(crate) tables: Option<Tables>,
    pub(crate) zone: TimeZone,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a poll reads, and with what.
struct Reader<'a> {
    database: &'a Database,
    entity: &'a EntitySpec,
    table: &'a Table,
    settings: &'a SqliteEntity,
    order: Vec<String>,
    columns: Vec<String>,
    members: Members,
    carries: bool,
}

impl SqliteSource {
    async fn page(
        &self,
        handle: &mut Handle,
        entity: &EntitySpec,
        at: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        let settings: SqliteEntity = parse_source(entity)?;
        let table = catalog::table(&self.database, handle, &settings.table).await?;
        let reader = Reader::new(&self.database, entity, &table, &settings)?;
        let plan = format!("{:?} {} {:?}", entity.load, table.name, settings.cursor_column);
        let cursor = TableCursor::read(at, &plan)?;
        let mut run = match cursor.run.clone() {
            Some(run) => run,
            None => self.begin(handle, &reader, &cursor).await?,
        };
        let mut records = Vec::new();
        loop {
            let full = reader.read(handle, &mut run, &mut records).await?;
            if full {
                let next = TableCursor { run: Some(run), ..cursor }.write()?;
                return Ok(Page { records, next: Some(next), more: true });
            }
            if run.phase == Phase::Rows {
                break;
            }
            (run.phase, run.after) = (Phase::Rows, Vec::new());
        }
        self.finish(entity, cursor, run, records)
    }

    async fn begin(
        &self,
        handle: &mut Handle,
        reader: &Reader<'_>,
        cursor: &TableCursor,
    ) -> Result<Run, SourceError> {
        let reads_nulls = reader.settings.null_cursor == NullCursor::Read;
        let mut phase = Phase::Rows;
        let mut low = None;
        if let Some(column) = &reader.settings.cursor_column {
            reader.check_classes(handle, column).await?;
            phase = if reads_nulls { Phase::Nulls } else { Phase::Rows };
            low = match &cursor.high {
                Some(high) => {
                    Some(reach::back(high, reader.settings.overlap).ok_or_else(|| {
                        reader.misfit("an overlap needs a cursor column of numbers or times")
                    })?)
                }
                None => None,
            };
        }
        let started = RunStart::after(cursor.last, &*self.clock);
        Ok(Run { started, phase, low, after: Vec::new(), max: None, rows: 0 })
    }

    /// The page after which the run is finished.
    fn finish(
        &self,
        entity: &EntitySpec,
        cursor: TableCursor,
        run: Run,
        mut records: Vec<Record>,
    ) -> Result<Page, SourceError> {
        if entity.load == Load::Full {
            records.push(Record::Control(Control::SnapshotEnd {
                snapshot: run.started.snapshot(),
                sequence: run.started.sequence(),
                rows: run.rows,
            }));
        } else if run.rows == 0 {
            return Ok(Page { records, next: None, more: false });
        }
        let now = run.started.timestamp();
        let high = run.max.map(|max| reach::at_most(max, now, &self.zone)).or(cursor.high);
        let last = Some(run.started);
        let next = TableCursor { plan: cursor.plan, last, high, run: None }.write()?;
        Ok(Page { records, next: Some(next), more: false })
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError> {
        let mut handle = self.database.open().await?;
        let mut entities = declared.to_vec();
        if let Some(wanted) = &self.tables {
            let (database, name) = (&self.database, &self.name);
            let found = discover::undeclared(database, &mut handle, name, wanted, declared).await?;
            entities.extend(found);
        }
        let mut found = Discovery::default();
        for entity in entities {
            let id = entity.id();
            found.add(id, discover::complete(&self.database, &mut handle, entity).await)?;
        }
        Database::close(handle).await;
        Ok(found)
    }

    async fn poll(
        &mut self,
        entity: &EntitySpec,
        cursor: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        let mut handle = self.database.open().await?;
        let page = self.page(&mut handle, entity, cursor).await;
        Database::close(handle).await;
        page
    }

    async fn acknowledge(&mut self, _: &EntitySpec, _: &Cursor) -> Result<(), SourceError> {
        // A database that is only read keeps nothing for us.
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn new(
        database: &'a Database,
        entity: &'a EntitySpec,
        table: &'a Table,
        settings: &'a SqliteEntity,
    ) -> Result<Self, SourceError> {
        let order = table.order()?;
        let mut names: Vec<&str> =
            table.columns.iter().map(|column| column.name.as_str()).collect();
        let mut columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        if settings.rowid_key {
            columns.extend(order.iter().cloned());
            names.push("rowid");
        }
        let members = Members::new(names);
        let carried = |part: &SequenceBy| matches!(part, SequenceBy::Carried { .. });
        let carries = entity.sequence_by.iter().any(carried);
        let reader = Self { database, entity, table, settings, order, columns, members, carries };
        discover::check_columns(entity, table).map_err(|what| reader.misfit(&what))?;
        Ok(reader)
    }

    /// Reads rows until the page is full (true) or the run's phase is at its end (false).
    async fn read(
        &self,
        handle: &mut Handle,
        run: &mut Run,
        records: &mut Vec<Record>,
    ) -> Result<bool, SourceError> {
        let limit = self.settings.page_rows.clamp(1, 1_000_000);
        let cursor = self.settings.cursor_column.as_deref();
        let query = page_query(&self.table.name, &self.order, cursor, &self.columns, run, limit);
        let mut statement = sqlx::query(AssertSqlSafe(query.sql));
        for value in query.binds {
            statement = match value {
                Stored::Integer(value) => statement.bind(value),
                Stored::Real(value) => statement.bind(value),
                Stored::Text(value) => statement.bind(value),
                Stored::Blob(value) => statement.bind(value),
            };
        }
        let (mut rows, mut bytes) = (0, 0);
        let mut stream = statement.fetch(handle);
        while let Some(row) = stream.try_next().await.map_err(|e| self.database.meaning(e))? {
            let change = self.change(&row, run)?;
            bytes += change.after.as_ref().map_or(0, |json| json.get().len());
            records.push(Record::Change(change));
            (rows, run.rows) = (rows + 1, run.rows + 1);
            if bytes >= PAGE_BYTES {
                return Ok(true);
            }
        }
        Ok(rows == limit)
    }

    /// A row as a change; the run goes on after it.
    fn change(&self, row: &SqliteRow, run: &mut Run) -> Result<Change, SourceError> {
        let mut first = self.order.len();
        let mut after = Vec::with_capacity(first + 1);
        if self.settings.cursor_column.is_some() {
            if run.phase == Phase::Rows {
                run.max = stored(row, first)?;
                after.extend(run.max.clone());
            }
            first += 1;
        }
        for at in 0..self.order.len() {
            after.extend(stored(row, at)?);
        }
        run.after = after;
        let mut change = Change::upsert(self.members.json(row, first)?);
        if self.entity.load == Load::Full {
            change.op = Op::Read;
            change.snapshot = Some(run.started.snapshot());
        }
        if self.carries {
            change.sequence = run.started.sequence();
        }
        Ok(change)
    }

    /// A cursor column with both numbers and texts would hide rows: all texts sort after all
    /// numbers.
    async fn check_classes(&self, handle: &mut Handle, column: &str) -> Result<(), SourceError> {
        let (name, table) = (quoted(column), quoted(&self.table.name));
        let sql = format!(
            "SELECT (SELECT typeof(min({name})) FROM {table}), (SELECT typeof(max({name})) FROM {table})"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(handle).await;
        let row = row.map_err(|e| self.database.meaning(e))?;
        let class = |at: usize| -> Result<String, SourceError> {
            let class: String = row.try_get(at).map_err(|e| self.database.meaning(e))?;
            Ok(if class == "integer" || class == "real" { "number".to_owned() } else { class })
        };
        let (lowest, highest) = (class(0)?, class(1)?);
        if lowest != highest {
            return Err(self.misfit(&format!(
                "the cursor column `{column}` holds both {lowest} and {highest} values, which do not \
                 sort by time"
            )));
        }
        Ok(())
    }

    fn misfit(&self, what: &str) -> SourceError {
        SourceError::Misconfigured(format!("entity `{}`: {what}", self.entity.id()))
    }
}

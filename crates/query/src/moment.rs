//! From which moment tables are looked at, in either of two times: when rows were valid, and when
//! the tables were as they are shown.

use std::fmt;

use alluvium_lake::Versions;
use deltalake::datafusion::common::TableReference;
use jiff::Timestamp;

use crate::catalog::{BRONZE, DEFAULT, LEDGER, MAIN, NAMES, NOWHERE, SILVER};
use crate::{QueryError, TableName, statement};

/// A moment from which tables are looked at; by default now, and all versions of every row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// Valid time: of silver only what was valid then, as text in the sequence type of each entity
    /// that is asked for. An instant without zone is UTC.
    pub as_of: Option<String>,
    /// Table time: bronze and silver as they stood.
    pub table: Option<TableTime>,
}

/// As of which commit a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableTime {
    /// This version of the one table that a statement names.
    Version(u64),
    /// Of each table the newest version that was committed then or before.
    At(Timestamp),
}

impl Moment {
    /// Whether all tables that a statement names can be seen from here.
    pub(crate) fn check(&self, names: &[TableReference]) -> Result<(), QueryError> {
        if *self == Self::default() {
            return Ok(());
        }
        if names.iter().any(statement::is_about_tables) {
            return refused(
                "the list of tables and columns is as it is now; DESCRIBE shows a table",
            );
        }
        let tables = tables(names);
        if self.as_of.is_some() && !tables.iter().any(|table| table.catalog == SILVER) {
            return refused("--as-of is for tables of silver, and the statement names none");
        }
        match self.table {
            Some(time) => time.check(&tables),
            None => Ok(()),
        }
    }
}

impl TableTime {
    fn check(self, tables: &[TableName]) -> Result<(), QueryError> {
        if let Some(table) = tables.iter().find(|table| ![BRONZE, SILVER].contains(&table.catalog))
        {
            let table = table.to_string();
            return refused(format!("{table} has no versions: only bronze and silver have"));
        }
        match (self, tables) {
            (_, []) => refused("only bronze and silver have versions, and no table is named"),
            (Self::At(_), _) | (_, [_]) => Ok(()),
            (Self::Version(_), many) => refused(format!(
                "--version is for one table, and the statement names {}: use --at TIMESTAMP, which \
                 finds the version of each",
                many.len()
            )),
        }
    }

    /// The version of the table called `name` that is meant.
    pub(crate) async fn choose(
        self,
        versions: &Versions,
        name: &TableName,
    ) -> Result<u64, QueryError> {
        let found = match self {
            Self::Version(version) => {
                i64::try_from(version).ok().filter(|version| versions.contains(*version))
            }
            Self::At(time) => versions.newest_at(time.as_millisecond()).await?,
        };
        match found.and_then(|version| u64::try_from(version).ok()) {
            Some(version) => Ok(version),
            None => self.not_there(versions, name).await,
        }
    }

    /// Why the version that is meant cannot be read, and which can.
    async fn not_there(self, versions: &Versions, name: &TableName) -> Result<u64, QueryError> {
        let oldest = Committed::of(versions, versions.oldest()).await?;
        match self {
            Self::Version(version) if i128::from(version) > i128::from(versions.newest()) => {
                let newest = Committed::of(versions, versions.newest()).await?;
                refused(format!("{name} has no version {version} yet: the newest is {newest}"))
            }
            Self::At(time) if versions.oldest() == 0 => {
                refused(format!("{name} was not there at {time}: it began with version {oldest}"))
            }
            Self::Version(version) => refused(format!(
                "version {version} of {name} was cleaned away: the oldest left is {oldest}"
            )),
            Self::At(time) => refused(format!(
                "what {name} was at {time} was cleaned away: the oldest version left is {oldest}"
            )),
        }
    }
}

/// A version and its time, for people.
struct Committed {
    version: i64,
    at: Option<Timestamp>,
}

impl Committed {
    async fn of(versions: &Versions, version: i64) -> Result<Self, QueryError> {
        let at = versions.committed_at(version).await?;
        Ok(Self { version, at: at.and_then(|millis| Timestamp::from_millisecond(millis).ok()) })
    }
}

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{}, committed at {at}", self.version),
            None => write!(f, "{}", self.version),
        }
    }
}

/// The tables that the names mean, each once. Functions that give rows are none.
fn tables(names: &[TableReference]) -> Vec<TableName> {
    let mut tables = Vec::new();
    for name in names {
        let table = match name {
            TableReference::Partial { schema, table } if schema.as_ref() == LEDGER => {
                TableName::new(LEDGER, MAIN, table)
            }
            name => {
                let name = name.clone().resolve(DEFAULT, NOWHERE);
                let catalog = NAMES.into_iter().find(|known| *known == name.catalog.as_ref());
                match catalog.filter(|_| name.schema.as_ref() != NOWHERE) {
                    Some(catalog) => TableName::new(catalog, &name.schema, &name.table),
                    None => continue,
                }
            }
        };
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    tables
}

fn refused<T>(why: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::Moment(why.into()))
}

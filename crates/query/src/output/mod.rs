//! Answers as text: a table for people; JSON, NDJSON and CSV for programs.
//!
//! In all of them bytes are lower-case hexadecimal digits, instants are RFC 3339 with `Z`, decimals
//! have all their digits, and a value that is not there differs from empty text. In JSON decimals
//! are strings, so that no reader rounds them, as are NaN and the infinities, which JSON has not.

mod cell;
mod csv;
mod json;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use arrow::array::RecordBatch;

use crate::{QueryError, Rows};
use csv::Csv;
use json::Json;
use table::Table;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A table for people.
    Table,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180 with a header; null is nothing, empty text is `""`.
    Csv,
}

/// Text that is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format: it is table, json, ndjson or csv")]
pub struct FormatError(String);

impl Format {
    /// All formats.
    pub const ALL: [Format; 4] = [Format::Table, Format::Json, Format::Ndjson, Format::Csv];

    /// The format's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = FormatError;
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let named = Self::ALL.into_iter().find(|format| format.as_str() == text);
        named.ok_or_else(|| FormatError(text.to_owned()))
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many rows.
    pub rows: u64,
    /// Whether the limit kept more of them back.
    pub truncated: bool,
}

/// Writes an answer as it comes, batch by batch. Nothing is written of one that fails before its
/// first row. One that fails later is a [`QueryError::BrokenOff`]: what was written stays without its
/// end, so that a JSON array which is not whole does not read as if it were. A reader that went away
/// ends the query, and is an [`QueryError::Output`] of the kind [`io::ErrorKind::BrokenPipe`].
pub async fn write(
    mut rows: Rows,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<Written, QueryError> {
    let mut layout: Box<dyn Layout> = match format {
        Format::Table => Box::new(Table::new(rows.schema())),
        Format::Json => Box::new(Json::array(rows.schema())),
        Format::Ndjson => Box::new(Json::lines(rows.schema())),
        Format::Csv => Box::new(Csv::new(rows.schema())),
    };
    let mut written = 0;
    let mut next = rows.next().await?;
    layout.begin(out).map_err(QueryError::Output)?;
    while let Some(batch) = next {
        written += batch.num_rows() as u64;
        let batch = cell::plain(&batch)?;
        layout.rows(&batch, out).map_err(QueryError::Output)?;
        next = rows.next().await.map_err(|error| QueryError::BrokenOff(Box::new(error)))?;
    }
    layout.end(out).and_then(|()| out.flush()).map_err(QueryError::Output)?;
    Ok(Written { rows: written, truncated: rows.truncated() })
}

/// One way to write rows.
trait Layout: Send {
    /// What stands before the first row.
    fn begin(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()>;
    fn rows(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> io::Result<()>;
    /// What stands after the last row.
    fn end(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()>;
}

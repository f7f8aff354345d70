//! What is printed: tables for people, one JSON document for programs.

use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Tables.
    Text,
    /// One JSON document.
    Json,
}

/// What a measurement found.
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) tables: Vec<Table>,
    /// What is to be known of the figures.
    pub(crate) notes: Vec<String>,
    /// What must not be.
    pub(crate) findings: Vec<String>,
    /// The same as JSON, with all single values.
    pub(crate) json: Value,
}

impl Report {
    pub(crate) fn print(&self, output: Output) {
        if output == Output::Json {
            println!("{:#}", self.json);
            return;
        }
        println!("{}", self.title);
        for table in self.tables.iter().filter(|table| !table.rows.is_empty()) {
            println!("\n{table}");
        }
        for note in self.notes.iter().chain(&self.findings) {
            println!("{note}");
        }
    }

    /// An error where something was found that must not be.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        ensure!(self.findings.is_empty(), "{}", self.findings.join("; "));
        Ok(())
    }
}

/// Columns as wide as they need to be; the first to the left, numbers to the right.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in std::iter::once(&self.head).chain(&self.rows) {
            for (at, cell) in row.iter().enumerate() {
                let column = std::iter::once(&self.head).chain(&self.rows);
                let width = column.filter_map(|row| row.get(at)).map(|c| c.chars().count()).max();
                let width = width.unwrap_or(0);
                match at {
                    0 => write!(f, "{cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Seconds, to a thousandth.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// Millions of bytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.2}", bytes as f64 / 1e6),
        _ => format!("{}", bytes / 1_000_000),
    }
}

/// How many times `of`; a dash where there is nothing to compare with.
pub(crate) fn ratio(value: f64, of: f64) -> String {
    match of > 0.0 && value > 0.0 {
        true => format!("{:.2}", value / of),
        false => "-".to_owned(),
    }
}

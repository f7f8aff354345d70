//! `alluvium query`: SQL over the lake and the ledger.

use alluvium_config::Settings;
use alluvium_query::{Moment, Query, QueryError, QueryOptions, Rows, TableTime, output};
use anyhow::Context;
use serde_json::{Map, Value};

use crate::cli::{self, Cli};
use crate::exit::{Exit, UsageError};
use crate::wiring;

/// Answers a statement.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &cli::Query) -> anyhow::Result<Exit> {
    let query = open(settings, args.limit)?.at(moment(&args.moment));
    let rows = query.sql(&args.sql).await.map_err(as_asked)?;
    write(cli, rows).await
}

/// A statement that cannot even begin is wrong as it was asked; one that breaks off while its rows
/// come has met a value that it cannot take.
fn as_asked(error: QueryError) -> anyhow::Error {
    match error {
        QueryError::Statement(_) => UsageError(error.to_string()).into(),
        error => error.into(),
    }
}

/// The query engine over the lake and the ledger.
pub(crate) fn open(settings: &Settings, limit: Option<u64>) -> anyhow::Result<Query> {
    let ledger = wiring::ledger_tables(settings)?;
    let options = QueryOptions { rows: limit, ..QueryOptions::default() };
    Ok(Query::open_with(wiring::lake(settings)?, Some(ledger), options)?)
}

/// The moment that the command line asks for.
pub(crate) fn moment(asked: &cli::Moment) -> Moment {
    let version = asked.version.map(TableTime::Version);
    Moment { as_of: asked.as_of.clone(), table: version.or(asked.at.map(TableTime::At)) }
}

/// Writes an answer to stdout.
pub(crate) async fn write(cli: &Cli, rows: Rows) -> anyhow::Result<Exit> {
    let format = format(cli.output);
    let mut out = std::io::BufWriter::new(std::io::stdout());
    match output::write(rows, format, &mut out).await {
        Ok(written) => {
            if written.truncated && !cli.quiet {
                eprintln!("only the first {} rows; there are more", written.rows);
            }
            Ok(Exit::Done)
        }
        // Who reads us has seen enough.
        Err(QueryError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(Exit::Done)
        }
        Err(error) => Err(error.into()),
    }
}

/// All of an answer that is known to be small, as rows of our own.
pub(crate) async fn objects(rows: Rows) -> anyhow::Result<Vec<Map<String, Value>>> {
    let mut json = Vec::new();
    output::write(rows, output::Format::Json, &mut json).await?;
    serde_json::from_slice(&json).context("defect: an answer is no JSON")
}

fn format(asked: cli::Format) -> output::Format {
    match asked {
        cli::Format::Table => output::Format::Table,
        cli::Format::Json => output::Format::Json,
        cli::Format::Ndjson => output::Format::Ndjson,
        cli::Format::Csv => output::Format::Csv,
    }
}

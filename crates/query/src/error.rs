//! What can go wrong with a query, grouped by what mends it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use alluvium_lake::LakeError;
use alluvium_ledger::LedgerError;
use alluvium_model::Remedy;
use arrow::error::ArrowError;
use deltalake::datafusion::common::SchemaError;
use deltalake::datafusion::error::DataFusionError;

use crate::nearest;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement does not parse, does not fit the tables' types, or failed on a value.
    #[error("the statement cannot be run: {0}")]
    Statement(String),
    /// The statement would change something.
    #[error("`{0}` is not allowed: queries only read (SELECT, WITH, EXPLAIN, DESCRIBE, SHOW)")]
    NotReadOnly(String),
    /// There is no such table.
    #[error("there is no table `{name}`{}", nearest::tables(known))]
    NoTable {
        /// What was asked for.
        name: String,
        /// What there is, the nearest first.
        known: Vec<String>,
    },
    /// There is no such column.
    #[error("there is no column `{name}`{}", nearest::columns(known))]
    NoColumn {
        /// What was asked for.
        name: String,
        /// What there is, the nearest first.
        known: Vec<String>,
    },
    /// The key of a history does not fit the entity's.
    #[error("the key does not fit: {0}")]
    Key(String),
    /// The moment from which tables are to be looked at does not fit the statement or the tables.
    #[error("the moment cannot be shown: {0}")]
    Moment(String),
    /// The statement needs more memory, or room for temporary files, than it may have.
    #[error("the statement needs more room than it may have: {0}")]
    Memory(String),
    /// The lake did not do as asked.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The ledger did not do as asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file is there no longer: the table was cleaned up meanwhile, or what belongs to an earlier
    /// version was.
    #[error("a table's file was cleaned away; ask again, or for a later moment")]
    Gone(#[source] Box<dyn Error + Send + Sync>),
    /// A file could not be read.
    #[error("a table's file cannot be read")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The answer failed after rows of it had been given.
    #[error("the answer is not whole, it broke off: {0}")]
    BrokenOff(#[source] Box<QueryError>),
    /// The answer could not be written.
    #[error("the answer cannot be written")]
    Output(#[source] io::Error),
    /// A defect of ours, or of the engine.
    #[error("defect: {0}")]
    Bug(String),
}

impl QueryError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Statement(_) | Self::NotReadOnly(_) | Self::NoColumn { .. } => {
                Remedy::Operator("correct the statement")
            }
            Self::NoTable { .. } => {
                Remedy::Operator("name a table that is there: SHOW TABLES lists them")
            }
            Self::Key(_) => {
                Remedy::Operator("give the key's value, or a JSON object with all of its columns")
            }
            Self::Moment(_) => {
                Remedy::Operator("ask for a moment that the tables have, in their own type")
            }
            Self::Memory(_) => {
                Remedy::Operator("ask for less at once, or allow queries more memory")
            }
            Self::Lake(error) => error.remedy(),
            Self::Ledger(error) => error.remedy(),
            Self::BrokenOff(error) => error.remedy(),
            Self::Unavailable(_) | Self::Gone(_) => Remedy::Retry,
            Self::Output(_) => Remedy::Operator("look at where the answer is written to"),
            Self::Bug(_) => Remedy::Bug,
        }
    }

    /// The error for a column that is not among `known`.
    pub(crate) fn no_column(name: &str, known: impl IntoIterator<Item = String>) -> Self {
        Self::NoColumn { name: name.to_owned(), known: nearest::first(name, known) }
    }
}

/// Errors of ours travel through the engine and come out of it as they were.
impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        use DataFusionError as E;
        match error {
            E::Context(_, inner) | E::Diagnostic(_, inner) => Self::from(*inner),
            E::Collection(mut errors) if !errors.is_empty() => Self::from(errors.swap_remove(0)),
            E::Shared(shared) => match Arc::try_unwrap(shared) {
                Ok(inner) => Self::from(inner),
                Err(shared) => of_shared(&shared),
            },
            E::External(inner) => of_external(inner),
            E::ArrowError(inner, _) => of_arrow(*inner),
            E::SchemaError(inner, _) => of_schema(*inner),
            E::SQL(inner, _) => Self::Statement(clean(&inner.to_string())),
            E::ResourcesExhausted(what) => Self::Memory(clean(&what)),
            E::ParquetError(inner) => unreadable(inner),
            E::ObjectStore(inner) => unreadable(inner),
            E::IoError(inner) if is_no_room(&inner) => Self::Memory(clean(&inner.to_string())),
            E::IoError(inner) => unreadable(Box::new(inner)),
            E::Internal(what) => Self::Bug(clean(&what)),
            other => Self::Statement(clean(&other.message())),
        }
    }
}

fn of_external(error: Box<dyn Error + Send + Sync>) -> QueryError {
    let error = match error.downcast::<QueryError>() {
        Ok(ours) => return *ours,
        Err(other) => other,
    };
    match error.downcast::<DataFusionError>() {
        Ok(inner) => QueryError::from(*inner),
        Err(other) => unreadable(other),
    }
}

/// A file that cannot be read. On the way through the engine nothing is left of the store's error
/// but its words.
fn unreadable(cause: Box<dyn Error + Send + Sync>) -> QueryError {
    let said = cause.to_string();
    match said.contains("Object at location") && said.contains("not found") {
        true => QueryError::Gone(cause),
        false => QueryError::Unavailable(cause),
    }
}

/// Whether temporary files need more room than they may have, or than there is.
fn is_no_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull || error.to_string().contains("during the spilling")
}

fn of_arrow(error: ArrowError) -> QueryError {
    match error {
        ArrowError::ExternalError(inner) => of_external(inner),
        ArrowError::IoError(_, inner) if is_no_room(&inner) => {
            QueryError::Memory(clean(&inner.to_string()))
        }
        ArrowError::IoError(_, _) | ArrowError::ParquetError(_) => unreadable(Box::new(error)),
        other => QueryError::Statement(clean(&other.to_string())),
    }
}

fn of_schema(error: SchemaError) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut known: Vec<String> = valid_fields.into_iter().map(|c| c.name).collect();
            known.sort_unstable();
            known.dedup();
            QueryError::no_column(&field.name, known)
        }
        other => QueryError::Statement(clean(&other.to_string())),
    }
}

/// Several partitions fail with one error: it can be looked at, but not taken.
fn of_shared(error: &DataFusionError) -> QueryError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(what) => QueryError::Memory(clean(what)),
        DataFusionError::External(inner) => unreadable(inner.to_string().into()),
        DataFusionError::Internal(what) => QueryError::Bug(clean(what)),
        root @ (DataFusionError::ParquetError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::IoError(_)) => unreadable(clean(&root.message()).into()),
        root => QueryError::Statement(clean(&root.message())),
    }
}

/// The engine's words without its names for its own parts.
fn clean(message: &str) -> String {
    const PREFIXES: [&str; 9] = [
        "sql parser error: ",
        "Error during planning: ",
        "Execution error: ",
        "Schema error: ",
        "Arrow error: ",
        "Cast error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Parser error: ",
    ];
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let mut message =
        message.split("This issue was likely caused by a bug").next().unwrap_or(message).trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| message.strip_prefix(prefix)) {
        message = rest;
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_errors_come_out_of_the_engine_as_they_went_in() {
        let ours = QueryError::NoTable { name: "silver.a.b".to_owned(), known: Vec::new() };
        let through = DataFusionError::from(ours).context("planning");
        assert!(matches!(QueryError::from(through), QueryError::NoTable { .. }));
    }

    #[test]
    fn the_engines_prefixes_are_not_shown() {
        let error = DataFusionError::Plan("Error during planning: no such thing".to_owned());
        let shown = QueryError::from(error).to_string();
        assert_eq!(shown, "the statement cannot be run: no such thing");
    }
}

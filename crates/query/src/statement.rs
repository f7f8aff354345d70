//! Which statements are run, and which names they use.

use deltalake::datafusion::common::TableReference;
use deltalake::datafusion::execution::SessionState;
use deltalake::datafusion::sql::parser::Statement;
use deltalake::datafusion::sql::sqlparser::ast::Statement as Ast;

use crate::QueryError;

/// Longer statements are not parsed.
const LONGEST: usize = 1 << 20;
const SHOW_TABLES: &str = include_str!("../queries/show_tables.sql");
const INFORMATION_SCHEMA: &str = "information_schema";

/// One statement that only reads.
pub(crate) fn parse(state: &SessionState, sql: &str) -> Result<Statement, QueryError> {
    if sql.len() > LONGEST {
        return Err(QueryError::Statement(format!("it is longer than {LONGEST} bytes")));
    }
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect)?;
    if !only_reads(&statement) {
        return Err(QueryError::NotReadOnly(first_words(sql)));
    }
    match &statement {
        // The engine would list its own tables too, once for each layer.
        Statement::Statement(ast) if ast.to_string() == "SHOW TABLES" => {
            Ok(state.sql_to_statement(SHOW_TABLES, &dialect)?)
        }
        _ => Ok(statement),
    }
}

/// The tables that a statement names.
pub(crate) fn names(
    state: &SessionState,
    statement: &Statement,
) -> Result<Vec<TableReference>, QueryError> {
    Ok(state.resolve_table_references(statement)?)
}

/// Whether the name is of a table about tables, for which all of them must be known.
pub(crate) fn is_about_tables(name: &TableReference) -> bool {
    name.schema() == Some(INFORMATION_SCHEMA)
}

fn only_reads(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(ast) => matches!(
            **ast,
            Ast::Query(_)
                | Ast::Explain { .. }
                | Ast::ExplainTable { .. }
                | Ast::ShowTables { .. }
                | Ast::ShowColumns { .. }
                | Ast::ShowVariable { .. }
                | Ast::ShowFunctions { .. }
        ),
        Statement::Explain(explain) => only_reads(&explain.statement),
        _ => false,
    }
}

/// Enough of a statement to know it by, and no more: it may hold values.
fn first_words(sql: &str) -> String {
    sql.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

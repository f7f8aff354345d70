//! The query for a page: keyset pagination, so that equal values are never lost and no page costs
//! more than its rows. Pure.

use crate::cursor::{Phase, Run, Stored};

/// A query and what is bound to it.
pub(crate) struct PageQuery {
    pub(crate) sql: String,
    pub(crate) binds: Vec<Stored>,
}

/// The query for the next page of `run`. The first columns of a row are `order`, then the cursor
/// column if there is one, then `columns`.
pub(crate) fn page_query(
    table: &str,
    order: &[String],
    cursor: Option<&str>,
    columns: &[String],
    run: &Run,
    limit: u32,
) -> PageQuery {
    let mut by: Vec<&str> = order.iter().map(String::as_str).collect();
    let (mut conditions, mut binds) = (Vec::new(), Vec::new());
    let cursor_name = cursor.map(quoted);
    if let Some(name) = &cursor_name {
        match (run.phase, &run.low) {
            (Phase::Nulls, _) => conditions.push(format!("{name} IS NULL")),
            (Phase::Rows, Some(low)) => {
                conditions.push(format!("{name} >= ?"));
                binds.push(low.clone());
            }
            (Phase::Rows, None) => conditions.push(format!("{name} IS NOT NULL")),
        }
        if run.phase == Phase::Rows {
            by.insert(0, name);
        }
    }
    if run.after.len() == by.len() {
        let marks = vec!["?"; by.len()].join(", ");
        conditions.push(format!("({}) > ({marks})", by.join(", ")));
        binds.extend(run.after.iter().cloned());
    }
    let selected: Vec<&str> =
        order.iter().chain(&cursor_name).chain(columns).map(String::as_str).collect();
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    let sql = format!(
        "SELECT {} FROM {}{filter} ORDER BY {} LIMIT {limit}",
        selected.join(", "),
        quoted(table),
        by.join(", ")
    );
    PageQuery { sql, binds }
}

/// A name as SQL takes it, whatever it contains.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use alluvium_connector::RunStart;

    use super::*;

    fn run(phase: Phase, low: Option<i64>, after: &[i64]) -> Run {
        let after = after.iter().copied().map(Stored::Integer).collect();
        let started: RunStart = serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap();
        Run { started, phase, low: low.map(Stored::Integer), after, max: None, rows: 0 }
    }

    fn sql(cursor: Option<&str>, run: &Run) -> String {
        let order = ["rowid".to_owned()];
        page_query("a\"b", &order, cursor, &[quoted("v")], run, 9).sql
    }

    #[test]
    fn a_page_goes_on_strictly_after_the_last_row() {
        assert_eq!(
            sql(None, &run(Phase::Rows, None, &[])),
            r#"SELECT rowid, "v" FROM "a""b" ORDER BY rowid LIMIT 9"#
        );
        assert_eq!(
            sql(None, &run(Phase::Rows, None, &[7])),
            r#"SELECT rowid, "v" FROM "a""b" WHERE (rowid) > (?) ORDER BY rowid LIMIT 9"#
        );
        assert_eq!(
            sql(Some("t"), &run(Phase::Rows, Some(5), &[6, 7])),
            r#"SELECT rowid, "t", "v" FROM "a""b" WHERE "t" >= ? AND ("t", rowid) > (?, ?) ORDER BY "t", rowid LIMIT 9"#
        );
        assert_eq!(
            sql(Some("t"), &run(Phase::Nulls, Some(5), &[7])),
            r#"SELECT rowid, "t", "v" FROM "a""b" WHERE "t" IS NULL AND (rowid) > (?) ORDER BY rowid LIMIT 9"#
        );
    }
}

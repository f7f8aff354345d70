//! What a column's schema cannot say: names that SQL takes, and widths and units where they belong.

use std::collections::HashSet;

use alluvium_model::metadata::TimeUnit;
use alluvium_model::{Column, ColumnType};

use super::paths;
use crate::conform::Problem;

const NAME_HELP: &str = "use 1 to 128 of A-Z, a-z, 0-9 and _, beginning with a letter, and say by `path` where the \
     value stands";

/// All that is wrong with the columns of an entity.
pub(super) fn check(columns: &[Column]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for (index, column) in columns.iter().enumerate() {
        let at = |member: &str| format!("/columns/{index}/{member}");
        problems.extend(name(column, &at("name")));
        if !seen.insert(column.name.to_lowercase()) {
            let text = format!("there is another column `{}`, but for its case", column.name);
            problems.push(problem(at("name"), text, "names differ by more than their case"));
        }
        width(column, &at, &mut problems);
        if let Some(path) = &column.path
            && let Err(wrong) = paths::check(path)
        {
            let help = "write a JSON Pointer (/properties/mag) or a JSONPath ($.properties.mag)";
            problems.push(problem(at("path"), wrong, help));
        }
    }
    problems
}

fn name(column: &Column, pointer: &str) -> Option<Problem> {
    let name = &column.name;
    let wrong = if name.starts_with('_') {
        format!("`{name}`: names that begin with _ are alluvium's own")
    } else if !is_identifier(name) {
        format!("`{name}` is no name of a column")
    } else {
        return None;
    };
    Some(problem(pointer.to_owned(), wrong, NAME_HELP))
}

fn is_identifier(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn width(column: &Column, at: &dyn Fn(&str) -> String, problems: &mut Vec<Problem>) {
    if column.length.is_some() && column.kind != ColumnType::String {
        let text = "only a column of type string has a `length`".to_owned();
        problems.push(problem(at("length"), text, "leave it out, or make the type string"));
    }
    if column.length == Some(0) {
        let text = "no text is that short".to_owned();
        problems.push(problem(at("length"), text, "at least 1"));
    }
    for (member, given) in [("precision", column.precision), ("scale", column.scale)] {
        if given.is_some() && column.kind != ColumnType::Decimal {
            let text = format!("only a column of type decimal has a `{member}`");
            problems.push(problem(at(member), text, "leave it out, or make the type decimal"));
        }
    }
    if let Some(unit) = column.unit {
        problems.extend(wrong_unit(unit, column.kind, at("unit")));
    }
    let (precision, scale) = (column.precision.unwrap_or(38), column.scale.unwrap_or(0));
    if scale > precision {
        let text = format!("more digits after the point ({scale}) than in all ({precision})");
        problems.push(problem(at("scale"), text, "at most the precision"));
    }
}

fn wrong_unit(unit: TimeUnit, kind: ColumnType, pointer: String) -> Option<Problem> {
    let (text, help) = match (kind, unit) {
        (ColumnType::Timestamp, unit) => return no_day(unit, pointer),
        (ColumnType::Date, TimeUnit::D) => return None,
        (ColumnType::Date, _) => ("numbers that are dates count days", "write `d`"),
        _ => {
            let text = "only a column of type timestamp or date has a `unit`";
            (text, "leave it out, or make the type timestamp or date")
        }
    };
    Some(problem(pointer, text.to_owned(), help))
}

/// What is wrong with the unit of a time, if anything.
pub(super) fn no_day(unit: TimeUnit, pointer: String) -> Option<Problem> {
    let text = "numbers that are times do not count days".to_owned();
    (unit == TimeUnit::D).then(|| problem(pointer, text, "one of `s`, `ms`, `us`, `ns`"))
}

fn problem(pointer: String, text: String, help: &str) -> Problem {
    Problem { pointer, at_key: false, text, help: Some(help.to_owned()) }
}

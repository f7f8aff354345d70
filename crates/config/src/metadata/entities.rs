//! What an entity's schema cannot say: that the columns it names exist and are fit for their use.

use std::ops::Deref;
use std::time::Duration;

use alluvium_model::metadata::{History, SequenceBy, TimeUnit};
use alluvium_model::{Column, ColumnType, EntitySpec, SequenceType};
use serde_json::Value;

use super::columns;
use crate::conform::Problem;
use crate::nearest::suggestion;

/// All that is wrong with an entity by itself. `given`: the entity as it stands in the file, of which
/// parts that do not fit are not in `entity`.
pub(super) fn check(entity: &EntitySpec, given: &Value) -> Vec<Problem> {
    let mut problems = columns::check(&entity.columns);
    let entity = Given { entity, given };
    keys(&entity, &mut problems);
    sequence(&entity, &mut problems);
    for (index, name) in entity.ignore_null_updates.iter().enumerate() {
        let pointer = format!("/ignore_null_updates/{index}");
        problems.extend(entity.declared(name, &pointer).err());
        repeated(&entity.ignore_null_updates, index, &pointer, &mut problems);
        if entity.keys.contains(name) {
            problems.push(problem(&pointer, "a key column is always sent", "leave it out"));
        }
    }
    for (index, name) in entity.snapshot.scope.iter().enumerate() {
        let pointer = format!("/snapshot/scope/{index}");
        problems.extend(entity.declared(name, &pointer).err());
        repeated(&entity.snapshot.scope, index, &pointer, &mut problems);
    }
    let share = entity.snapshot.max_close_share;
    if !(0.0..=1.0).contains(&share) {
        let text = "a share is between 0 and 1";
        problems.push(problem("/snapshot/max_close_share", text, "0.5 is one half"));
    }
    ages(&entity, &mut problems);
    if entity.layers.silver.enabled && !entity.columns.is_empty() && !entity.gives_keys() {
        let text = "an entity with columns needs keys: they name its rows in silver";
        let help = "name the columns that tell rows apart: \"keys\": [\"id\"]";
        problems.push(problem("", text, help));
    }
    problems
}

fn keys(entity: &Given<'_>, problems: &mut Vec<Problem>) {
    for (index, name) in entity.keys.iter().enumerate() {
        let pointer = format!("/keys/{index}");
        repeated(&entity.keys, index, &pointer, problems);
        match entity.declared(name, &pointer) {
            Err(undeclared) => problems.push(undeclared),
            Ok(None) => {}
            Ok(Some(column)) => {
                if column.history != History::Track {
                    let text = format!("`{name}` is a key, so its history cannot be left out");
                    problems.push(problem(&pointer, &text, "remove `history` from the column"));
                }
                if column.kind == ColumnType::Json {
                    let text = format!("`{name}` is of type json, which cannot be a key");
                    problems.push(problem(&pointer, &text, "use a column of another type"));
                }
            }
        }
    }
}

fn sequence(entity: &Given<'_>, problems: &mut Vec<Problem>) {
    for (index, part) in entity.sequence_by.iter().enumerate() {
        let pointer = format!("/sequence_by/{index}");
        let name = match part {
            SequenceBy::Column(name) => name,
            SequenceBy::Carried { carried, unit } => {
                problems.extend(wrong_unit(*carried, *unit, format!("{pointer}/unit")));
                continue;
            }
        };
        if entity.sequence_by[..index].contains(part) {
            problems.push(problem(&pointer, &format!("`{name}` is there twice"), "name it once"));
        }
        match entity.declared(name, &pointer) {
            Err(undeclared) => problems.push(undeclared),
            Ok(Some(column)) if !orders(column.kind) => {
                let text = format!("`{name}` cannot order changes");
                let help = "use a column of type byte, short, integer, long, decimal or timestamp";
                problems.push(problem(&pointer, &text, help));
            }
            Ok(_) => {}
        }
    }
}

/// What is wrong with the unit of a part that changes carry, if anything.
fn wrong_unit(kind: SequenceType, unit: Option<TimeUnit>, pointer: String) -> Option<Problem> {
    let unit = unit?;
    if kind == SequenceType::Timestamp {
        return columns::no_day(unit, pointer);
    }
    let text = "only a part of type timestamp has a `unit`";
    Some(problem(&pointer, text, "leave it out, or carry a timestamp"))
}

/// What is kept for less than this loses records that are merely on their way.
const LEAST_RETENTION: Duration = Duration::from_secs(3_600);

/// Only where the order begins with a time there is an age: of records, and of versions.
fn ages(entity: &EntitySpec, problems: &mut Vec<Problem>) {
    let silver = &entity.layers.silver;
    let settings =
        [("late_horizon", silver.late_horizon), ("history_retention", silver.history_retention)];
    for (name, _) in settings.iter().filter(|(_, given)| given.is_some()) {
        if !begins_with_time(entity) {
            let text = format!("`{name}` needs an order that begins with a time");
            let help = "let `sequence_by` begin with a column of type timestamp or with \
                        {\"carried\": \"timestamp\"}, or leave it out";
            problems.push(problem(&format!("/layers/silver/{name}"), &text, help));
        }
    }
    if silver.history_retention.is_some_and(|kept| kept.duration() < LEAST_RETENTION) {
        let text = "records that are merely on their way would be too late";
        problems.push(problem("/layers/silver/history_retention", text, "at least 1h, as 365d"));
    }
}

/// Where the source itself tells the columns, silver looks again.
fn begins_with_time(entity: &EntitySpec) -> bool {
    match entity.sequence_by.first() {
        None => true,
        Some(SequenceBy::Carried { carried, .. }) => *carried == SequenceType::Timestamp,
        Some(SequenceBy::Column(name)) => {
            entity.column(name).is_none_or(|column| column.kind == ColumnType::Timestamp)
        }
    }
}

fn orders(kind: ColumnType) -> bool {
    use ColumnType as T;
    matches!(kind, T::Byte | T::Short | T::Integer | T::Long | T::Decimal | T::Timestamp)
}

/// An entity, and how it stands in the file.
struct Given<'e> {
    entity: &'e EntitySpec,
    given: &'e Value,
}

impl Deref for Given<'_> {
    type Target = EntitySpec;
    fn deref(&self) -> &EntitySpec {
        self.entity
    }
}

impl<'e> Given<'e> {
    /// The declared column called `name`; `None` if the source itself tells the columns, or if it
    /// may be one whose declaration does not fit.
    fn declared(&self, name: &str, pointer: &str) -> Result<Option<&'e Column>, Problem> {
        let entity = self.entity;
        if entity.columns.is_empty() {
            return Ok(None);
        }
        if let Some(column) = entity.column(name) {
            return Ok(Some(column));
        }
        let columns = self.given.get("columns").and_then(Value::as_array).into_iter().flatten();
        let mut names = columns.map(|column| column.get("name").and_then(Value::as_str));
        if names.any(|given| given.is_none_or(|given| given == name)) {
            return Ok(None);
        }
        Err(Problem {
            pointer: pointer.to_owned(),
            at_key: false,
            text: format!("there is no column `{name}`"),
            help: suggestion(name, "columns", entity.columns.iter().map(|c| c.name.as_str())),
        })
    }

    /// Whether keys are named, even such as do not fit.
    fn gives_keys(&self) -> bool {
        let keys = self.given.get("keys");
        keys.is_some_and(|keys| keys.as_array().is_none_or(|keys| !keys.is_empty()))
    }
}

fn repeated(names: &[String], index: usize, pointer: &str, problems: &mut Vec<Problem>) {
    if names[..index].contains(&names[index]) {
        let text = format!("`{}` is there twice", names[index]);
        problems.push(problem(pointer, &text, "name it once"));
    }
}

fn problem(pointer: &str, text: &str, help: &str) -> Problem {
    Problem {
        pointer: pointer.to_owned(),
        at_key: false,
        text: text.to_owned(),
        help: Some(help.to_owned()),
    }
}

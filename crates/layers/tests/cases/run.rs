//! One case, come in one way: through the stage into a table, and back.

use alluvium_layers::SilverStage;
use alluvium_model::{Applied, Delivery, Stage};

use super::arrival::Arrival;
use super::case::Case;
use super::entity::letter;
use super::record::record;
use super::values::{bound, cell, row};
use crate::platform::{Platform, Topic};
use crate::reference::Row;

/// Runs a case; says what is wrong with the outcome.
pub(crate) async fn run(case: &Case, arrival: &Arrival) -> Result<(), String> {
    let entity = if arrival.is_undeclared { case.undeclared_entity() } else { case.entity() };
    let platform = Platform::quick(entity);
    let mut topic = Topic::of(&platform);
    let mut stage = stage(case, &platform);
    if let Some(told) = case.types_to_tell().filter(|_| arrival.is_undeclared) {
        topic.records(vec![told]);
        apply(&mut stage, &topic.all()).await?;
    }
    let mut ends = vec![topic.end()];
    for page in &arrival.pages {
        topic.records(page.iter().map(|at| record(case, *at)).collect());
        ends.push(topic.end());
    }
    let mut rejected = Vec::new();
    for (after, to) in &arrival.deliveries {
        if arrival.index_is_lost {
            stage = self::stage(case, &platform);
            platform.index().clear().unwrap();
        }
        let delivery = topic.delivery(ends[*after], ends[*to]);
        rejected.extend(codes(&apply(&mut stage, &delivery).await?));
    }
    check(case, &platform, arrival.pages.concat(), rejected).await
}

/// The stage of a case's entity.
pub(crate) fn stage(case: &Case, platform: &Platform) -> SilverStage {
    let zone = case.options.source_tz.as_deref().unwrap_or("UTC");
    let index = platform.index().clone();
    SilverStage::new(platform.lake.clone(), index, &platform.entity, zone).unwrap()
}

/// Applies a delivery, all of which may have been applied before.
pub(crate) async fn apply(
    stage: &mut SilverStage,
    delivery: &Delivery,
) -> Result<Vec<Applied>, String> {
    let applied = stage.apply(delivery).await.map_err(|error| error.to_string())?;
    match applied.iter().find(|applied| !applied.counts.is_conserved()) {
        Some(batch) => Err(format!("the counts do not add up: {:?}", batch.counts)),
        None => Ok(applied),
    }
}

/// Why records were refused.
pub(crate) fn codes(applied: &[Applied]) -> Vec<String> {
    let refused = applied.iter().flat_map(|applied| &applied.quarantined);
    refused.map(|quarantined| quarantined.code.clone()).collect()
}

/// Holds the table and what was refused against the case, of which `published` has come in.
pub(crate) async fn check(
    case: &Case,
    platform: &Platform,
    published: Vec<usize>,
    mut rejected: Vec<String>,
) -> Result<(), String> {
    let refused = published.iter().filter_map(|at| case.reject(case.input[*at].off));
    let mut refused: Vec<String> = refused.map(str::to_owned).collect();
    refused.sort();
    rejected.sort();
    if rejected != refused {
        return Err(format!("refused {rejected:?}, expected {refused:?}"));
    }
    let (expected, actual) = (expected(case), actual(case, platform).await);
    if expected == actual { Ok(()) } else { Err(difference(&expected, &actual)) }
}

/// The rows that a case expects, in order.
pub(crate) fn expected(case: &Case) -> Vec<Row> {
    let columns = case.columns();
    let mut rows: Vec<Row> = case
        .expected
        .iter()
        .map(|expected| {
            assert_eq!(expected["is_current"], expected["valid_to"].is_null(), "{}", case.name);
            Row {
                values: row(&columns, expected),
                from: case.bound(&expected["valid_from"]).unwrap(),
                to: case.bound(&expected["valid_to"]),
                op: letter(expected["op"].as_str().unwrap()).to_owned(),
            }
        })
        .collect();
    rows.sort();
    rows
}

/// The rows of the table, in order.
async fn actual(case: &Case, platform: &Platform) -> Vec<Row> {
    let columns: Vec<_> = case.columns().into_iter().map(|c| (case.is_json(&c), c)).collect();
    let columns: Vec<_> = columns.iter().map(|(is_json, name)| (name.as_str(), *is_json)).collect();
    table_rows(platform, &columns).await
}

/// The rows of the table with the values of `columns`, some of which hold JSON; in order. A column
/// that never came is null.
pub(crate) async fn table_rows(platform: &Platform, columns: &[(&str, bool)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in platform.silver_batches().await {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        for at in 0..batch.num_rows() {
            let value = |(name, is_json): &(&str, bool)| {
                let value = batch.column_by_name(name).and_then(|c| cell(c, at, *is_json));
                ((*name).to_owned(), value)
            };
            let to = bound(column("_valid_to"), at);
            let is_current = cell(column("_is_current"), at, false);
            assert_eq!(is_current, Some(to.is_none().to_string()));
            rows.push(Row {
                values: columns.iter().map(value).collect(),
                from: bound(column("_valid_from"), at).unwrap(),
                to,
                op: cell(column("_op"), at, false).unwrap(),
            });
        }
    }
    rows.sort();
    rows
}

/// Expected and actual rows, one a line.
pub(crate) fn difference(expected: &[Row], actual: &[Row]) -> String {
    let list = |rows: &[Row]| -> String {
        rows.iter().map(|row| format!("\n    {}", line(row))).collect()
    };
    format!("expected{}\n  actual{}", list(expected), list(actual))
}

fn line(row: &Row) -> String {
    let value = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{name}={value:?}"),
        None => format!("{name}=null"),
    };
    let values: Vec<String> = row.values.iter().map(value).collect();
    let to = row.to.map_or("-".to_owned(), |to| to.to_string());
    format!("{} [{}, {to}) {}", values.join(" "), row.from, row.op)
}

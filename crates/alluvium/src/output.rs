//! Rows of our own (findings, records in quarantine, checks) on stdout, in the form asked for.

use std::io::Write;

use anyhow::Context;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::Format;

/// One table of several, as data: its name and its rows.
pub(crate) type Section = (&'static str, Vec<Map<String, Value>>);

/// Writes rows: each an object with the same members in the same order.
pub(crate) fn rows<T: Serialize>(format: Format, rows: &[T]) -> anyhow::Result<()> {
    let objects = objects(rows)?;
    let mut out = std::io::stdout().lock();
    let written = match format {
        Format::Table => table(&objects, &mut out),
        Format::Json => json(&objects, &mut out),
        Format::Ndjson => lines(&objects, &mut out),
        Format::Csv => csv(&objects, &mut out),
    };
    written.context("cannot write to stdout")
}

/// Writes several tables as one JSON document, an object with a member for each, or as NDJSON, where
/// each row tells its table. Nothing in the other formats, which have no place for several.
pub(crate) fn sections(format: Format, sections: Vec<Section>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = match format {
        Format::Json => {
            let document: Map<String, Value> =
                sections.into_iter().map(|(name, rows)| (name.to_owned(), rows.into())).collect();
            json(&document, &mut out)
        }
        Format::Ndjson => {
            let told = |(name, rows): Section| {
                rows.into_iter().map(move |row| {
                    let section = ("section".to_owned(), Value::from(name));
                    std::iter::once(section).chain(row).collect()
                })
            };
            lines(&sections.into_iter().flat_map(told).collect::<Vec<_>>(), &mut out)
        }
        Format::Table | Format::Csv => Ok(()),
    };
    written.context("cannot write to stdout")
}

/// Rows as objects.
pub(crate) fn objects<T: Serialize>(rows: &[T]) -> anyhow::Result<Vec<Map<String, Value>>> {
    let object = |row: &T| match serde_json::to_value(row) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(anyhow::anyhow!("defect: a row is no object")),
        Err(error) => Err(error.into()),
    };
    rows.iter().map(object).collect()
}

fn json(document: &impl Serialize, out: &mut impl Write) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document).map_err(std::io::Error::from)?;
    writeln!(out)
}

fn lines(rows: &[Map<String, Value>], out: &mut impl Write) -> std::io::Result<()> {
    rows.iter().try_for_each(|row| {
        serde_json::to_writer(&mut *out, row)?;
        writeln!(out)
    })
}

fn table(rows: &[Map<String, Value>], out: &mut impl Write) -> std::io::Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(first.keys());
    for row in rows {
        table.add_row(row.values().map(text));
    }
    writeln!(out, "{table}")
}

fn csv(rows: &[Map<String, Value>], out: &mut impl Write) -> std::io::Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(first.keys())?;
    for row in rows {
        csv.write_record(row.values().map(text))?;
    }
    csv.flush()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

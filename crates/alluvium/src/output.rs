//! Rows of our own (findings, records in quarantine, checks) on stdout, in the form asked for.

use std::io::Write;

use anyhow::Context;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::Format;

/// Writes rows: each an object with the same members in the same order.
pub(crate) fn rows<T: Serialize>(format: Format, rows: &[T]) -> anyhow::Result<()> {
    let objects = rows
        .iter()
        .map(|row| match serde_json::to_value(row) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(anyhow::anyhow!("defect: a row is no object")),
            Err(error) => Err(error.into()),
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = std::io::stdout().lock();
    let written = match format {
        Format::Table => table(&objects, &mut out),
        Format::Json => serde_json::to_writer_pretty(&mut out, &objects)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
        Format::Ndjson => objects.iter().try_for_each(|object| {
            serde_json::to_writer(&mut out, object)?;
            writeln!(out)
        }),
        Format::Csv => csv(&objects, &mut out),
    };
    written.context("cannot write to stdout")
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

//! JSON objects: in one array, or one a line.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;

use super::Layout;
use super::cell::{Cell, ListCell, cell};

pub(super) struct Json {
    /// The columns' names as JSON strings with their colons.
    names: Vec<Vec<u8>>,
    array: bool,
    first: bool,
}

impl Json {
    pub(super) fn array(schema: &Schema) -> Self {
        Self { names: names(schema), array: true, first: true }
    }

    pub(super) fn lines(schema: &Schema) -> Self {
        Self { array: false, ..Self::array(schema) }
    }
}

impl Layout for Json {
    fn begin(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        if self.array { out.write_all(b"[") } else { Ok(()) }
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            if self.array {
                text.extend_from_slice(if self.first { b"\n" } else { b",\n" });
            }
            self.first = false;
            text.push(b'{');
            for (index, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(name);
                value(&mut text, column.as_ref(), row)?;
            }
            text.push(b'}');
            if !self.array {
                text.push(b'\n');
            }
        }
        out.write_all(&text)
    }

    fn end(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        match (self.array, self.first) {
            (true, true) => out.write_all(b"]\n"),
            (true, false) => out.write_all(b"\n]\n"),
            (false, _) => Ok(()),
        }
    }
}

/// An object has no two members of one name: the second `id` is called `id_2`.
fn names(schema: &Schema) -> Vec<Vec<u8>> {
    let mut taken: Vec<String> = Vec::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut number = 2;
        while taken.contains(&name) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        taken.push(name);
    }
    taken
        .iter()
        .map(|name| format!("{}:", serde_json::Value::from(name.as_str())).into_bytes())
        .collect()
}

fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> io::Result<()> {
    match cell(array, row) {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Cell::Number(digits) => out.extend_from_slice(digits.as_bytes()),
        Cell::Text(text) => serde_json::to_writer(out, text.as_ref())?,
        Cell::List(ListCell(values)) => {
            let items = (0..values.len()).map(|row| (None, values.as_ref(), row));
            members(out, [b'[', b']'], items)?;
        }
        Cell::Struct(fields, row) => {
            let items =
                fields.iter().map(|(name, values)| (Some(name.clone()), values.as_ref(), row));
            members(out, [b'{', b'}'], items)?;
        }
        Cell::Map(ListCell(keys), ListCell(values)) => {
            let items =
                (0..keys.len()).map(|row| (Some(text(keys.as_ref(), row)), values.as_ref(), row));
            members(out, [b'{', b'}'], items)?;
        }
    }
    Ok(())
}

fn members<'a>(
    out: &mut Vec<u8>,
    brackets: [u8; 2],
    items: impl Iterator<Item = (Option<String>, &'a dyn Array, usize)>,
) -> io::Result<()> {
    out.push(brackets[0]);
    for (index, (name, array, row)) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if let Some(name) = name {
            serde_json::to_writer(&mut *out, &name)?;
            out.push(b':');
        }
        value(out, array, row)?;
    }
    out.push(brackets[1]);
    Ok(())
}

/// A value as text where nothing else can stand: nested values as JSON, null as nothing.
pub(super) fn text(array: &dyn Array, row: usize) -> String {
    match cell(array, row) {
        Cell::Null => String::new(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Number(text) => text,
        Cell::Text(text) => text.into_owned(),
        Cell::List(_) | Cell::Struct(_, _) | Cell::Map(_, _) => {
            let mut out = Vec::new();
            // Writing to memory does not fail.
            value(&mut out, array, row).ok();
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

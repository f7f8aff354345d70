//! RFC 4180, with line feeds. Null is nothing between the commas; empty text is `""`.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::Layout;
use super::json::text;

pub(super) struct Csv {
    schema: SchemaRef,
}

impl Csv {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: SchemaRef::clone(schema) }
    }
}

impl Layout for Csv {
    fn begin(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let mut line = String::new();
        for (index, field) in self.schema.fields().iter().enumerate() {
            separate(&mut line, index);
            push(&mut line, field.name());
        }
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let mut lines = String::new();
        for row in 0..batch.num_rows() {
            for (index, column) in batch.columns().iter().enumerate() {
                separate(&mut lines, index);
                if column.is_valid(row) {
                    push(&mut lines, &text(column.as_ref(), row));
                }
            }
            lines.push('\n');
        }
        out.write_all(lines.as_bytes())
    }

    fn end(&mut self, _: &mut (dyn Write + Send)) -> io::Result<()> {
        Ok(())
    }
}

fn separate(line: &mut String, index: usize) {
    if index > 0 {
        line.push(',');
    }
}

fn push(line: &mut String, text: &str) {
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}

//! A table for people.
//!
//! Widths are known only when all rows are, so that a long answer is written as several tables.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell as Shown, CellAlignment, Table as Grid};

use super::Layout;
use super::json::text;

/// Rows of one table.
const ROWS: usize = 1_000;
/// How null is shown.
const NULL: &str = "null";

pub(super) struct Table {
    schema: SchemaRef,
    grid: Grid,
    written: bool,
}

impl Table {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: SchemaRef::clone(schema), grid: grid(schema), written: false }
    }

    fn flush(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let grid = std::mem::replace(&mut self.grid, grid(&self.schema));
        self.written = true;
        writeln!(out, "{grid}")
    }
}

impl Layout for Table {
    fn begin(&mut self, _: &mut (dyn Write + Send)) -> io::Result<()> {
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut (dyn Write + Send)) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| shown(column.as_ref(), row));
            self.grid.add_row(cells);
            if self.grid.row_count() >= ROWS {
                self.flush(out)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        if self.grid.row_count() > 0 || !self.written { self.flush(out) } else { Ok(()) }
    }
}

fn grid(schema: &SchemaRef) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(UTF8_FULL_CONDENSED);
    grid.set_header(schema.fields().iter().map(|field| harmless(field.name())));
    for (index, field) in schema.fields().iter().enumerate() {
        if let Some(column) = grid.column_mut(index).filter(|_| is_number(field.data_type())) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}

fn shown(column: &dyn Array, row: usize) -> Shown {
    match column.is_null(row) {
        true => Shown::new(NULL),
        false => Shown::new(harmless(&text(column, row))),
    }
}

/// Text from a source must not move the cursor or change the colours of whoever reads it.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

//! The key index from the table and its side files, whatever became of the index before.

use alluvium_lake::index::{Cells, CurrentEntry, KeyIndex};
use alluvium_lake::{Lake, Table};
use alluvium_model::{Epoch, StageError};

use super::closing::Closings;
use super::deliveries::Deliveries;
use super::files::Names;
use super::side::{Known, Side, damaged_side};
use super::values::lake_error;
use super::versions::{MetaColumns, stored};
use super::{Shape, index_error};

/// So many alterations are written at a time.
const PART: usize = 50_000;

/// Fills `index` anew, for the version that `table` is at, which has got to the place `at` of its
/// topic. Returns the closings of the entity.
pub(super) async fn rebuild(
    lake: &Lake,
    table: &Table,
    at: Option<(Epoch, u64)>,
    index: &KeyIndex,
    shape: &Shape,
) -> Result<Closings, StageError> {
    // What is not to be had costs the index nothing.
    let mut side = Side::load(lake, table, at, shape).await?;
    index.clear().map_err(index_error)?;
    let mut names = Names::new(index).map_err(index_error)?;
    let mut update = index.update();
    let mut deliveries = Deliveries::of(shape);
    let mut written = 0;
    // Closed versions first: what is known of a key stands in its current entry, written last.
    for current in [false, true] {
        let files = table.files().filter(|file| file.current == Some(current));
        let files: Vec<_> = files.map(|file| file.id).collect();
        let mut scan = table.scan_files(&files, None).map_err(lake_error)?;
        while let Some(rows) = scan.next().await {
            let rows = rows.map_err(lake_error)?;
            let path = table.file(rows.file).map(|f| f.path.clone()).unwrap_or_default();
            let file = names.number(&path);
            let columns = MetaColumns::of(&rows.batch)?;
            let values = stored(&rows.batch, shape)?;
            let cells = Cells::of(values.columns());
            let cells = cells.map_err(|error| StageError::Mismatch(error.to_string()))?;
            let (mut buffer, mut entry) = (Vec::new(), Vec::new());
            for (at, row) in rows.rows.iter().enumerate() {
                let key = columns.key(at)?;
                let mut owned = columns.version(at, shape, &values, &mut names)?;
                (owned.file, owned.row) = (file, *row as u32);
                if let Some(op) = side.shows(key, &owned.entry(&[])) {
                    owned.meta.op = op;
                }
                side.stands(key, owned.opener_at);
                deliveries.note(&owned.opener);
                deliveries.note(&owned.shown);
                if current {
                    buffer.clear();
                    shape.codec.put(&cells, at, &mut buffer);
                    side.know(key, &owned.shown, owned.is_read());
                    let known = side.take_known(key);
                    let open = owned.entry(&buffer);
                    entry.clear();
                    let completed = side.completes(key, &open);
                    let Known { sequence: known, read } = &known;
                    let open = Some(open);
                    CurrentEntry { known, read: *read, completed, open }.put(&mut entry);
                    update.current(key, &entry);
                } else {
                    update.closed(key, &owned.entry(&[]));
                    side.know(key, &owned.shown, owned.is_read());
                    side.know_closing(key, owned.closed_at);
                }
                written += 1;
                let many = deliveries.len() >= PART;
                if many {
                    deliveries.put(index, &mut update).map_err(index_error)?;
                }
                // More of a delivery finds what was put of it only once that is written.
                if many || update.len() >= PART {
                    update.write_part().map_err(index_error)?;
                }
            }
        }
    }
    for event in side.remaining() {
        let run = names.number(&event.run);
        let batch = names.number(&event.batch);
        let entry = event.entry(run, batch).ok_or_else(damaged_side)?;
        update.hidden(event.key, &entry);
        deliveries.note(entry.sequence);
        if update.len() >= PART {
            update.write_part().map_err(index_error)?;
        }
    }
    for (key, known) in &side.known {
        let mut entry = Vec::new();
        let Known { sequence: known, read } = known;
        CurrentEntry { known, read: *read, completed: false, open: None }.put(&mut entry);
        update.current(*key, &entry);
        if update.len() >= PART {
            update.write_part().map_err(index_error)?;
        }
    }
    deliveries.put(index, &mut update).map_err(index_error)?;
    for (number, name) in names.new_names() {
        update.name(*number, name);
    }
    update.whole(&side.closings.write());
    update.finish(&table.mark(), &shape.fingerprint).map_err(index_error)?;
    tracing::info!(table = %table.path(), rows = written, "key index rebuilt from the table");
    Ok(side.closings)
}

//! The key index from the table and its side files, whatever became of the index before.

use alluvium_lake::index::{Cells, CurrentEntry, IndexError, IndexUpdate, KeyIndex};
use alluvium_lake::table::ScanBatch;
use alluvium_lake::{Lake, Table};
use alluvium_model::{Epoch, StageError};
use tokio::task::block_in_place;

use super::bulk::Bulk;
use super::closing::Closings;
use super::deliveries::Deliveries;
use super::files::Names;
use super::side::{Known, Side, damaged_side};
use super::values::lake_error;
use super::versions::{MetaColumns, OwnedVersion, stored};
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
    let side = Side::load(lake, table, at, shape).await?;
    // The store may let who writes much wait: not on a thread that others need, leases among them.
    let mut filling = block_in_place(|| Filling::begin(table, index, shape, side))?;
    // Closed versions first: what is known of a key stands in its current entry, written last.
    for current in [false, true] {
        let files = table.files().filter(|file| file.current == Some(current));
        let files: Vec<_> = files.map(|file| file.id).collect();
        let mut scan = table.scan_files(&files, None).map_err(lake_error)?;
        while let Some(rows) = scan.next().await {
            let rows = rows.map_err(lake_error)?;
            block_in_place(|| filling.rows(&rows, current))?;
        }
    }
    block_in_place(|| filling.finish())
}

/// An index that is filled.
struct Filling<'a> {
    table: &'a Table,
    index: &'a KeyIndex,
    shape: &'a Shape,
    side: Side,
    names: Names<'a>,
    /// The open versions.
    states: Bulk,
    update: IndexUpdate,
    deliveries: Deliveries,
    /// How many rows it holds.
    written: usize,
}

impl<'a> Filling<'a> {
    fn begin(
        table: &'a Table,
        index: &'a KeyIndex,
        shape: &'a Shape,
        side: Side,
    ) -> Result<Self, StageError> {
        index.clear().map_err(index_error)?;
        let names = Names::new(index).map_err(index_error)?;
        let (update, deliveries) = (index.update(), Deliveries::of(shape));
        let states = Bulk::default();
        Ok(Self { table, index, shape, side, names, states, update, deliveries, written: 0 })
    }

    /// Takes rows of a file up, all of versions that are open or all of closed ones.
    fn rows(&mut self, rows: &ScanBatch, current: bool) -> Result<(), StageError> {
        let path = self.table.file(rows.file).map(|f| f.path.clone()).unwrap_or_default();
        let file = self.names.number(&path);
        let columns = MetaColumns::of(&rows.batch)?;
        let values = stored(&rows.batch, self.shape)?;
        let cells = Cells::of(values.columns());
        let cells = cells.map_err(|error| StageError::Mismatch(error.to_string()))?;
        let mut buffer = Vec::new();
        for (at, row) in rows.rows.iter().enumerate() {
            let key = columns.key(at)?;
            let mut owned = columns.version(at, self.shape, &values, &mut self.names)?;
            (owned.file, owned.row) = (file, *row as u32);
            if let Some(op) = self.side.shows(key, &owned.entry(&[])) {
                owned.meta.op = op;
            }
            self.side.stands(key, owned.opener_at);
            self.deliveries.note(&owned.opener);
            self.deliveries.note(&owned.shown);
            self.side.know(key, &owned.shown, owned.is_read());
            if current {
                buffer.clear();
                self.shape.codec.put(&cells, at, &mut buffer);
                self.open(key, &owned, &buffer);
            } else {
                self.update.closed(key, &owned.entry(&[]));
                self.side.know_closing(key, owned.closed_at);
            }
            self.written += 1;
            self.write_if_many().map_err(index_error)?;
        }
        Ok(())
    }

    /// The open version of a key, with its values. Nothing more of the key is to come.
    fn open(&mut self, key: u128, owned: &OwnedVersion, values: &[u8]) {
        let open = owned.entry(values);
        let Known { sequence: known, read } = &self.side.take_known(key);
        let completed = self.side.completes(key, &open);
        self.states.push(key, &CurrentEntry { known, read: *read, completed, open: Some(open) });
    }

    fn write_if_many(&mut self) -> Result<(), IndexError> {
        self.states.write_if_full(self.index)?;
        let many = self.deliveries.len() >= PART;
        if many {
            self.deliveries.put(self.index, &mut self.update)?;
        }
        // More of a delivery finds what was put of it only once that is written.
        if many || self.update.len() >= PART {
            self.update.write_part()?;
        }
        Ok(())
    }

    /// The hidden events, and the keys that have no open version; then the index fits the table.
    fn finish(mut self) -> Result<Closings, StageError> {
        self.hidden()?;
        self.known().map_err(index_error)?;
        let Self { table, index, shape, side, names, states, written, .. } = self;
        let (mut update, mut deliveries) = (self.update, self.deliveries);
        states.put(index, &mut update).map_err(index_error)?;
        deliveries.put(index, &mut update).map_err(index_error)?;
        for (number, name) in names.new_names() {
            update.name(*number, name);
        }
        update.whole(&side.closings.write());
        update.finish(&table.mark(), &shape.fingerprint).map_err(index_error)?;
        tracing::info!(table = %table.path(), rows = written, "key index rebuilt from the table");
        Ok(side.closings)
    }

    fn hidden(&mut self) -> Result<(), StageError> {
        for event in self.side.remaining() {
            let run = self.names.number(&event.run);
            let batch = self.names.number(&event.batch);
            let entry = event.entry(run, batch).ok_or_else(damaged_side)?;
            self.update.hidden(event.key, &entry);
            self.deliveries.note(entry.sequence);
            if self.update.len() >= PART {
                self.update.write_part().map_err(index_error)?;
            }
        }
        Ok(())
    }

    fn known(&mut self) -> Result<(), IndexError> {
        for (key, Known { sequence: known, read }) in &self.side.known {
            let mut entry = Vec::new();
            CurrentEntry { known, read: *read, completed: false, open: None }.put(&mut entry);
            self.update.current(*key, &entry);
            if self.update.len() >= PART {
                self.update.write_part()?;
            }
        }
        Ok(())
    }
}

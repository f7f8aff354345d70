//! The rows that a commit brought. Of a key that the index has never heard of an open version is all
//! there is to know: it goes in as it stands, so that a first load is followed at any size. What
//! concerns other keys is kept, for their state to be put together.

use std::collections::HashSet;

use alluvium_lake::Table;
use alluvium_lake::index::{Cells, CurrentEntry, IndexError, KeyIndex};
use alluvium_lake::table::ScanBatch;
use alluvium_model::{Op, StageError};

use super::super::Shape;
use super::super::bulk::Bulk;
use super::super::deliveries::Deliveries;
use super::super::files::Names;
use super::super::hidden::SideEvent;
use super::super::versions::{MetaColumns, OwnedVersion, stored};
use super::Halt;

/// A row of a key of which more is known, or told.
pub(super) struct Incoming {
    pub(super) key: u128,
    pub(super) version: OwnedVersion,
    /// The stored values, of a row that is open.
    pub(super) values: Option<Vec<u8>>,
}

/// What the rows of a commit tell.
pub(super) struct Arrived<'a> {
    index: &'a KeyIndex,
    shape: &'a Shape,
    /// The open versions of keys that are new.
    pub(super) fresh: Bulk,
    /// The deliveries of these.
    pub(super) deliveries: Deliveries,
    pub(super) rows: Vec<Incoming>,
    /// The keys of what is kept, and of events that are told.
    concerned: HashSet<u128>,
}

impl<'a> Arrived<'a> {
    pub(super) fn new(index: &'a KeyIndex, shape: &'a Shape, events: &[SideEvent]) -> Self {
        Self {
            index,
            shape,
            fresh: Bulk::default(),
            deliveries: Deliveries::of(shape),
            rows: Vec::new(),
            concerned: events.iter().map(|event| event.key).collect(),
        }
    }

    /// Takes rows of a file up; those of closed versions come first. Blocks.
    pub(super) fn take(
        &mut self,
        table: &Table,
        rows: &ScanBatch,
        names: &mut Names<'_>,
    ) -> Result<(), Halt> {
        let Some(file) = table.file(rows.file) else { return Ok(()) };
        let (number, is_open) = (names.number(&file.path), file.current == Some(true));
        let columns = MetaColumns::of(&rows.batch)?;
        let values = stored(&rows.batch, self.shape)?;
        let cells = Cells::of(values.columns());
        let cells = cells.map_err(|error| StageError::Mismatch(error.to_string()))?;
        let keys = (0..rows.rows.len()).map(|at| columns.key(at)).collect::<Result<Vec<_>, _>>()?;
        let is_fresh = if is_open { self.are_fresh(&keys)? } else { vec![false; keys.len()] };
        let mut bytes = Vec::new();
        for (at, (row, key)) in rows.rows.iter().zip(keys).enumerate() {
            let version = columns.version(at, self.shape, &values, names)?;
            let version = OwnedVersion { file: number, row: *row as u32, ..version };
            bytes.clear();
            if is_open {
                self.shape.codec.put(&cells, at, &mut bytes);
            }
            if is_fresh[at] {
                self.open(key, &version, &bytes);
            } else {
                self.concerned.insert(key);
                let values = is_open.then(|| bytes.clone());
                self.rows.push(Incoming { key, version, values });
            }
        }
        Ok(self.fresh.write_if_full(self.index)?)
    }

    /// The only version of a key.
    fn open(&mut self, key: u128, version: &OwnedVersion, values: &[u8]) {
        self.deliveries.note(&version.opener);
        self.deliveries.note(&version.shown);
        let open = version.entry(values);
        let read = open.meta.op == Op::Read;
        let (known, open) = (open.shown, Some(open));
        self.fresh.push(key, &CurrentEntry { known, read, completed: false, open });
    }

    /// Which of these keys nothing is known of.
    fn are_fresh(&self, keys: &[u128]) -> Result<Vec<bool>, IndexError> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|at| keys[*at]);
        let sorted: Vec<u128> = order.iter().map(|at| keys[*at]).collect();
        let mut are_fresh = vec![false; keys.len()];
        for (at, known) in order.into_iter().zip(self.index.current(&sorted)?) {
            are_fresh[at] = known.is_none() && !self.concerned.contains(&keys[at]);
        }
        Ok(are_fresh)
    }
}

//! Proof that no record was lost or counted twice: raw is read again, byte by byte, and held
//! against what bronze and silver say of themselves and against what stands in their tables; and
//! silver is made anew from raw and compared with its table.

mod compare;
mod difference;
mod former;
mod prints;
mod rebuild;

use std::collections::{BTreeMap, HashMap};

use alluvium_lake::raw::{self, RawTotals};
use alluvium_lake::{Lake, LakeError, Table, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{Checksum, EntityId, EntitySpec, Epoch, Layer, StageError};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use serde::Serialize;

pub use difference::{Difference, DifferenceKind};
pub use rebuild::{RebuildOptions, Rebuilt, Step, verify_rebuild};

use crate::ledger_note::LayerNote;
use crate::silver::lake_error;

/// So many rows of silver are held in memory at a time.
const ROWS_AT_A_TIME: u64 = 2_000_000;

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked, in a few words.
    pub check: &'static str,
    /// The layer it is about.
    pub layer: Layer,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub detail: String,
}

/// What was checked of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The entity.
    pub entity: EntityId,
    /// The checks.
    pub checks: Vec<Check>,
    /// How far the lake says that each layer got; a layer of which it has nothing is left out.
    pub reached: Vec<(Layer, Epoch, u64)>,
}

impl Verification {
    /// Whether all of it holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    fn note(&mut self, layer: Layer, check: &'static str, holds: bool, detail: String) {
        self.checks.push(Check { check, layer, holds, detail });
    }
}

/// Checks an entity. `progress` is told how many of how many raw objects have been read.
pub async fn verify(
    lake: &Lake,
    entity: &EntitySpec,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Verification, StageError> {
    let id = entity.id();
    let mut out = Verification { entity: id.clone(), checks: Vec::new(), reached: Vec::new() };
    let mut layers = Vec::new();
    for (layer, enabled, place) in [
        (Layer::Bronze, entity.layers.bronze.enabled, path::bronze(&id)),
        (Layer::Silver, entity.layers.silver.enabled, path::silver(&id)),
    ] {
        if !enabled {
            continue;
        }
        let table = match Table::open(lake, &place).await {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(LakeError::Corrupt(how) | LakeError::Mismatch(how)) => {
                out.note(layer, "the table can be read", false, how);
                continue;
            }
            Err(error) => return Err(lake_error(error)),
        };
        match LayerNote::of(&table, layer, &id) {
            Ok(note) => layers.push((layer, table, note.map(|note| note.progress()))),
            Err(StageError::Corrupt(how)) => out.note(layer, "progress", false, how),
            Err(error) => return Err(error),
        }
    }
    let told: Vec<_> =
        layers.iter().filter_map(|(layer, _, p)| p.map(|p| (*layer, p.epoch, p.offset))).collect();
    let starts = raw::starts(lake, &id).await.map_err(lake_error)?;
    let epochs = crate::epoch::epochs(lake, &id).await?;
    for (.., reached) in &mut layers {
        *reached = reached.map(|progress| progress.go_on(&epochs));
    }
    let marks: Vec<(Epoch, u64)> =
        layers.iter().filter_map(|(.., p)| p.map(|p| (p.epoch, p.offset))).collect();
    let sums = read_raw(lake, &id, &marks, &mut out, &mut progress).await?;
    out.reached.extend(sums.end.map(|(epoch, offset)| (Layer::Raw, epoch, offset)));
    out.reached.extend(told);
    former::succession(&sums.epochs, &starts, &mut out);
    for (layer, table, reached) in &layers {
        let Some(reached) = reached else {
            out.note(*layer, "progress", true, "nothing applied yet".to_owned());
            continue;
        };
        against_raw(*layer, reached, &sums, &mut out);
        former::against_raw(*layer, reached, &sums.epochs, &starts, &mut out);
        match layer {
            Layer::Bronze => rows_of_bronze(table, reached, &mut out),
            _ => match intervals(table, &mut out).await {
                Err(StageError::Corrupt(how) | StageError::Mismatch(how)) => {
                    out.note(*layer, "intervals", false, how);
                }
                checked => checked?,
            },
        }
    }
    Ok(out)
}

/// Sums over raw up to some offsets, and to its end.
struct RawSums {
    at: HashMap<(Epoch, u64), RawTotals>,
    end: Option<(Epoch, u64)>,
    /// Where each epoch ends, with the sums up to there.
    epochs: BTreeMap<Epoch, (u64, RawTotals)>,
}

/// Reads all of raw again: every object's bytes against its header, every object against its
/// predecessor. Returns the sums up to the offsets asked for.
async fn read_raw(
    lake: &Lake,
    id: &EntityId,
    marks: &[(Epoch, u64)],
    out: &mut Verification,
    progress: &mut (impl FnMut(u64, u64) + Send),
) -> Result<RawSums, StageError> {
    let objects = raw::list(lake, id).await.map_err(lake_error)?;
    let total = objects.len() as u64;
    let mut sums = RawSums { at: HashMap::new(), end: None, epochs: BTreeMap::new() };
    let mut running = RawTotals::default();
    let mut previous = None;
    for (n, object) in objects.iter().enumerate() {
        let read = raw::read(lake, object).await.and_then(|(header, messages)| {
            let same = previous.as_ref().filter(|p: &&raw::RawHeader| p.epoch == header.epoch);
            header.check_follows(same)?;
            Ok((header, messages))
        });
        let (header, messages) = match read {
            Ok(read) => read,
            Err(error) => {
                let detail = alluvium_model::error::chain(&error);
                out.note(Layer::Raw, "bytes against header", false, detail);
                return Ok(sums);
            }
        };
        if sums.end.is_none_or(|(epoch, _)| epoch != header.epoch) {
            running = RawTotals::default();
        }
        for message in messages {
            for (index, line) in (0u32..).zip(message.lines()) {
                running.records += 1;
                running.checksum += Checksum::of(&message.position(index), line);
            }
            let at = (message.epoch, message.offset);
            if marks.contains(&at) {
                sums.at.insert(at, running);
            }
            sums.end = Some(at);
        }
        sums.epochs.insert(header.epoch, (header.to, running));
        if running != header.totals {
            let detail = format!("object after {}: its running totals are wrong", header.after);
            out.note(Layer::Raw, "running totals", false, detail);
        }
        previous = Some(header);
        progress(n as u64 + 1, total);
    }
    let all = sums.epochs.values().fold(RawTotals::default(), |all, (_, own)| all.plus(*own));
    let detail = format!("{total} objects, {} records, checksum {}", all.records, all.checksum);
    out.note(Layer::Raw, "bytes against header", true, detail);
    Ok(sums)
}

/// A layer's own totals against those of raw at the same offset.
fn against_raw(layer: Layer, reached: &Progress, sums: &RawSums, out: &mut Verification) {
    let at = (reached.epoch, reached.offset);
    // Of an epoch that begins there is nothing on either side.
    let nothing = (reached.offset == 0).then_some(&RawTotals { records: 0, checksum: Checksum(0) });
    let Some(raw) = sums.at.get(&at).or(nothing) else {
        let ahead = sums.end.is_none_or(|end| end < at);
        let detail = if ahead {
            format!("at offset {}, which raw has not landed yet", reached.offset)
        } else {
            format!("at offset {}, which is no message of raw", reached.offset)
        };
        // Raw lingers: a layer ahead of it is compared once raw is flushed.
        out.note(layer, "against raw", ahead, detail);
        return;
    };
    let holds = raw.records == reached.totals.records && raw.checksum == reached.checksum;
    let detail = format!(
        "offset {}: {} records of {}, checksum {} of {}",
        reached.offset, reached.totals.records, raw.records, reached.checksum, raw.checksum
    );
    out.note(layer, "against raw", holds, detail);
    let totals = reached.totals;
    let detail = format!(
        "{} in = {} inserted + {} updated + {} deleted + {} unchanged + {} duplicate + {} stale + {} control + {} quarantined",
        totals.records,
        totals.inserted,
        totals.updated,
        totals.deleted,
        totals.unchanged,
        totals.duplicate,
        totals.stale,
        totals.control,
        totals.quarantined
    );
    out.note(layer, "conservation", totals.is_conserved(), detail);
}

fn rows_of_bronze(table: &Table, reached: &Progress, out: &mut Verification) {
    let (rows, expected) = (table.rows(), reached.former.counts.inserted + reached.totals.inserted);
    let detail = format!("{rows} documents of {expected}");
    out.note(Layer::Bronze, "rows", rows == expected, detail);
}

/// The rows of silver: per key, intervals that neither overlap nor are empty, and at most one open.
async fn intervals(table: &Table, out: &mut Verification) -> Result<(), StageError> {
    let passes = table.rows().div_ceil(ROWS_AT_A_TIME).max(1);
    let (mut rows, mut open, mut wrong) = (0u64, 0u64, Vec::new());
    for pass in 0..passes {
        let mut versions = versions(table, pass, passes).await?;
        versions.sort_unstable();
        rows += versions.len() as u64;
        open += versions.iter().filter(|v| v.to.is_none()).count() as u64;
        for pair in versions.windows(2) {
            let overlaps = pair[0].to.is_none_or(|to| to > pair[1].from);
            if pair[0].key == pair[1].key && overlaps {
                wrong.push(format!("key {:032x}: overlapping versions", pair[0].key));
            }
        }
        for version in &versions {
            if version.to.is_some_and(|to| to <= version.from) {
                wrong.push(format!("key {:032x}: an empty version", version.key));
            }
            if version.current != version.to.is_none() {
                wrong.push(format!("key {:032x}: _is_current and _valid_to disagree", version.key));
            }
        }
    }
    let detail = match wrong.first() {
        None => format!("{rows} versions, {open} open"),
        Some(first) => format!("{} of {rows} versions are wrong, such as {first}", wrong.len()),
    };
    out.note(Layer::Silver, "intervals", wrong.is_empty(), detail);
    Ok(())
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    key: u128,
    from: i128,
    to: Option<i128>,
    current: bool,
}

/// The versions whose keys fall into one of `passes` parts.
async fn versions(table: &Table, pass: u64, passes: u64) -> Result<Vec<Interval>, StageError> {
    let columns = ["_key_hash", "_valid_from", "_valid_to", "_is_current"];
    let mut scan = table.scan(Some(&columns)).map_err(lake_error)?;
    let mut out = Vec::new();
    while let Some(rows) = scan.next().await {
        let batch = rows.map_err(lake_error)?.batch;
        let wrong = || StageError::Mismatch(format!("{}: columns of other types", table.path()));
        let key = batch.column(0).as_binary_opt::<i32>().ok_or_else(wrong)?;
        let current = batch.column(3).as_boolean_opt().ok_or_else(wrong)?;
        for at in 0..batch.num_rows() {
            let bytes: [u8; 16] = key.value(at).try_into().map_err(|_| wrong())?;
            let key = u128::from_be_bytes(bytes);
            if (key % u128::from(passes)) as u64 == pass {
                let from = instant(batch.column(1), at).ok_or_else(wrong)?;
                let to = instant(batch.column(2), at);
                out.push(Interval { key, from, to, current: current.value(at) });
            }
        }
    }
    Ok(out)
}

fn instant(column: &dyn Array, at: usize) -> Option<i128> {
    if column.is_null(at) {
        return None;
    }
    match column.data_type() {
        DataType::Int64 => Some(i128::from(column.as_primitive::<Int64Type>().value(at))),
        DataType::Decimal128(..) => Some(column.as_primitive::<Decimal128Type>().value(at)),
        _ => Some(i128::from(column.as_primitive_opt::<TimestampMicrosecondType>()?.value(at))),
    }
}

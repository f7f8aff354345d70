//! Silver proved from raw: made anew beside the table, up to where the table got, and compared with
//! it row by row.

use std::path::Path;
use std::time::Duration;

use alluvium_lake::{Lake, LakeError, Table, path};
use alluvium_model::outcome::Progress;
use alluvium_model::{Checksum, Counts, EntitySpec, Layer, StageError};
use serde::Serialize;

use super::compare::{Outcome, compare};
use super::difference::{Difference, describe};
use super::prints::Prints;
use super::{Check, lake_error};
use crate::ledger_note::LayerNote;
use crate::rebuild::Shadow;
use crate::silver::borders_of;

/// The one column that a rebuild makes otherwise: another batch applies the record.
const NOT_COMPARED: &str = "_batch_id";
/// How often raw is looked at for what has not landed yet.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How silver is proved.
#[derive(Debug, Clone, Copy)]
pub struct RebuildOptions<'o> {
    /// The zone of the system's times that have none.
    pub timezone: &'o str,
    /// A folder on the local disk for the index of the rebuild.
    pub scratch: &'o Path,
    /// So many versions of each kind of difference are described.
    pub limit: usize,
    /// So long raw is waited for where it is behind the table.
    pub patience: Duration,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Records are applied anew.
    Replay,
    /// Raw has not landed yet what the table has.
    WaitForRaw,
    /// Rows are compared.
    Compare,
}

/// What a rebuild showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// What was checked.
    pub checks: Vec<Check>,
    /// Some of the differences.
    pub differences: Vec<Difference>,
}

impl Rebuilt {
    fn note(&mut self, check: &'static str, holds: bool, detail: String) {
        self.checks.push(Check { check, layer: Layer::Silver, holds, detail });
    }
}

/// Makes silver of `entity` anew from raw and compares. `progress` is told what is being done, and
/// how much of how much: records of a replay, offsets where raw is waited for, rows of a comparison.
/// The table may be written meanwhile: it is proved as it stood when this began.
pub async fn verify_rebuild(
    lake: &Lake,
    entity: &EntitySpec,
    options: RebuildOptions<'_>,
    progress: &mut (dyn FnMut(Step, u64, u64) + Send),
) -> Result<Rebuilt, StageError> {
    let mut out = Rebuilt::default();
    if !entity.layers.silver.enabled {
        return Ok(out);
    }
    let id = entity.id();
    let table = match Table::open(lake, &path::silver(&id)).await {
        Ok(Some(table)) => table,
        Ok(None) => {
            out.note("rows of a rebuild", true, "nothing applied yet".to_owned());
            return Ok(out);
        }
        Err(LakeError::Corrupt(how) | LakeError::Mismatch(how)) => {
            out.note("rows of a rebuild", false, format!("the table cannot be read: {how}"));
            return Ok(out);
        }
        Err(error) => return Err(lake_error(error)),
    };
    let reached = match LayerNote::of(&table, Layer::Silver, &id) {
        Ok(Some(note)) => note.progress(),
        Ok(None) => {
            out.note("rows of a rebuild", true, "nothing applied yet".to_owned());
            return Ok(out);
        }
        Err(StageError::Corrupt(how)) => {
            out.note("rows of a rebuild", false, how);
            return Ok(out);
        }
        Err(error) => return Err(error),
    };
    // Of an epoch that is over, raw never lands more.
    let end = crate::epoch::epochs(lake, &id).await?.end_of(reached.epoch);
    let until = Some((reached.epoch, end.map_or(reached.offset, |end| end.min(reached.offset))));
    let border = borders_of(lake, &table).await.of_table(reached.epoch, reached.offset);
    let (timezone, scratch) = (options.timezone, options.scratch);
    let shadow = Shadow::beside(lake, Some(&table), entity, timezone, scratch, until);
    let mut shadow = Box::pin(shadow).await?;
    let standing = Standing { table, reached, border };
    let compared = fill_and_compare(&mut shadow, entity, standing, options, progress, &mut out);
    let compared = Box::pin(compared).await;
    let removed = shadow.remove().await;
    compared.and(removed).map(|()| out)
}

/// What is to be proved: a table, how far it got, and before what time it has removed history.
struct Standing {
    table: Table,
    reached: Progress,
    border: Option<i64>,
}

async fn fill_and_compare(
    shadow: &mut Shadow,
    entity: &EntitySpec,
    Standing { table, reached, border }: Standing,
    options: RebuildOptions<'_>,
    progress: &mut (dyn FnMut(Step, u64, u64) + Send),
    out: &mut Rebuilt,
) -> Result<(), StageError> {
    fill(shadow, options.patience, progress).await?;
    let (at, end) = shadow.offsets();
    if !shadow.is_filled() {
        let detail =
            format!("raw has landed up to offset {at}, the table is at {end}: not compared");
        out.note("rows of a rebuild", false, detail);
        return Ok(());
    }
    records(shadow, &reached, out).await?;
    let rebuild = shadow.table().await?;
    let columns = columns(&table, &rebuild, out);
    let prints = |table| Prints::of(table, &columns, border);
    let (mut table, mut rebuild) = (prints(table), prints(rebuild));
    let mut compared = |done, of| progress(Step::Compare, done, of);
    let outcome = compare(&mut table, &mut rebuild, options.limit, &mut compared).await?;
    out.differences = describe(entity, &mut table, &mut rebuild, &outcome.found).await?;
    rows(&table, &rebuild, &outcome, end, out);
    Ok(())
}

/// Applies raw anew, and waits for what it has not landed yet.
async fn fill(
    shadow: &mut Shadow,
    patience: Duration,
    progress: &mut (dyn FnMut(Step, u64, u64) + Send),
) -> Result<(), StageError> {
    let mut waited = Duration::ZERO;
    loop {
        while shadow.next().await?.is_some() {
            waited = Duration::ZERO;
            let (done, of) = shadow.records();
            progress(Step::Replay, done, of);
        }
        if shadow.is_filled() || waited >= patience {
            return Ok(());
        }
        let (at, end) = shadow.offsets();
        progress(Step::WaitForRaw, at, end);
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
}

/// Each record that was replayed has one outcome, and the table counted the same ones. Which of the
/// outcomes that follow from other records it was depends on the batches: only the others compare.
async fn records(
    shadow: &mut Shadow,
    reached: &Progress,
    out: &mut Rebuilt,
) -> Result<(), StageError> {
    let (replayed, _) = shadow.records();
    let Some(rebuilt) = shadow.progress().await? else {
        return Err(StageError::Bug("a rebuild that was filled has no progress".to_owned()));
    };
    let ((a, sum), (b, rebuilt)) = (all_epochs(reached), all_epochs(&rebuilt));
    let conserved = b.is_conserved() && b.records == replayed;
    let same = (a.records, a.control, a.quarantined, sum)
        == (b.records, b.control, b.quarantined, rebuilt);
    let detail = format!(
        "{replayed} replayed = {} with an outcome; the table counted {}; control {} of {}, \
         quarantined {} of {}, checksum {sum} of {rebuilt}",
        b.accounted(),
        a.records,
        a.control,
        b.control,
        a.quarantined,
        b.quarantined
    );
    out.note("records of a rebuild", conserved && same, detail);
    Ok(())
}

/// The outcomes and the sum over all records, those of former epochs among them.
fn all_epochs(progress: &Progress) -> (Counts, Checksum) {
    let mut counts = progress.former.counts;
    counts += progress.totals;
    let mut sum = progress.former.checksum;
    sum += progress.checksum;
    (counts, sum)
}

/// The columns that both have with the same type. That there are others is a finding.
fn columns(table: &Table, rebuild: &Table, out: &mut Rebuilt) -> Vec<String> {
    let (of_table, of_rebuild) = (table.schema(), rebuild.schema());
    let mut columns = Vec::new();
    let mut wrong = Vec::new();
    for field in of_rebuild.fields() {
        match of_table.field_with_name(field.name()) {
            Ok(other) if other.data_type() == field.data_type() => {
                columns.push(field.name().clone());
            }
            Ok(other) => wrong.push(format!(
                "`{}` is {}, and {} by the metadata",
                field.name(),
                other.data_type(),
                field.data_type()
            )),
            Err(_) => wrong.push(format!("`{}` is missing in the table", field.name())),
        }
    }
    for field in of_table.fields() {
        if of_rebuild.field_with_name(field.name()).is_err() {
            wrong.push(format!("`{}` is not in the metadata", field.name()));
        }
    }
    columns.retain(|name| name != NOT_COMPARED);
    let detail = match wrong.is_empty() {
        true => format!("{} compared, all but {NOT_COMPARED}", columns.len()),
        false => wrong.join("; "),
    };
    out.note("columns of a rebuild", wrong.is_empty(), detail);
    columns
}

fn rows(table: &Prints, rebuild: &Prints, outcome: &Outcome, end: u64, out: &mut Rebuilt) {
    let tally = outcome.tally;
    let mut detail = format!(
        "{} versions at offset {end}, {} rebuilt: {} only in the table, {} only in the rebuild, \
         {} differ",
        table.rows(),
        rebuild.rows(),
        tally.only_in_table,
        tally.only_in_rebuild,
        tally.differing
    );
    if rebuild.left_out > 0 {
        let more = format!("; {} that retention has removed are not compared", rebuild.left_out);
        detail.push_str(&more);
    }
    let unreadable: Vec<&String> = table.unreadable.iter().chain(&rebuild.unreadable).collect();
    if let Some(first) = unreadable.first() {
        detail = format!("{} files cannot be read, such as {first}; {detail}", unreadable.len());
    }
    out.note("rows of a rebuild", tally.is_nothing() && unreadable.is_empty(), detail);
}

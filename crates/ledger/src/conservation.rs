//! Conservation: each record has exactly one outcome, in each batch, in the totals and across layers.
//!
//! Pure: it is given what stands in the ledger, and answers with what does not add up.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use alluvium_model::outcome::Progress;
use alluvium_model::{Checksum, Counts, Epoch, Layer, Outcome, Span};

use crate::LayerTotals;

/// What does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A batch's outcomes are not as many as its records.
    NotConserved,
    /// A batch does not begin where its predecessor ended.
    Hole,
    /// The running totals are not the sum of the batches.
    TotalsDiffer,
    /// Two layers that reached the same offset counted different records or other bytes.
    LayersDiffer,
    /// The lake and the ledger tell different totals at the same offset.
    LakeDiffers,
}

impl FindingKind {
    /// The word for it in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingKind::NotConserved => "not_conserved",
            FindingKind::Hole => "hole",
            FindingKind::TotalsDiffer => "totals_differ",
            FindingKind::LayersDiffer => "layers_differ",
            FindingKind::LakeDiffers => "lake_differs",
        }
    }
}

/// Something that does not add up, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// In which layer; of two that differ, the later.
    pub layer: Layer,
    /// In which epoch.
    pub epoch: Epoch,
    /// At which offset.
    pub offset: u64,
    /// Both sides, for people.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, layer, epoch, offset, detail } = self;
        write!(f, "{}: {layer} at {epoch}/{offset}: {detail}", kind.as_str())
    }
}

/// More findings than this say nothing new.
const FINDINGS_MAX: usize = 100;

/// What the check needs to know of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchSums {
    pub(crate) layer: Layer,
    pub(crate) span: Span,
    pub(crate) counts: Counts,
    pub(crate) checksum: Checksum,
    pub(crate) totals: Counts,
    pub(crate) total_checksum: Checksum,
}

/// How two layers stand at an offset that both have reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meeting {
    pub(crate) layers: (Layer, Layer),
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
    pub(crate) records: (u64, u64),
    pub(crate) checksums: (Checksum, Checksum),
}

/// Walks over the retained batches of an entity, in order within each layer and epoch.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    findings: Vec<Finding>,
    last: BTreeMap<(Layer, Epoch), BatchSums>,
}

impl Checker {
    /// The next batch.
    pub(crate) fn batch(&mut self, batch: &BatchSums) {
        if !batch.counts.is_conserved() {
            let (records, outcomes) = (batch.counts.records, batch.counts.accounted());
            let detail = format!("{records} records have {outcomes} outcomes");
            self.find(FindingKind::NotConserved, batch, detail);
        }
        match self.last.insert((batch.layer, batch.span.epoch), *batch) {
            Some(before) => self.successor(&before, batch),
            None => self.first(batch),
        }
    }

    /// All batches have been walked over; these are the running totals and the meetings of layers.
    pub(crate) fn finish(mut self, totals: &[LayerTotals], meetings: &[Meeting]) -> Vec<Finding> {
        for total in totals {
            self.total(total);
        }
        for meeting in meetings {
            self.meeting(meeting);
        }
        self.findings
    }

    fn successor(&mut self, before: &BatchSums, batch: &BatchSums) {
        if !before.span.is_followed_by(&batch.span) {
            let detail = format!("it begins after {}, not {}", batch.span.after, before.span.to);
            self.find(FindingKind::Hole, batch, detail);
        }
        let (mut counts, mut checksum) = (before.totals, before.total_checksum);
        counts += batch.counts;
        checksum += batch.checksum;
        if (counts, checksum) != (batch.totals, batch.total_checksum) {
            let detail = format!(
                "its totals are {} records and {}, the sum is {} and {checksum}",
                batch.totals.records, batch.total_checksum, counts.records
            );
            self.find(FindingKind::TotalsDiffer, batch, detail);
        }
    }

    /// The first batch that is kept: its predecessors, if it had any, stand in its totals.
    fn first(&mut self, batch: &BatchSums) {
        let own = batch.totals == batch.counts && batch.total_checksum == batch.checksum;
        if own != (batch.span.after == 0) {
            let detail = format!(
                "it begins after {}, and its totals count {} records, its own are {}",
                batch.span.after, batch.totals.records, batch.counts.records
            );
            self.find(FindingKind::Hole, batch, detail);
        }
    }

    fn total(&mut self, total: &LayerTotals) {
        let last = self.last.get(&(total.layer, total.epoch));
        let same = last.is_some_and(|last| {
            (last.span.to, last.totals, last.total_checksum)
                == (total.offset, total.counts, total.checksum)
        });
        if !same {
            self.push(Finding {
                kind: FindingKind::TotalsDiffer,
                layer: total.layer,
                epoch: total.epoch,
                offset: total.offset,
                detail: match last {
                    Some(last) => format!(
                        "the running totals are {} records and {}, the last batch ends at {} with {} and {}",
                        total.counts.records, total.checksum, last.span.to, last.totals.records,
                        last.total_checksum
                    ),
                    None => "there are running totals and no batch".to_owned(),
                },
            });
        }
    }

    fn meeting(&mut self, meeting: &Meeting) {
        let (left, right) = meeting.layers;
        if meeting.records.0 != meeting.records.1 || meeting.checksums.0 != meeting.checksums.1 {
            self.push(Finding {
                kind: FindingKind::LayersDiffer,
                layer: right,
                epoch: meeting.epoch,
                offset: meeting.offset,
                detail: format!(
                    "{left} counted {} records and {}, {right} {} and {}",
                    meeting.records.0, meeting.checksums.0, meeting.records.1, meeting.checksums.1
                ),
            });
        }
    }

    fn find(&mut self, kind: FindingKind, batch: &BatchSums, detail: String) {
        let BatchSums { layer, span, .. } = *batch;
        self.push(Finding { kind, layer, epoch: span.epoch, offset: span.to, detail });
    }

    fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// What the lake has beyond what was counted, or what does not fit.
pub(crate) fn beyond(
    layer: Layer,
    counted: &Counts,
    checksum: Checksum,
    lake: &Progress,
) -> Result<(Counts, Checksum), Finding> {
    let sum = Checksum(lake.checksum.0.wrapping_sub(checksum.0));
    minus(&lake.totals, counted)
        .map(|counts| (counts, sum))
        .ok_or_else(|| lake_differs(layer, counted, checksum, lake))
}

/// The lake and the ledger stand at the same offset and tell different things.
pub(crate) fn lake_differs(
    layer: Layer,
    counted: &Counts,
    checksum: Checksum,
    lake: &Progress,
) -> Finding {
    Finding {
        kind: FindingKind::LakeDiffers,
        layer,
        epoch: lake.epoch,
        offset: lake.offset,
        detail: format!(
            "the lake has {} records and {}, the ledger counted {} and {checksum}",
            lake.totals.records, lake.checksum, counted.records
        ),
    }
}

fn minus(whole: &Counts, part: &Counts) -> Option<Counts> {
    let mut rest = Counts {
        records: whole.records.checked_sub(part.records)?,
        late: whole.late.checked_sub(part.late)?,
        ..Counts::default()
    };
    for outcome in Outcome::ALL {
        rest.add(outcome, whole.of(outcome).checked_sub(part.of(outcome))?);
    }
    Some(rest)
}

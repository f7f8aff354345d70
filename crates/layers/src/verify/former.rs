//! The epochs before the present one: that each was accepted to be over, where raw ends of it, and
//! that the layers have all that raw has of it.

use std::collections::BTreeMap;

use alluvium_lake::raw::{EpochStart, RawTotals};
use alluvium_model::outcome::Progress;
use alluvium_model::{Epoch, Layer};

use super::Verification;

/// Where epochs end in raw, with the sums up to there.
type Ends = BTreeMap<Epoch, (u64, RawTotals)>;

/// Raw's epochs follow each other as was accepted, and each ends where it did then.
pub(super) fn succession(ends: &Ends, starts: &[EpochStart], out: &mut Verification) {
    let mut wrong = Vec::new();
    for step in starts.iter().map(|start| start.step) {
        let end = ends.get(&step.from).map_or(0, |(end, _)| *end);
        if end != step.end {
            wrong.push(format!(
                "epoch {} ended at offset {}, raw ends at {end}",
                step.from, step.end
            ));
        }
    }
    for epoch in ends.keys().skip(1) {
        if !starts.iter().any(|start| start.step.to == *epoch) {
            wrong.push(format!("nobody accepted that epoch {epoch} begins"));
        }
    }
    if starts.is_empty() && wrong.is_empty() {
        return;
    }
    let holds = wrong.is_empty();
    let detail = match holds {
        true => format!("{} accepted", starts.len()),
        false => wrong.join("; "),
    };
    out.note(Layer::Raw, "epochs", holds, detail);
}

/// A layer's sums over the epochs before its own, against those of raw. What a layer had applied of
/// a lost bus before raw landed it was counted when the operator accepted the loss.
pub(super) fn against_raw(
    layer: Layer,
    reached: &Progress,
    ends: &Ends,
    starts: &[EpochStart],
    out: &mut Verification,
) {
    let before = ends.range(..reached.epoch);
    let raw = before.fold(RawTotals::default(), |all, (_, (_, own))| all.plus(*own));
    let former = reached.former;
    if raw == RawTotals::default() && former == Default::default() {
        return;
    }
    let beyond = starts.iter().filter(|start| start.step.to <= reached.epoch);
    let beyond = beyond.flat_map(|start| &start.beyond).filter(|beyond| beyond.layer == layer);
    let beyond = beyond.fold(RawTotals::default(), |all, own| {
        all.plus(RawTotals { records: own.records, checksum: own.checksum })
    });
    let own = RawTotals { records: former.counts.records, checksum: former.checksum };
    // A table that was made anew from raw has no more than raw.
    let holds = (own == raw || own == raw.plus(beyond)) && former.counts.is_conserved();
    let mut detail = format!(
        "{} records of {}, checksum {} of {}",
        own.records, raw.records, own.checksum, raw.checksum
    );
    if own != raw && beyond != RawTotals::default() {
        detail.push_str(&format!(
            ", and {} that were lost with the bus before raw had them",
            beyond.records
        ));
    }
    out.note(layer, "former epochs against raw", holds, detail);
}

//! What the scenarios are made of.

use jiff::Timestamp;

use alluvium_model::{
    Applied, BatchId, Checksum, Counts, EntityId, Epoch, Layer, Outcome, Position, Quarantined,
    RowsWritten, RunId, Span,
};

use crate::{Ledger, NewRun};

pub(super) const START: i64 = 1_800_000_000;

/// Whole seconds after the beginning of the story.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

pub(super) fn orders() -> EntityId {
    "shop.orders".parse().unwrap()
}

pub(super) fn customers() -> EntityId {
    "shop.customers".parse().unwrap()
}

/// A batch of one record a message, all inserted.
pub(super) fn applied(layer: Layer, after: u64, to: u64) -> Applied {
    applied_in(Epoch(7), layer, after, to)
}

pub(super) fn applied_in(epoch: Epoch, layer: Layer, after: u64, to: u64) -> Applied {
    let span = Span { epoch, after, to };
    let records = span.messages();
    let mut counts = Counts { records, ..Counts::default() };
    counts.add(Outcome::Inserted, records);
    let place = |offset| Position { epoch, offset, index: 0 };
    Applied {
        layer,
        batch: BatchId::of(layer, &orders(), &span),
        span,
        counts,
        rows: RowsWritten { opened: records, ..RowsWritten::default() },
        checksum: (after + 1..=to).map(|offset| Checksum::of(&place(offset), b"{}")).sum(),
        quarantined: Vec::new(),
        version: (layer != Layer::Raw).then_some(3),
        bytes: 100,
        published_at_us: at(0).as_microsecond(),
    }
}

/// The batch with `bytes` that could not be applied in its first record.
pub(super) fn poisoned(mut batch: Applied, bytes: &[u8]) -> Applied {
    batch.counts.inserted -= 1;
    batch.counts.quarantined += 1;
    batch.quarantined.push(Quarantined {
        position: Position { epoch: batch.span.epoch, offset: batch.span.after + 1, index: 0 },
        code: "unparsable".to_owned(),
        reason: "it is not JSON".to_owned(),
        bytes: bytes.to_vec(),
    });
    batch
}

pub(super) async fn open_run(ledger: &dyn Ledger, system: &str, seconds: i64) -> RunId {
    let run = NewRun {
        system: system.parse().unwrap(),
        trigger: "manual".to_owned(),
        started_at: at(seconds),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        worker: None,
    };
    ledger.open_run(run).await.unwrap()
}

pub(super) async fn record(ledger: &dyn Ledger, batches: &[Applied]) {
    ledger.record_batches(&orders(), batches, None, at(1)).await.unwrap();
}

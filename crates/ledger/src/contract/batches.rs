//! Batches, totals, conservation, and the lake's word.

use std::time::Duration;

use alluvium_model::outcome::Progress;
use alluvium_model::{Applied, Checksum, Counts, Epoch, Layer, Outcome, Span};

use super::Given;
use super::given::{applied, applied_in, at, customers, open_run, orders, record};
use crate::{
    BATCH_APPLIED, BatchFilter, FindingKind, LEDGER_REWOUND, LeaseName, Ledger, LedgerError,
    Reconciled,
};

/// Long enough that a slow machine does not let it run out.
const TTL: Duration = Duration::from_secs(1200);

async fn kinds(ledger: &dyn Ledger) -> Vec<FindingKind> {
    let findings = ledger.conservation(&orders()).await.unwrap();
    findings.into_iter().map(|finding| finding.kind).collect()
}

/// What the lake would say after these batches.
fn progress(batches: &[Applied]) -> Progress {
    let mut totals = Counts::default();
    let mut checksum = Checksum::default();
    for batch in batches {
        totals += batch.counts;
        checksum += batch.checksum;
    }
    let span = batches.last().unwrap().span;
    Progress { epoch: span.epoch, offset: span.to, totals, checksum, former: Default::default() }
}

pub(super) async fn a_batch_written_twice_is_there_once(given: Given) {
    let ledger = &*given.ledger;
    let run = open_run(ledger, "shop", 0).await;
    let batch = applied(Layer::Silver, 0, 4);
    for seconds in [1, 2] {
        let twice = [batch.clone(), batch.clone()];
        ledger.record_batches(&orders(), &twice, Some(&run), at(seconds)).await.unwrap();
    }
    let rows = ledger.batches(&BatchFilter::default()).await.unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((&row.id, row.layer, &row.entity), (&batch.batch, Layer::Silver, &orders()));
    assert_eq!((row.span, row.counts, row.rows), (batch.span, batch.counts, batch.rows));
    assert_eq!((row.checksum, row.version, row.bytes), (batch.checksum, Some(3), 100));
    assert_eq!((row.applied_at, row.published_at), (at(1), Some(at(0))));
    assert_eq!((row.run.as_ref(), row.from_lake), (Some(&run), false));
    assert_eq!(ledger.totals(&orders()).await.unwrap()[0].counts.records, 4);
}

pub(super) async fn totals_run_from_the_epochs_start(given: Given) {
    let ledger = &*given.ledger;
    let first = [applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 10)];
    record(ledger, &first).await;
    record(ledger, &[applied_in(Epoch(8), Layer::Raw, 0, 2)]).await;
    record(ledger, &[applied(Layer::Bronze, 0, 10)]).await;

    let totals = ledger.totals(&orders()).await.unwrap();
    let seen: Vec<_> = totals.iter().map(|t| (t.layer, t.epoch.0, t.offset, t.batches)).collect();
    assert_eq!(seen, [(Layer::Raw, 7, 10, 2), (Layer::Raw, 8, 2, 1), (Layer::Bronze, 7, 10, 1)]);
    assert_eq!(totals[0].counts.records, 10);
    assert_eq!(totals[0].checksum, first.iter().map(|batch| batch.checksum).sum());
    assert!(ledger.totals(&customers()).await.unwrap().is_empty());
}

pub(super) async fn a_batch_across_what_was_counted_is_refused_whole(given: Given) {
    let ledger = &*given.ledger;
    record(ledger, &[applied(Layer::Raw, 0, 3)]).await;
    let batches = [applied(Layer::Raw, 3, 6), applied(Layer::Raw, 4, 8)];
    let refused = ledger.record_batches(&orders(), &batches, None, at(2)).await;
    assert!(matches!(refused, Err(LedgerError::Overlap { at: 6, .. })), "{refused:?}");
    assert_eq!(ledger.totals(&orders()).await.unwrap()[0].offset, 3, "half of it was written");
}

pub(super) async fn sound_counts_have_no_findings(given: Given) {
    let ledger = &*given.ledger;
    assert_eq!(kinds(ledger).await, []);
    for layer in Layer::ALL {
        record(ledger, &[applied(layer, 0, 3), applied(layer, 3, 9)]).await;
        record(ledger, &[applied_in(Epoch(8), layer, 0, 2)]).await;
    }
    record(ledger, &[applied(Layer::Raw, 9, 12)]).await;
    let findings = ledger.conservation(&orders()).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

pub(super) async fn whatever_does_not_add_up_is_found(given: Given) {
    let ledger = &*given.ledger;
    let mut lost = applied(Layer::Raw, 0, 3);
    lost.counts.inserted -= 1;
    record(ledger, &[lost, applied(Layer::Raw, 5, 9)]).await;
    assert_eq!(kinds(ledger).await, [FindingKind::NotConserved, FindingKind::Hole]);
    let findings = ledger.conservation(&orders()).await.unwrap();
    assert_eq!((findings[0].layer, findings[0].offset), (Layer::Raw, 3));
    assert_eq!(findings[0].detail, "3 records have 2 outcomes");

    record(ledger, &[applied_in(Epoch(9), Layer::Silver, 4, 6)]).await;
    let found = ledger.conservation(&orders()).await.unwrap();
    let hole = found.iter().find(|finding| finding.epoch == Epoch(9)).unwrap();
    assert_eq!(hole.kind, FindingKind::Hole, "it does not begin at the epoch's start");
}

pub(super) async fn layers_are_compared_where_both_have_a_batchs_end(given: Given) {
    let ledger = &*given.ledger;
    record(ledger, &[applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 9)]).await;
    record(ledger, &[applied(Layer::Raw, 9, 20)]).await;
    let mut altered = applied(Layer::Silver, 0, 5);
    altered.checksum.0 ^= 1;
    record(ledger, &[altered]).await;
    assert_eq!(kinds(ledger).await, [], "there is no common end yet");
    record(ledger, &[applied(Layer::Silver, 5, 9)]).await;
    let findings = ledger.conservation(&orders()).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let found = &findings[0];
    assert_eq!((found.kind, found.layer), (FindingKind::LayersDiffer, Layer::Silver));
    assert_eq!(found.offset, 9);
    record(ledger, &[applied(Layer::Silver, 9, 11)]).await;
    assert_eq!(kinds(ledger).await, [FindingKind::LayersDiffer], "the highest common end is 9");
}

pub(super) async fn what_only_the_lake_knows_is_filled_in(given: Given) {
    let ledger = &*given.ledger;
    let lake = [applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 7), applied(Layer::Raw, 7, 9)];
    record(ledger, &lake[..1]).await;
    let all = progress(&lake);
    let filled = ledger.reconcile(&orders(), Layer::Raw, Some(&all), None, at(5)).await.unwrap();
    assert_eq!(filled, Reconciled::Filled(Span { epoch: Epoch(7), after: 3, to: 9 }));
    let again = ledger.reconcile(&orders(), Layer::Raw, Some(&all), None, at(6)).await.unwrap();
    assert_eq!(again, Reconciled::Equal);
    record(ledger, &lake).await;
    record(ledger, &[applied(Layer::Raw, 9, 12)]).await;

    assert_eq!(kinds(ledger).await, []);
    let total = ledger.totals(&orders()).await.unwrap()[0];
    assert_eq!((total.offset, total.batches, total.counts.records), (12, 3, 12));
    let rows = ledger.batches(&BatchFilter::default()).await.unwrap();
    let from_lake: Vec<bool> = rows.iter().map(|row| row.from_lake).collect();
    assert_eq!(from_lake, [false, true, false]);

    let mut other = progress(&[applied(Layer::Raw, 0, 12)]);
    other.checksum.0 ^= 1;
    let differs = ledger.reconcile(&orders(), Layer::Raw, Some(&other), None, at(7)).await.unwrap();
    assert!(matches!(differs, Reconciled::Differs(_)), "{differs:?}");
    let fewer = Progress { offset: 20, totals: Counts::default(), ..other };
    let differs = ledger.reconcile(&orders(), Layer::Raw, Some(&fewer), None, at(7)).await.unwrap();
    assert!(matches!(differs, Reconciled::Differs(_)), "{differs:?}");
    assert_eq!(ledger.totals(&orders()).await.unwrap()[0].offset, 12, "nothing was altered");
}

pub(super) async fn a_ledger_ahead_of_the_lake_is_taken_back(given: Given) {
    let ledger = &*given.ledger;
    let batches = [applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 7), applied(Layer::Raw, 7, 9)];
    record(ledger, &batches).await;
    // The lake was restored to a place inside the second batch.
    let lake = progress(&[applied(Layer::Raw, 0, 5)]);
    let taken = ledger.reconcile(&orders(), Layer::Raw, Some(&lake), None, at(5)).await.unwrap();
    assert_eq!(taken, Reconciled::Rewound { from: 9, to: 5 });
    let total = ledger.totals(&orders()).await.unwrap()[0];
    assert_eq!((total.offset, total.batches, total.counts.records), (5, 2, 5));
    record(ledger, &[applied(Layer::Raw, 5, 9)]).await;
    assert_eq!(kinds(ledger).await, []);
    let events = ledger.pending_events(100).await.unwrap();
    assert!(events.iter().any(|event| event.event["type"] == LEDGER_REWOUND));

    record(ledger, &[applied(Layer::Silver, 0, 9)]).await;
    let taken = ledger.reconcile(&orders(), Layer::Silver, None, None, at(6)).await.unwrap();
    assert_eq!(taken, Reconciled::Rewound { from: 9, to: 0 });
    let left = ledger.totals(&orders()).await.unwrap();
    assert!(left.iter().all(|total| total.layer == Layer::Raw), "{left:?}");
    let nothing = ledger.reconcile(&orders(), Layer::Silver, None, None, at(7)).await.unwrap();
    assert_eq!(nothing, Reconciled::Equal);
}

/// It read the lake while the layer was its own, and was stopped before it told the ledger.
pub(super) async fn who_has_lost_a_layer_takes_nothing_of_it_back(given: Given) {
    let (ledger, orders) = (&*given.ledger, orders());
    let all = [applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 7)];
    let (stale, lake) = (progress(&all[..1]), progress(&all));
    let name = LeaseName::layer(Layer::Raw, &orders);
    let ours = ledger.acquire_lease(&name, "a", TTL).await.unwrap();
    record(ledger, &all[..1]).await;
    let held = ledger.reconcile(&orders, Layer::Raw, Some(&stale), ours, at(2)).await.unwrap();
    assert_eq!(held, Reconciled::Equal);
    given.time.pass(TTL * 2).await;
    let alone = ledger.reconcile(&orders, Layer::Raw, Some(&stale), ours, at(3)).await.unwrap();
    assert_eq!(alone, Reconciled::Equal, "it has run out, and nobody else has it");

    let theirs = given.other.acquire_lease(&name, "b", TTL).await.unwrap();
    assert!(theirs > ours);
    record(&*given.other, &all[1..]).await;
    for old in [Some(&stale), None] {
        let refused = ledger.reconcile(&orders, Layer::Raw, old, ours, at(4)).await;
        assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    }
    let never = ledger.reconcile(&orders, Layer::Bronze, None, theirs, at(4)).await;
    assert!(matches!(never, Err(LedgerError::Fenced { .. })), "nobody holds it: {never:?}");
    assert_eq!(ledger.totals(&orders).await.unwrap()[0].offset, 7);
    let events = ledger.pending_events(100).await.unwrap();
    assert!(events.iter().all(|event| event.event["type"] != LEDGER_REWOUND), "{events:?}");
    let held = given.other.reconcile(&orders, Layer::Raw, Some(&lake), theirs, at(5)).await;
    assert_eq!(held.unwrap(), Reconciled::Equal);
    let taken = given.other.reconcile(&orders, Layer::Raw, Some(&stale), theirs, at(6)).await;
    assert_eq!(taken.unwrap(), Reconciled::Rewound { from: 7, to: 3 }, "the owner may");
}

pub(super) async fn each_batch_has_one_audit_event(given: Given) {
    let ledger = &*given.ledger;
    let batches = [applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 7)];
    record(ledger, &batches).await;
    record(ledger, &batches).await;
    let events = ledger.pending_events(100).await.unwrap();
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, [batches[0].batch.0.as_str(), batches[1].batch.0.as_str()]);
    let event = &events[0].event;
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", BATCH_APPLIED),
        ("subject", "shop.orders"),
        ("datacontenttype", "application/json"),
        ("id", ids[0]),
    ] {
        assert_eq!(event[name], value, "{event}");
    }
    assert!(event["source"].is_string() && event["time"].is_string());
    assert_eq!(event["data"]["counts"]["inserted"], 3);
    assert_eq!(event["data"]["checksum"], batches[0].checksum.to_string());

    ledger.events_delivered(&[events[0].id.clone()], at(9)).await.unwrap();
    let left = ledger.pending_events(100).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, ids[1]);
    assert_eq!(ledger.pending_events(1).await.unwrap().len(), 1);
}

pub(super) async fn the_largest_checksums_wrap_around(given: Given) {
    let ledger = &*given.ledger;
    for layer in [Layer::Raw, Layer::Bronze] {
        let mut batches = [applied(layer, 0, 1), applied(layer, 1, 2)];
        batches[0].checksum = Checksum(u64::MAX);
        batches[1].checksum = Checksum(2);
        batches[1].counts.add(Outcome::Control, 1);
        batches[1].counts.records += 1;
        record(ledger, &batches).await;
    }
    assert_eq!(kinds(ledger).await, []);
    assert_eq!(ledger.totals(&orders()).await.unwrap()[0].checksum, Checksum(1));
}

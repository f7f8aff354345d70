//! What several workers do at once, through two handles on one ledger.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{join, join_all};
use serde_json::json;

use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, Checksum, Counts, Cursor, CursorRecord, FencingToken, Layer, Position, Quarantined,
    RunId, Span, SystemSpec,
};

use super::Given;
use super::given::{applied, at, open_run, orders};
use crate::{
    BatchFilter, EntityCounts, LeaseName, Ledger, MetadataKind, Reconciled, RunEnd, RunStatus,
    Worker,
};

const TTL: Duration = Duration::from_secs(1200);
/// Batches of each layer; small enough that all are listed.
const BATCHES: u64 = 10;

/// A layer's batches, each of two records.
fn batches(layer: Layer) -> impl Iterator<Item = Applied> {
    (0..BATCHES).map(move |number| applied(layer, 2 * number, 2 * number + 2))
}

/// Tells the batches one by one, as a layer does that applies them.
async fn tell(ledger: &dyn Ledger, layer: Layer, run: Option<&RunId>) {
    for batch in batches(layer) {
        ledger.record_batches(&orders(), &[batch], run, at(3)).await.unwrap();
    }
}

/// All layers at once, each told by both handles.
async fn tell_all(given: &Given, run: Option<&RunId>) {
    let ledgers = [&*given.ledger, &*given.other];
    let tellers = Layer::ALL.into_iter().flat_map(|layer| ledgers.map(|ledger| (ledger, layer)));
    join_all(tellers.map(|(ledger, layer)| tell(ledger, layer, run))).await;
}

/// Does `work`, and meanwhile looks again and again, once more at the end.
async fn meanwhile(work: impl Future<Output = ()>, mut look: impl AsyncFnMut()) {
    let done = AtomicBool::new(false);
    let work = async {
        work.await;
        done.store(true, Ordering::Relaxed);
    };
    let look = async {
        while !done.load(Ordering::Relaxed) {
            look().await;
        }
        look().await;
    };
    join(work, look).await;
}

pub(super) async fn of_many_at_once_one_gets_the_lease_and_tokens_grow(given: Given) {
    let name = LeaseName::poll(&orders());
    let holders: Vec<String> = (0..8).map(|n| format!("worker-{n}")).collect();
    let mut last = FencingToken(0);
    for _ in 0..5 {
        let ledgers = [&given.ledger, &given.other].into_iter().cycle();
        let tries = holders.iter().zip(ledgers);
        let tries = tries.map(|(holder, ledger)| ledger.acquire_lease(&name, holder, TTL));
        let granted: Vec<_> =
            join_all(tries).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(granted.len(), 1, "{granted:?}");
        assert!(granted[0] > last, "{granted:?} after {last:?}");
        last = granted[0];
        assert!(given.other.release_lease(&name, last).await.unwrap());
    }
}

pub(super) async fn all_who_ask_for_the_id_first_are_told_the_same(given: Given) {
    let ledgers = [&given.ledger, &given.other].into_iter().cycle().take(6);
    let told = join_all(ledgers.map(|ledger| ledger.id())).await;
    let told: Vec<String> = told.into_iter().map(Result::unwrap).collect();
    assert!(!told[0].is_empty() && told.iter().all(|id| *id == told[0]), "{told:?}");
    assert_eq!(given.ledger.id().await.unwrap(), told[0], "it stays");
}

pub(super) async fn what_several_record_at_once_is_counted_once_and_whole(given: Given) {
    let ledger = &*given.ledger;
    let run = open_run(ledger, "shop", 0).await;
    meanwhile(tell_all(&given, Some(&run)), async || {
        let findings = ledger.conservation(&orders()).await.unwrap();
        assert!(findings.is_empty(), "{findings:?}");
    })
    .await;
    let totals = ledger.totals(&orders()).await.unwrap();
    assert_eq!(totals.len(), Layer::ALL.len());
    for total in totals {
        let sum: Checksum = batches(total.layer).map(|batch| batch.checksum).sum();
        let seen = (total.offset, total.batches, total.counts.records, total.checksum);
        assert_eq!(seen, (2 * BATCHES, BATCHES, 2 * BATCHES, sum));
    }
    let rows = ledger.batches(&BatchFilter::default()).await.unwrap();
    assert_eq!(rows.len(), Layer::ALL.len() * usize::try_from(BATCHES).unwrap());
    let steps = ledger.steps(&run).await.unwrap();
    assert_eq!(steps.len(), 2 * Layer::ALL.len(), "{steps:?}");
    for step in steps {
        assert_eq!((step.batches, step.counts.records), (BATCHES, 2 * BATCHES), "{step:?}");
    }
}

pub(super) async fn a_layer_that_two_reconcile_at_once_is_filled_once(given: Given) {
    let all: Vec<Applied> = batches(Layer::Raw).collect();
    let mut totals = Counts::default();
    let mut checksum = Checksum::default();
    for batch in &all {
        totals += batch.counts;
        checksum += batch.checksum;
    }
    let Span { epoch, to: offset, .. } = all.last().unwrap().span;
    let lake = Progress { epoch, offset, totals, checksum, former: Default::default() };
    let (id, lake) = (orders(), Some(&lake));
    let tries = [&given.ledger, &given.other, &given.ledger, &given.other]
        .map(|ledger| ledger.reconcile(&id, Layer::Raw, lake, None, at(1)));
    let outcomes: Vec<_> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    let filled = outcomes.iter().filter(|outcome| matches!(outcome, Reconciled::Filled(_)));
    let equal = outcomes.iter().filter(|outcome| matches!(outcome, Reconciled::Equal));
    assert_eq!((filled.count(), equal.count()), (1, 3), "{outcomes:?}");
    assert_eq!(given.ledger.totals(&id).await.unwrap()[0].batches, 1);
}

/// Whoever delivers them marks what was seen as delivered: an event that came to stand before it
/// would be delivered after it.
pub(super) async fn events_are_seen_in_one_order_while_they_come(given: Given) {
    let mut seen: Vec<String> = Vec::new();
    meanwhile(tell_all(&given, None), async || {
        let events = given.other.pending_events(1000).await.unwrap();
        let now: Vec<String> = events.into_iter().map(|event| event.id).collect();
        assert!(now.starts_with(&seen), "{now:?} does not begin with {seen:?}");
        seen = now;
    })
    .await;
    assert_eq!(seen.len(), Layer::ALL.len() * usize::try_from(BATCHES).unwrap());
}

pub(super) async fn a_run_that_ends_while_batches_come_leaves_no_part_open(given: Given) {
    for round in 0..5 {
        let run = open_run(&*given.ledger, "shop", round).await;
        let end = RunEnd {
            status: RunStatus::Succeeded,
            reason: None,
            ended_at: at(9),
            entities: EntityCounts::default(),
            polled: 0,
            published: 0,
        };
        let to = 2 * u64::try_from(round).unwrap();
        let told = Layer::ALL.map(|layer| [applied(layer, to, to + 2)]);
        let id = orders();
        let tellers = told.iter().map(|b| given.ledger.record_batches(&id, b, Some(&run), at(5)));
        let (told, ended) = join(join_all(tellers), given.other.finish_run(&run, end)).await;
        ended.unwrap();
        told.into_iter().for_each(Result::unwrap);
        for step in given.ledger.steps(&run).await.unwrap() {
            assert_eq!(step.status, RunStatus::Succeeded, "{step:?}");
            assert!(step.ended_at.is_some(), "{step:?}");
        }
    }
}

pub(super) async fn metadata_that_two_store_at_once_are_one_version(given: Given) {
    let spec = json!({ "name": "shop", "type": "rest" });
    let systems: [SystemSpec; 1] = [serde_json::from_value(spec).unwrap()];
    let handles = [&given.ledger, &given.other, &given.ledger, &given.other];
    let stored = handles.map(|ledger| ledger.store_metadata(&systems, &[], at(1)));
    join_all(stored).await.into_iter().for_each(Result::unwrap);
    let history = given.ledger.metadata_history(MetadataKind::System, "shop").await.unwrap();
    assert_eq!(history.len(), 1, "{history:?}");
}

pub(super) async fn of_cursors_noted_at_once_the_youngest_is_kept(given: Given) {
    let records: Vec<CursorRecord> = [7, 2, 9, 4, 1, 8, 3, 6, 5]
        .map(|page| CursorRecord { token: FencingToken(1), page, cursor: Cursor(json!(page)) })
        .into();
    let id = orders();
    let ledgers = [&given.ledger, &given.other].into_iter().cycle();
    let noted = records.iter().zip(ledgers);
    let noted = noted.map(|(record, ledger)| ledger.note_cursor(&id, record, at(1)));
    join_all(noted).await.into_iter().for_each(Result::unwrap);
    assert_eq!(given.other.cursor(&id).await.unwrap(), Some(records[2].clone()));
}

pub(super) async fn many_records_that_are_refused_keep_nobody_from_telling_that_it_lives(
    given: Given,
) {
    let (records, beats) = (5_000, AtomicU64::new(0));
    let mut batch = applied(Layer::Bronze, 0, records);
    batch.quarantined = (1..=records)
        .map(|offset| Quarantined {
            position: Position { epoch: batch.span.epoch, offset, index: 0 },
            code: "unparsable".to_owned(),
            reason: "it is not JSON".to_owned(),
            bytes: b"no".to_vec(),
        })
        .collect();
    let batches = [batch];
    let told = async {
        given.ledger.record_batches(&orders(), &batches, None, at(3)).await.unwrap();
    };
    let worker = Worker { id: "another".to_owned(), ..Worker::default() };
    meanwhile(told, async || {
        given.other.beat(&worker, &[], TTL).await.unwrap();
        beats.fetch_add(1, Ordering::Relaxed);
    })
    .await;
    // One before, one that had to wait for all of it, and one after: more than that came between.
    assert!(beats.load(Ordering::Relaxed) > 3, "{beats:?}");
    let sizes = given.ledger.quarantine_sizes().await.unwrap();
    assert_eq!(sizes, [(orders(), records)]);
}

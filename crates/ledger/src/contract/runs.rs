//! Runs and their parts.

use alluvium_model::{Layer, RunId};

use super::Given;
use super::given::{applied, at, customers, open_run, orders};
use crate::{EntityCounts, EntityStep, RUN_FINISHED, RunEnd, RunFilter, RunStatus};

fn end(status: RunStatus, seconds: i64) -> RunEnd {
    RunEnd {
        status,
        reason: (status == RunStatus::Failed).then(|| "the source hung".to_owned()),
        ended_at: at(seconds),
        entities: EntityCounts { succeeded: 2, failed: 1, skipped: 3 },
        polled: 11,
        published: 10,
    }
}

pub(super) async fn a_run_is_opened_and_ended_once(given: Given) {
    let ledger = &*given.ledger;
    let id = open_run(ledger, "shop", 0).await;
    let run = ledger.run(&id).await.unwrap().unwrap();
    assert_eq!((run.status, run.ended_at), (RunStatus::Running, None));
    assert_eq!((run.trigger.as_str(), run.started_at), ("manual", at(0)));
    assert!(run.traceparent.unwrap().starts_with("00-"));

    ledger.finish_run(&id, end(RunStatus::Failed, 5)).await.unwrap();
    ledger.finish_run(&id, end(RunStatus::Succeeded, 9)).await.unwrap();
    let run = ledger.run(&id).await.unwrap().unwrap();
    assert_eq!((run.status, run.ended_at), (RunStatus::Failed, Some(at(5))), "it ended twice");
    assert_eq!(run.reason.as_deref(), Some("the source hung"));
    assert_eq!(run.entities, EntityCounts { succeeded: 2, failed: 1, skipped: 3 });
    assert_eq!((run.polled, run.published), (11, 10));
    assert_eq!(ledger.run(&RunId("nobody".to_owned())).await.unwrap(), None);
}

pub(super) async fn runs_are_listed_the_latest_first(given: Given) {
    let ledger = &*given.ledger;
    let first = open_run(ledger, "shop", 0).await;
    let second = open_run(ledger, "quakes", 1).await;
    let third = open_run(ledger, "shop", 2).await;
    ledger.finish_run(&first, end(RunStatus::Succeeded, 3)).await.unwrap();

    let ids = |runs: Vec<crate::RunRow>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    let all = ledger.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(ids(all), [third.clone(), second.clone(), first.clone()]);
    let filter = RunFilter { system: Some("shop".parse().unwrap()), ..RunFilter::default() };
    assert_eq!(ids(ledger.runs(&filter).await.unwrap()), [third.clone(), first.clone()]);
    let filter = RunFilter { limit: 1, ..RunFilter::default() };
    assert_eq!(ids(ledger.runs(&filter).await.unwrap()), [third]);
    let filter = RunFilter { status: Some(RunStatus::Succeeded), ..RunFilter::default() };
    assert_eq!(ids(ledger.runs(&filter).await.unwrap()), [first]);
}

pub(super) async fn a_crash_leaves_interrupted_runs(given: Given) {
    let ledger = &*given.ledger;
    let ended = open_run(ledger, "shop", 0).await;
    ledger.finish_run(&ended, end(RunStatus::Succeeded, 1)).await.unwrap();
    let open = open_run(ledger, "shop", 2).await;
    let batch = applied(Layer::Raw, 0, 3);
    ledger.record_batches(&orders(), &[batch], Some(&open), at(3)).await.unwrap();

    assert_eq!(ledger.interrupt_open_runs(at(9)).await.unwrap(), 1);
    assert_eq!(ledger.interrupt_open_runs(at(10)).await.unwrap(), 0);
    let run = ledger.run(&open).await.unwrap().unwrap();
    assert_eq!((run.status, run.ended_at), (RunStatus::Interrupted, Some(at(9))));
    for step in ledger.steps(&open).await.unwrap() {
        assert_eq!((step.status, step.ended_at), (RunStatus::Interrupted, Some(at(9))));
    }
    let run = ledger.run(&ended).await.unwrap().unwrap();
    assert_eq!(run.status, RunStatus::Succeeded);
}

pub(super) async fn the_parts_of_a_run_are_linked_and_counted(given: Given) {
    let ledger = &*given.ledger;
    let run = open_run(ledger, "shop", 0).await;
    let step = |entity, status, records, seconds| EntityStep {
        run: run.clone(),
        entity,
        layer: None,
        status,
        reason: (status == RunStatus::Failed).then(|| "no such table".to_owned()),
        records,
        at: at(seconds),
    };
    ledger.note_step(step(orders(), RunStatus::Running, 2, 1)).await.unwrap();
    ledger.note_step(step(orders(), RunStatus::Succeeded, 5, 2)).await.unwrap();
    ledger.note_step(step(customers(), RunStatus::Failed, 0, 2)).await.unwrap();
    let batches = [applied(Layer::Raw, 0, 3), applied(Layer::Raw, 3, 5)];
    for _ in 0..2 {
        ledger.record_batches(&orders(), &batches, Some(&run), at(3)).await.unwrap();
    }
    ledger.finish_run(&run, end(RunStatus::Failed, 4)).await.unwrap();
    let late = [applied(Layer::Raw, 5, 6), applied(Layer::Silver, 0, 6)];
    ledger.record_batches(&orders(), &late, Some(&run), at(6)).await.unwrap();

    let steps = ledger.steps(&run).await.unwrap();
    let part = |layer, entity| {
        let found = steps.iter().find(|step| (step.layer, &step.entity) == (layer, &entity));
        found.unwrap_or_else(|| panic!("{layer:?} {entity:?} is not among {steps:?}"))
    };
    assert_eq!(steps.len(), 7, "{steps:?}");
    let source = part(None, None);
    assert_eq!((source.status, source.counts.records), (RunStatus::Failed, 5));
    let polled = part(None, Some(orders()));
    assert_eq!((polled.status, polled.counts.records), (RunStatus::Succeeded, 5));
    assert_eq!(polled.ended_at, Some(at(2)));
    let failed = part(None, Some(customers()));
    assert_eq!(failed.reason.as_deref(), Some("no such table"));
    for entity in [None, Some(orders())] {
        let raw = part(Some(Layer::Raw), entity.clone());
        assert_eq!((raw.batches, raw.counts.records, raw.rows.opened, raw.bytes), (3, 6, 6, 300));
        assert_eq!((raw.status, raw.ended_at), (RunStatus::Failed, Some(at(6))));
        let silver = part(Some(Layer::Silver), entity);
        assert_eq!((silver.status, silver.batches), (RunStatus::Succeeded, 1));
    }
}

pub(super) async fn the_end_of_a_run_is_an_audit_event(given: Given) {
    let ledger = &*given.ledger;
    let run = open_run(ledger, "shop", 0).await;
    for _ in 0..2 {
        ledger.finish_run(&run, end(RunStatus::Succeeded, 5)).await.unwrap();
    }
    let events = ledger.pending_events(10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event["type"], RUN_FINISHED);
    assert_eq!(events[0].event["data"]["run"], run.0);
    assert_eq!(events[0].event["data"]["status"], "succeeded");
}

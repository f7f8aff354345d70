//! Quarantine, cursors, metadata, retention.

use std::time::Duration;

use serde_json::json;

use alluvium_model::{Cursor, CursorRecord, EntitySpec, FencingToken, Layer, Position, SystemSpec};

use super::Given;
use super::given::{applied, at, customers, open_run, orders, poisoned, record};
use crate::{
    BatchFilter, EntityCounts, LayerStop, MetadataKind, QUARANTINE_BYTES_MAX, QuarantineFilter,
    QuarantineStatus, Resolution, Retained, Retention, RunEnd, RunFilter, RunStatus,
};

const DAYS: i64 = 24 * 60 * 60;

pub(super) async fn quarantine_keeps_each_record_once_until_it_is_decided(given: Given) {
    let ledger = &*given.ledger;
    let run = open_run(ledger, "shop", 0).await;
    let batch = poisoned(applied(Layer::Silver, 4, 8), b"\xff{nope");
    for _ in 0..2 {
        let batches = [applied(Layer::Silver, 0, 4), batch.clone()];
        ledger.record_batches(&orders(), &batches, Some(&run), at(3)).await.unwrap();
    }
    let listed = ledger.quarantine_list(&QuarantineFilter::default()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].bytes.is_empty(), "a listing brings no bytes");
    let id = listed[0].id;
    let row = ledger.quarantine_get(id).await.unwrap().unwrap();
    assert_eq!(row.bytes, b"\xff{nope");
    assert_eq!((row.size, row.truncated, row.status), (6, false, QuarantineStatus::Open));
    assert_eq!(row.position, Position { epoch: batch.span.epoch, offset: 5, index: 0 });
    assert_eq!((row.code.as_str(), row.reason.as_str()), ("unparsable", "it is not JSON"));
    assert_eq!((&row.batch, row.run.as_ref()), (&batch.batch, Some(&run)));
    assert_eq!(ledger.quarantine_sizes().await.unwrap(), [(orders(), 1)]);

    assert!(ledger.quarantine_resolve(id, Resolution::Replayed, at(4)).await.unwrap());
    assert!(!ledger.quarantine_resolve(id, Resolution::Discarded, at(5)).await.unwrap());
    assert!(!ledger.quarantine_resolve(id + 1, Resolution::Discarded, at(5)).await.unwrap());
    let row = ledger.quarantine_get(id).await.unwrap().unwrap();
    assert_eq!((row.status, row.resolved_at), (QuarantineStatus::Replayed, Some(at(4))));
    assert_eq!(ledger.quarantine_sizes().await.unwrap(), []);
    let open = QuarantineFilter { status: Some(QuarantineStatus::Open), ..Default::default() };
    assert!(ledger.quarantine_list(&open).await.unwrap().is_empty());
    let other = QuarantineFilter { entity: Some(customers()), ..Default::default() };
    assert!(ledger.quarantine_list(&other).await.unwrap().is_empty());
    let system = QuarantineFilter { system: Some(orders().system), ..Default::default() };
    assert_eq!(ledger.quarantine_list(&system).await.unwrap().len(), 1);
}

pub(super) async fn records_of_a_batch_that_was_not_told_are_kept_before_it_is_counted(
    given: Given,
) {
    let ledger = &*given.ledger;
    let batch = poisoned(applied(Layer::Silver, 4, 8), b"\xff{nope");
    let records = &batch.quarantined;
    for seconds in [1, 2] {
        ledger
            .quarantine_late(&orders(), Layer::Silver, &batch.span, records, at(seconds))
            .await
            .unwrap();
    }
    assert_eq!(ledger.totals(&orders()).await.unwrap(), [], "nothing is counted by it");
    let listed = ledger.quarantine_list(&QuarantineFilter::default()).await.unwrap();
    assert_eq!(listed.len(), 1);
    let row = ledger.quarantine_get(listed[0].id).await.unwrap().unwrap();
    assert_eq!((&row.batch, row.quarantined_at), (&batch.batch, at(1)));
    assert_eq!((row.bytes.as_slice(), row.position), (&b"\xff{nope"[..], records[0].position));
    // What is decided stays decided.
    assert!(ledger.quarantine_resolve(row.id, Resolution::Discarded, at(3)).await.unwrap());
    let orders = orders();
    let late = ledger.quarantine_late(&orders, Layer::Silver, &batch.span, records, at(4));
    late.await.unwrap();
    assert_eq!(ledger.quarantine_sizes().await.unwrap(), []);
}

pub(super) async fn a_large_record_is_kept_in_part(given: Given) {
    let ledger = &*given.ledger;
    let bytes = vec![b'x'; QUARANTINE_BYTES_MAX + 1];
    record(ledger, &[poisoned(applied(Layer::Silver, 0, 1), &bytes)]).await;
    let listed = ledger.quarantine_list(&QuarantineFilter::default()).await.unwrap();
    let row = ledger.quarantine_get(listed[0].id).await.unwrap().unwrap();
    assert_eq!(row.bytes.len(), QUARANTINE_BYTES_MAX);
    assert_eq!((row.truncated, row.size), (true, bytes.len() as u64));
}

pub(super) async fn the_youngest_cursor_is_kept(given: Given) {
    let ledger = &*given.ledger;
    let cursor = |token, page| CursorRecord {
        token: FencingToken(token),
        page,
        cursor: Cursor(json!({ "page": page })),
    };
    assert_eq!(ledger.cursor(&orders()).await.unwrap(), None);
    for (record, seconds) in [(cursor(1, 1), 1), (cursor(2, 5), 2), (cursor(1, 6), 3)] {
        ledger.note_cursor(&orders(), &record, at(seconds)).await.unwrap();
    }
    ledger.note_cursor(&orders(), &cursor(2, 4), at(4)).await.unwrap();
    assert_eq!(ledger.cursor(&orders()).await.unwrap(), Some(cursor(2, 5)));
    ledger.note_cursor(&customers(), &cursor(1, 1), at(5)).await.unwrap();
    let all = ledger.cursors().await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((&all[1].entity, all[1].noted_at), (&orders(), at(2)));
}

pub(super) async fn a_layer_that_stopped_is_listed_until_it_works_again(given: Given) {
    let ledger = &*given.ledger;
    ledger.note_stop(&orders(), Layer::Silver, "first", at(1)).await.unwrap();
    ledger.note_stop(&orders(), Layer::Silver, "second", at(2)).await.unwrap();
    ledger.note_stop(&customers(), Layer::Raw, "other", at(3)).await.unwrap();
    let told = |stops: &[LayerStop]| -> Vec<_> {
        let each =
            stops.iter().map(|s| (s.entity.clone(), s.layer, s.stopped_at, s.reason.clone()));
        each.collect()
    };
    let stops = ledger.stops().await.unwrap();
    let customers_raw = (customers(), Layer::Raw, at(3), "other".to_owned());
    let orders_silver = (orders(), Layer::Silver, at(2), "second".to_owned());
    assert_eq!(told(&stops), [customers_raw, orders_silver.clone()]);
    ledger.end_stop(&customers(), Layer::Raw).await.unwrap();
    ledger.end_stop(&customers(), Layer::Bronze).await.unwrap();
    assert_eq!(told(&ledger.stops().await.unwrap()), [orders_silver]);
}

pub(super) async fn metadata_have_a_history_and_no_secrets(given: Given) {
    let ledger = &*given.ledger;
    let canary = "canary-91c4";
    let system = |description: &str| -> SystemSpec {
        serde_json::from_value(json!({
            "name": "shop", "type": "rest", "description": description,
            "connection": { "auth": { "password": canary, "token": "${env:SHOP_TOKEN}" } },
        }))
        .unwrap()
    };
    let entity: EntitySpec = serde_json::from_value(json!({
        "system": "shop", "name": "orders", "source": { "headers": { "X-Api-Key": canary } },
    }))
    .unwrap();
    let entities = [entity];
    ledger.store_metadata(&[system("first")], &entities, at(1)).await.unwrap();
    ledger.store_metadata(&[system("first")], &entities, at(2)).await.unwrap();
    ledger.store_metadata(&[system("second")], &entities, at(3)).await.unwrap();
    ledger.store_metadata(&[system("second")], &[], at(4)).await.unwrap();

    let now = ledger.metadata().await.unwrap();
    assert_eq!(now.len(), 1, "{now:?}");
    assert_eq!((now[0].kind, now[0].name.as_str()), (MetadataKind::System, "shop"));
    assert_eq!((now[0].since, &now[0].spec["description"]), (at(3), &json!("second")));
    assert_eq!(now[0].spec["connection"]["auth"]["token"], "${env:SHOP_TOKEN}");
    let history = ledger.metadata_history(MetadataKind::System, "shop").await.unwrap();
    let spans: Vec<_> = history.iter().map(|v| (v.valid_from, v.valid_to)).collect();
    assert_eq!(spans, [(at(3), None), (at(1), Some(at(3)))]);
    let ended = ledger.metadata_history(MetadataKind::Entity, "shop.orders").await.unwrap();
    assert_eq!((ended.len(), ended[0].valid_to), (1, Some(at(4))));
    let text = format!("{now:?} {history:?} {ended:?}");
    assert!(!text.contains(canary), "{text}");
}

async fn end_run(ledger: &dyn crate::Ledger, run: &alluvium_model::RunId, seconds: i64) {
    let end = RunEnd {
        status: RunStatus::Succeeded,
        reason: None,
        ended_at: at(seconds),
        entities: EntityCounts::default(),
        polled: 0,
        published: 0,
    };
    ledger.finish_run(run, end).await.unwrap();
}

pub(super) async fn what_a_source_completes_or_finds_again_is_no_new_version(given: Given) {
    let ledger = &*given.ledger;
    let entity = |more: serde_json::Value| -> EntitySpec {
        let mut spec = json!({ "system": "shop", "name": "orders" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    };
    let declared = [entity(json!({}))];
    let told = [entity(json!({ "keys": ["id"], "columns": [{ "name": "id", "type": "long" }] }))];
    let versions = async || {
        let history = ledger.metadata_history(MetadataKind::Entity, "shop.orders").await.unwrap();
        history.iter().map(|v| (v.valid_from, v.valid_to)).collect::<Vec<_>>()
    };
    // A start declares it, and the first run completes it.
    ledger.store_metadata(&[], &declared, at(1)).await.unwrap();
    let run = open_run(ledger, "shop", 2).await;
    ledger.store_metadata(&[], &told, at(3)).await.unwrap();
    assert_eq!(versions().await, [(at(1), None)]);
    assert_eq!(ledger.metadata().await.unwrap()[0].spec["keys"], json!(["id"]));
    end_run(ledger, &run, 4).await;
    // The next start knows nothing of it until the run after.
    ledger.store_metadata(&[], &[], at(5)).await.unwrap();
    ledger.store_metadata(&[], &told, at(6)).await.unwrap();
    assert_eq!(versions().await, [(at(1), None)]);
    // What a run was done without, or with, is a version of its own.
    ledger.store_metadata(&[], &[], at(7)).await.unwrap();
    let run = open_run(ledger, "shop", 8).await;
    end_run(ledger, &run, 9).await;
    ledger.store_metadata(&[], &declared, at(10)).await.unwrap();
    let run = open_run(ledger, "shop", 11).await;
    end_run(ledger, &run, 12).await;
    ledger.store_metadata(&[], &told, at(13)).await.unwrap();
    let expected = [(at(13), None), (at(10), Some(at(13))), (at(1), Some(at(7)))];
    assert_eq!(versions().await, expected);
}

pub(super) async fn retention_bounds_the_tables_and_keeps_the_totals(given: Given) {
    let ledger = &*given.ledger;
    let run = open_run(ledger, "shop", 0).await;
    let open = open_run(ledger, "shop", 1).await;
    let old = [
        applied(Layer::Raw, 0, 3),
        poisoned(applied(Layer::Raw, 3, 6), b"x"),
        applied(Layer::Bronze, 0, 6),
    ];
    ledger.record_batches(&orders(), &old, Some(&run), at(1)).await.unwrap();
    let end = RunEnd {
        status: RunStatus::Succeeded,
        reason: None,
        ended_at: at(2),
        entities: EntityCounts::default(),
        polled: 0,
        published: 0,
    };
    ledger.finish_run(&run, end).await.unwrap();
    let young = at(100 * DAYS);
    ledger.record_batches(&orders(), &[applied(Layer::Raw, 6, 9)], None, young).await.unwrap();
    let before = ledger.totals(&orders()).await.unwrap();

    let done = ledger.retain(&Retention::default(), at(101 * DAYS)).await.unwrap();
    let expected = Retained { runs: 1, batches: 2, quarantine: 0, events: 4, metadata: 0 };
    assert_eq!(done, expected);
    assert_eq!(ledger.run(&run).await.unwrap(), None);
    assert!(ledger.steps(&run).await.unwrap().is_empty());
    assert!(ledger.run(&open).await.unwrap().is_some(), "an open run is not forgotten");
    let rows = ledger.batches(&BatchFilter::default()).await.unwrap();
    let kept: Vec<_> = rows.iter().map(|row| (row.layer, row.span.to)).collect();
    assert_eq!(kept, [(Layer::Raw, 9), (Layer::Bronze, 6)], "the last of each layer stays");
    assert_eq!(ledger.totals(&orders()).await.unwrap(), before);
    let findings = ledger.conservation(&orders()).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    // What was forgotten is still counted, and not counted again.
    ledger.record_batches(&orders(), &old[..2], None, young).await.unwrap();
    assert_eq!(ledger.totals(&orders()).await.unwrap(), before);
}

pub(super) async fn retention_by_number_keeps_the_latest(given: Given) {
    let ledger = &*given.ledger;
    for seconds in 0..5 {
        let run = open_run(ledger, "shop", seconds).await;
        let end = RunEnd {
            status: RunStatus::Succeeded,
            reason: None,
            ended_at: at(seconds),
            entities: EntityCounts::default(),
            polled: 0,
            published: 0,
        };
        ledger.finish_run(&run, end).await.unwrap();
    }
    for after in 0..5 {
        record(ledger, &[poisoned(applied(Layer::Raw, after, after + 1), b"0123456789")]).await;
    }
    ledger.store_metadata(&[], &[], at(1)).await.unwrap();
    let policy = Retention {
        runs_rows: 2,
        batches_rows: 3,
        quarantine_bytes: 25,
        events_rows: 4,
        delivered_age: Duration::from_secs(1),
        ..Retention::default()
    };
    let done = ledger.retain(&policy, at(10)).await.unwrap();
    let expected = Retained { runs: 3, batches: 2, quarantine: 3, events: 6, metadata: 0 };
    assert_eq!(done, expected);
    assert_eq!(ledger.runs(&RunFilter::default()).await.unwrap().len(), 2);
    assert_eq!(ledger.conservation(&orders()).await.unwrap(), []);
}

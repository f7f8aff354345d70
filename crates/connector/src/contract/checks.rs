//! The checks. Each takes a fresh rig and panics where the contract is broken.
#![allow(clippy::unwrap_used, reason = "a check fails by panicking")]
#![allow(clippy::panic, reason = "a check fails by panicking")]

use alluvium_model::{Op, SourceError};
use serde_json::Value;

use super::walk::{drain, order_of, text_of};
use super::{CANARY, Rig, fits};

/// Discovering what was discovered changes nothing, and discovering anew finds the same.
pub async fn discover_may_be_repeated(mut rig: Rig) {
    rig.put(1, "a").await;
    let mut source = rig.connect().await.unwrap();
    let declared = [rig.subject.entity()];
    let first = source.discover(&declared).await.unwrap().all().unwrap();
    let again = source.discover(&declared).await.unwrap().all().unwrap();
    assert_eq!(first, again, "from the declaration again");
    let again = source.discover(&first).await.unwrap().all().unwrap();
    assert_eq!(first, again, "from what was discovered");
    for entity in &first {
        assert!(!entity.keys.is_empty(), "{} has keys", entity.name);
        assert!(!entity.columns.is_empty(), "{} has columns", entity.name);
    }
}

/// Every record fits the columns that discovery gave.
pub async fn every_record_fits_the_declared_columns(mut rig: Rig) {
    for id in 1..=3 {
        rig.put(id, "a \"quoted\" æøå\n").await;
    }
    let (mut source, entity) = rig.open().await;
    let run = drain(&mut *source, &entity, None).await.unwrap();
    assert_eq!(run.changes().len(), 3);
    for change in run.changes() {
        let row = if change.op == Op::Delete { &change.before } else { &change.after };
        let text = row.as_ref().unwrap().get();
        assert!(!text.contains('\n'), "a row is one line: {text}");
        let row: Value = serde_json::from_str(text).unwrap();
        assert_eq!(fits::misfit(&entity, &row), None);
        assert!(!order_of(&entity, change).is_empty());
    }
}

/// The same cursor gives the same records, byte for byte, and the same next cursor.
pub async fn a_poll_may_be_repeated_with_the_same_bytes_and_sequences(mut rig: Rig) {
    for id in 1..=5 {
        rig.put(id, "a").await;
    }
    let (mut source, entity) = rig.open().await;
    let run = drain(&mut *source, &entity, None).await.unwrap();
    assert!(run.pages.len() >= 2, "the run has several pages");
    for (cursor, records) in &run.pages {
        let again = source.poll(&entity, cursor.as_ref()).await.unwrap();
        let texts: Vec<_> = records.iter().map(text_of).collect();
        assert_eq!(texts, again.records.iter().map(text_of).collect::<Vec<_>>());
    }
}

/// After a restart, a cursor from the middle of a run leads to the rest of it.
pub async fn a_new_connection_goes_on_from_a_cursor(mut rig: Rig) {
    for id in 1..=5 {
        rig.put(id, "a").await;
    }
    let (mut source, entity) = rig.open().await;
    let whole = drain(&mut *source, &entity, None).await.unwrap();
    let first = source.poll(&entity, None).await.unwrap();
    assert!(first.more, "the run has several pages");
    let stored = serde_json::to_string(&first.next.unwrap()).unwrap();
    drop(source);
    let (mut source, entity) = rig.open().await;
    let cursor = serde_json::from_str(&stored).unwrap();
    let rest = drain(&mut *source, &entity, Some(cursor)).await.unwrap();
    let mut texts: Vec<_> = first.records.iter().map(text_of).collect();
    texts.extend(rest.text());
    assert_eq!(texts, whole.text(), "nothing lost, nothing twice");
}

/// A row that goes from A to B and back has three states, in this order.
pub async fn a_then_b_then_a_are_three_changes(mut rig: Rig) {
    let (mut cursor, mut orders, mut values) = (None, Vec::new(), Vec::new());
    for value in ["A", "B", "A"] {
        rig.put(1, value).await;
        let (mut source, entity) = rig.open().await;
        let run = drain(&mut *source, &entity, cursor).await.unwrap();
        let last = *run.changes().last().unwrap();
        orders.push(order_of(&entity, last));
        let row: Value = serde_json::from_str(last.after.as_ref().unwrap().get()).unwrap();
        let column = entity.column("value").unwrap();
        values.push(fits::value_at(&row, column).unwrap().clone());
        cursor = run.cursor;
    }
    assert_eq!(values, ["A", "B", "A"]);
    assert!(orders[0] < orders[1] && orders[1] < orders[2], "{orders:?}");
}

/// A run in which nothing changed brings no change that was not there before, and a snapshot that
/// begins later, if it brings one.
pub async fn a_quiet_run_brings_nothing_new(mut rig: Rig) {
    rig.put(1, "a").await;
    rig.put(2, "b").await;
    let (mut source, entity) = rig.open().await;
    let first = drain(&mut *source, &entity, None).await.unwrap();
    rig.clock.advance(std::time::Duration::from_secs(60));
    let second = drain(&mut *source, &entity, first.cursor.clone()).await.unwrap();
    let rows = |run: &super::Walked| -> Vec<String> {
        run.changes().iter().map(|c| c.after.as_ref().unwrap().get().to_owned()).collect()
    };
    let known = rows(&first);
    assert!(rows(&second).iter().all(|row| known.contains(row)));
    for change in second.changes().iter().filter(|change| change.snapshot.is_some()) {
        assert!(first.changes().iter().all(|old| old.snapshot != change.snapshot));
    }
}

/// A page without records may move the cursor, and the way goes on from there.
pub async fn an_empty_page_may_move_the_cursor(mut rig: Rig) {
    rig.put(1, "a").await;
    let (mut source, entity) = rig.open().await;
    let first = drain(&mut *source, &entity, None).await.unwrap();
    if !rig.subject.move_quietly().await {
        return;
    }
    let second = drain(&mut *source, &entity, first.cursor.clone()).await.unwrap();
    let moved = second.pages.iter().enumerate().any(|(at, (before, records))| {
        let after = second.pages.get(at + 1).map_or(&second.cursor, |(cursor, _)| cursor);
        records.is_empty() && after != before
    });
    assert!(moved, "an empty page moved the cursor");
    rig.put(2, "b").await;
    let third = drain(&mut *source, &entity, second.cursor).await.unwrap();
    assert!(third.text().iter().any(|text| text.contains("\"b\"")), "the new row comes");
}

/// Acknowledging is idempotent, and what was acknowledged may be asked for again.
pub async fn acknowledging_twice_changes_nothing(mut rig: Rig) {
    rig.put(1, "a").await;
    let (mut source, entity) = rig.open().await;
    let run = drain(&mut *source, &entity, None).await.unwrap();
    let cursor = run.cursor.clone().unwrap();
    source.acknowledge(&entity, &cursor).await.unwrap();
    source.acknowledge(&entity, &cursor).await.unwrap();
    rig.put(2, "b").await;
    let next = drain(&mut *source, &entity, Some(cursor)).await.unwrap();
    assert!(next.text().iter().any(|text| text.contains("\"b\"")));
}

/// A source that limits the rate is not called broken.
pub async fn a_rate_limit_is_reported_as_such(mut rig: Rig) {
    rig.put(1, "a").await;
    let (mut source, entity) = rig.open().await;
    if !rig.subject.limit_rate().await {
        return;
    }
    match source.poll(&entity, None).await {
        Err(SourceError::RateLimited(wait)) => assert!(!wait.is_zero()),
        Err(other) => panic!("{other}"),
        Ok(page) => panic!("a page with {} records", page.records.len()),
    }
}

/// A secret stands in no error and in no debug output, however the source fails.
pub async fn no_error_and_no_debug_output_shows_a_secret(mut rig: Rig) {
    let clean = |text: String| assert!(!text.contains(CANARY), "{text}");
    clean(rig.subject.connection_debug());
    rig.put(1, "a").await;
    let (mut source, entity) = rig.open().await;
    let mut failed = 0;
    while rig.subject.fail_next().await {
        let error = source.poll(&entity, None).await.map(|page| page.records.len()).unwrap_err();
        clean(format!("{error} {error:?} {:?}", error.remedy()));
        failed += 1;
    }
    assert!(failed > 0, "the source can fail");
    let mut broken = rig.subject.system();
    broken.connection = serde_json::json!({ CANARY: 1, "x": CANARY });
    let registry = rig.subject.registry();
    let error = registry.check_connection(&broken).unwrap_err().to_string();
    assert!(!error.contains(&format!("\"{CANARY}\"")), "{error}");
}

/// A misspelt setting is an error that names it.
pub async fn an_unknown_setting_is_refused(rig: Rig) {
    rig.connect().await.unwrap();
    let registry = rig.subject.registry();
    let (mut system, mut entity) = (rig.subject.system(), rig.subject.entity());
    registry.check_connection(&system).unwrap();
    registry.check_source(&system.kind, &entity).unwrap();
    system.connection["misspelt"] = Value::from(1);
    entity.source["misspelt"] = Value::from(1);
    let error = registry.check_connection(&system).unwrap_err().to_string();
    assert!(error.contains("misspelt"), "{error}");
    let error = registry.check_source(&system.kind, &entity).unwrap_err().to_string();
    assert!(error.contains("misspelt"), "{error}");
    for schema in [registry.connection_schema(&system.kind), registry.source_schema(&system.kind)] {
        assert_eq!(schema.unwrap()["additionalProperties"], Value::Bool(false));
    }
}

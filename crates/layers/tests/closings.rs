//! Records that close very many rows at once.

use alluvium_model::{Change, Control, Op, Record, Stage};
use serde_json::json;

use crate::platform::{Platform, Topic, change};

const KEYS: i64 = 30_000;

fn snapshot(seq: i64, step: usize) -> Vec<Record> {
    let row = |id: i64| {
        let row = change(Op::Read, &json!({"id": id, "v": "a"}), vec![json!(seq)]);
        Record::Change(Change { snapshot: Some(seq.to_string()), ..row })
    };
    let rows: Vec<Record> = (0..KEYS).step_by(step).map(row).collect();
    let end = Control::SnapshotEnd {
        snapshot: seq.to_string(),
        sequence: vec![json!(seq)],
        rows: rows.len() as u64,
    };
    rows.into_iter().chain([Record::Control(end)]).collect()
}

fn update(id: i64, seq: i64) -> Vec<Record> {
    let row = json!({"id": id, "v": format!("at {seq}")});
    vec![Record::Change(change(Op::Update, &row, vec![json!(seq)]))]
}

fn truncate(seq: i64) -> Vec<Record> {
    let truncate = change(Op::Truncate, &json!({}), vec![json!(seq)]);
    vec![Record::Change(Change { after: None, ..truncate })]
}

/// Open and closed rows of the table.
async fn rows(platform: &Platform) -> (i64, i64) {
    let table = platform.silver_table().await;
    let count = |current| -> u64 {
        let files = table.files().filter(|file| file.current == Some(current));
        files.map(|file| file.rows - file.deleted.len()).sum()
    };
    (count(true) as i64, count(false) as i64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_and_a_snapshot_of_very_many_rows_reach_what_comes_late_too() {
    let mut platform = Platform::quick(json!({
        "system": "hall", "name": "many", "load": "full", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "columns": [{"name": "id", "type": "long"}, {"name": "v", "type": "string"}],
    }));
    let mut topic = Topic::of(&platform);
    for (records, expected) in [
        (snapshot(10, 1), (KEYS, 0)),
        (snapshot(20, 2), (KEYS / 2, KEYS / 2)),
        (truncate(30), (0, KEYS)),
        // The first falls before the snapshot that lacks its key, the second before the truncate.
        (update(1, 15), (0, KEYS + 1)),
        (update(3, 25), (0, KEYS + 2)),
        (update(KEYS, 5), (0, KEYS + 3)),
        (update(5, 40), (1, KEYS + 3)),
        // Half of the keys had a run that goes on after it.
        (truncate(12), (1, KEYS + 3 + KEYS / 2)),
        (snapshot(50, 1), (KEYS, KEYS + 4 + KEYS / 2)),
    ] {
        let after = topic.end();
        topic.records(records);
        platform.silver().apply(&topic.delivery(after, topic.end())).await.unwrap();
        assert_eq!(rows(&platform).await, expected, "after offset {}", topic.end());
        if topic.end().is_multiple_of(2) {
            platform.index().clear().unwrap();
        } else {
            platform.open_index();
        }
    }
    let found = alluvium_layers::verify::verify(&platform.lake, &platform.entity, |_, _| {}).await;
    let found = found.unwrap();
    let intervals = found.checks.iter().find(|check| check.check == "intervals").unwrap();
    assert!(intervals.holds, "{}", intervals.detail);
}

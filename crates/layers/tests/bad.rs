//! Records that cannot be applied: kept with their bytes and a reason, while the batch goes on.

use alluvium_model::{Control, Layer, Op, Record, Stage};
use alluvium_wire::LineFormat;
use serde_json::{Value, json};

use crate::platform::{Platform, Topic, apply, change, people};

/// Something that must never stand in a reason.
const SECRET: &str = "s3cr3t";

fn strict() -> Value {
    json!({
        "system": "shop", "name": "strict", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}], "schema_evolution": "freeze",
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string", "length": 5, "nullable": false},
            {"name": "small", "type": "byte"},
            {"name": "price", "type": "decimal", "precision": 4, "scale": 2},
            {"name": "at", "type": "timestamp"},
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_is_kept_with_its_bytes_and_a_reason_and_the_batch_goes_on() {
    let platform = Platform::new(strict());
    let envelope = |after: Value, sequence: Value| {
        json!({"op": "c", "after": after, "source": {"sequence": sequence}})
            .to_string()
            .into_bytes()
    };
    let named = |id: Value, more: Value| {
        let mut row = json!({"id": id, "name": "ok"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        envelope(row, json!([1]))
    };
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("unparsable", format!("{{\"op\":\"c\",\"after\":{{\"name\":\"{SECRET}\"").into_bytes()),
        (
            "unparsable",
            [b"{\"op\":\"c\",\"after\":{\"name\":\"", &[0xFF, 0xFE][..], b"\"}}"].concat(),
        ),
        ("missing_key", envelope(json!({"name": "ok"}), json!([1]))),
        ("missing_key", named(json!(null), json!({}))),
        ("missing_sequence", envelope(json!({"id": 2, "name": "ok"}), json!([]))),
        ("missing_sequence", envelope(json!({"id": 2, "name": "ok"}), json!([null]))),
        ("bad_sequence", envelope(json!({"id": 2, "name": "ok"}), json!([SECRET]))),
        ("bad_type", named(json!(SECRET), json!({}))),
        ("bad_type", named(json!(2), json!({"name": SECRET}))),
        ("bad_type", named(json!(2), json!({"name": 5}))),
        ("bad_type", named(json!(2), json!({"small": 128}))),
        ("bad_type", named(json!(2), json!({"price": "123.45"}))),
        ("bad_type", named(json!(2), json!({"price": 1.234}))),
        ("bad_type", named(json!(2), json!({"at": SECRET}))),
        ("null_value", named(json!(2), json!({"name": null}))),
        ("new_column", named(json!(2), json!({"surplus": SECRET}))),
        ("unknown_op", format!(r#"{{"op":"{SECRET}","after":{{"id":2}}}}"#).into_bytes()),
        ("bad_row", br#"{"op":"c","after":[1]}"#.to_vec()),
    ];
    let mut lines = vec![named(json!(1), json!({}))];
    for (n, (_, line)) in bad.iter().enumerate() {
        lines.push(line.clone());
        lines.push(named(json!(100 + n), json!({})));
    }
    let mut topic = Topic::of(&platform);
    topic.lines(&LineFormat::Envelope, lines.join(&b"\n"[..]));

    // Both layers take the same messages, decoded once.
    let shared = topic.all();
    let applied = apply(&mut platform.silver(), &shared).await;
    assert_eq!(applied.counts.quarantined, bad.len() as u64);
    assert_eq!(applied.counts.inserted, bad.len() as u64 + 1);
    for (n, ((code, line), kept)) in bad.iter().zip(&applied.quarantined).enumerate() {
        assert_eq!(&kept.code, code, "{}: {kept:?}", String::from_utf8_lossy(line));
        assert_eq!(&kept.bytes, line);
        assert_eq!(kept.position, topic.messages[0].position(n as u32 * 2 + 1));
        assert!(!kept.reason.is_empty() && !kept.reason.contains(SECRET), "{}", kept.reason);
    }
    let ids = platform.history(&["id"]).await;
    assert_eq!(ids.len(), bad.len() + 1);

    let bronze = apply(&mut platform.bronze(), &shared).await;
    assert_eq!(
        (bronze.counts.inserted, bronze.counts.quarantined),
        (applied.counts.inserted, applied.counts.quarantined)
    );
    assert_eq!(bronze.quarantined, [], "silver puts them into quarantine already");
    assert_eq!(bronze.checksum, applied.checksum);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_whose_shape_is_unknown_are_kept_whole() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    for (header, value) in
        [("alluvium-format", "xml"), ("alluvium-kind", "weather"), ("alluvium-format", "map")]
    {
        topic.lines(&LineFormat::Envelope, &b"{\"a\":1}\n<a/>"[..]);
        let last = topic.messages.pop().unwrap();
        let headers = last.headers.clone().with(header, value);
        let (payload, records) = (last.payload.clone(), last.records);
        topic.push(alluvium_model::EncodedMessage { headers, payload, records });
    }
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!((applied.counts.records, applied.counts.quarantined), (6, 6));
    assert!(applied.quarantined.iter().all(|kept| kept.code == "unknown_format"), "{applied:?}");
    assert_eq!(applied.quarantined[1].bytes, b"<a/>");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_change_without_the_whole_old_key_and_a_truncate_without_sequence_are_quarantined() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    let row = json!({"id": 1, "name": "Ann"});
    let mut moved = change(Op::Update, &row, vec![json!(3)]);
    moved.old_key = Some(crate::platform::raw_json(&json!({"name": "Bob"})));
    let mut truncate = change(Op::Delete, &row, vec![]);
    (truncate.op, truncate.before) = (Op::Truncate, None);
    topic.changes(vec![change(Op::Create, &row, vec![json!(1)]), moved, truncate]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!((applied.counts.inserted, applied.counts.quarantined), (1, 2));
    let codes: Vec<&str> = applied.quarantined.iter().map(|kept| kept.code.as_str()).collect();
    assert_eq!(codes, ["missing_key", "missing_sequence"]);
    assert_eq!(platform.history(&["id", "name"]).await, ["1 Ann [1,-) c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_records_and_tombstones_are_counted_as_such_in_every_layer() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    let end = Control::SnapshotEnd { snapshot: "s".to_owned(), sequence: vec![json!(1)], rows: 1 };
    topic.records(vec![
        Record::Change(change(Op::Read, &json!({"id": 1, "name": "Ann"}), vec![json!(1)])),
        Record::Control(end),
    ]);
    topic.lines(&LineFormat::Envelope, "null");
    for stage in [&mut platform.silver() as &mut dyn Stage, &mut platform.bronze()] {
        let applied = apply(stage, &topic.all()).await;
        let counts = applied.counts;
        assert_eq!(
            (counts.records, counts.inserted, counts.control),
            (3, 1, 2),
            "{}",
            stage.layer()
        );
    }
    assert_eq!(platform.silver().layer(), Layer::Silver);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_an_older_snapshot_that_tells_of_an_old_key_is_left_out_once() {
    let mut entity = people();
    entity["snapshot"] = json!({"out_of_order": "skip"});
    let platform = Platform::new(entity);
    let mut topic = Topic::of(&platform);
    let row = json!({"id": 1, "name": "Ann"});
    let end = Control::SnapshotEnd { snapshot: "s".to_owned(), sequence: vec![json!(9)], rows: 1 };
    let mut older = change(Op::Read, &row, vec![json!(5)]);
    older.old_key = Some(crate::platform::raw_json(&json!({"id": 2})));
    topic.records(vec![
        Record::Change(change(Op::Read, &row, vec![json!(9)])),
        Record::Control(end),
        Record::Change(older),
    ]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!((applied.counts.records, applied.counts.stale), (3, 1));
}

//! Columns of every type and keys and sequences of every kind, through the table and back.

use alluvium_model::Op;
use alluvium_wire::LineFormat;
use serde_json::{Value, json};

use crate::platform::{Platform, Topic, apply, change, gone, people, person};

fn wide() -> Value {
    json!({
        "system": "shop", "name": "wide", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}],
        "columns": [
            {"name": "id", "type": "integer"},
            {"name": "price", "type": "decimal", "precision": 10, "scale": 2},
            {"name": "ratio", "type": "double"},
            {"name": "doc", "type": "json"},
            {"name": "blob", "type": "binary"},
            {"name": "day", "type": "date"},
            {"name": "at", "type": "timestamp"},
            {"name": "flag", "type": "boolean"},
            {"name": "small", "type": "byte"},
            {"name": "note", "type": "string", "path": "/inner/note"},
            {"name": "seen", "type": "string", "history": "latest"},
            {"name": "noise", "type": "string", "history": "ignore"},
        ],
    })
}

fn wide_row() -> Value {
    json!({
        "id": 7, "price": "12.50", "ratio": 0.0, "doc": {"b": [1, 2], "a": null}, "blob": "AAEC",
        "day": "1969-12-31", "at": "1969-12-31T23:59:59.999999Z", "flag": true, "small": -128,
        "inner": {"note": "æ \"q\"\n"}, "seen": "x", "noise": "1",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_as_it_went_in_to_us_and_to_datafusion() {
    let platform = Platform::new(wide());
    let mut topic = Topic::of(&platform);
    let nulls = json!({"id": 8});
    topic.changes(vec![
        change(Op::Create, &wide_row(), vec![json!(1)]),
        change(Op::Create, &nulls, vec![json!(1)]),
        change(Op::Delete, &json!({"id": 9}), vec![json!(3)]),
        change(Op::Update, &json!({"id": 7}), vec![json!(2)]),
    ]);
    apply(&mut platform.silver(), &topic.all()).await;
    let rows = platform.silver_rows().await;
    assert_eq!(rows, platform.silver_rows_by_datafusion().await);
    assert_eq!(rows.len(), 3);
    let row = rows.iter().find(|row| row["price"].is_some()).unwrap();
    let doc = wide_row()["doc"].to_string();
    let expected = [
        ("id", "7"),
        ("price", "12.50"),
        ("ratio", "0.0"),
        ("doc", &doc),
        ("blob", "000102"),
        ("day", "1969-12-31"),
        ("at", "1969-12-31T23:59:59.999999Z"),
        ("flag", "true"),
        ("small", "-128"),
        ("note", "æ \"q\"\n"),
        ("seen", "x"),
        ("_valid_from", "1"),
        ("_valid_to", "2"),
        ("_is_current", "false"),
        ("_op", "c"),
        ("_run_id", "run-1"),
        ("_position", "1700000000000/1/0"),
        ("_batch_id", "silver/shop.wide/1700000000000/0-1"),
    ];
    for (name, value) in expected {
        assert_eq!(row[name].as_deref(), Some(value), "{name}");
    }
    assert!(!row.contains_key("noise"), "an ignored column is not stored");
    let open = rows.iter().find(|row| row["_valid_from"].as_deref() == Some("2")).unwrap();
    for name in ["price", "ratio", "doc", "blob", "day", "at", "flag", "small", "note", "seen"] {
        assert_eq!(open[name], None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_value_in_another_spelling_is_no_change_even_to_a_rebuilt_index() {
    let platform = Platform::new(wide());
    let mut topic = Topic::of(&platform);
    let mut row = wide_row();
    topic.changes(vec![change(Op::Create, &row, vec![json!(1)])]);
    row["price"] = json!(12.5);
    row["doc"] = json!({"a": null, "b": [1, 2]});
    row["at"] = json!("1970-01-01T00:59:59.999999+01:00");
    row["flag"] = json!(1);
    row["small"] = json!("-128");
    row["noise"] = json!("2");
    topic.changes(vec![change(Op::Update, &row, vec![json!(2)])]);
    topic.lines(&LineFormat::Envelope, r#"{"op":"u","after":{"id":7,"price":12.500,"ratio":-0.0,"doc":{"b":[1,2],"a":null},"blob":"AAEC","day":"1969-12-31","at":"1969-12-31T23:59:59.999999Z","flag":true,"small":-128,"inner":{"note":"æ \"q\"\n"},"seen":"x"},"source":{"sequence":[3]}}"#);
    for offset in 0..topic.end() {
        if offset > 0 {
            platform.index().clear().unwrap();
        }
        let applied = apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
        assert_eq!(applied.counts.unchanged, u64::from(offset > 0), "{:?}", applied.counts);
    }
    assert_eq!(platform.history(&["id"]).await, ["7 [1,-) c"]);
    row["doc"] = json!({"a": null, "b": [2, 1]});
    topic.changes(vec![change(Op::Update, &row, vec![json!(4)])]);
    assert_eq!(apply(&mut platform.silver(), &topic.newest()).await.counts.updated, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_composite_key_are_never_joined_nor_folded() {
    let platform = Platform::new(json!({
        "system": "shop", "name": "pairs", "load": "delta", "keys": ["a", "b"],
        "sequence_by": [{"carried": "decimal"}],
        "columns": [
            {"name": "b", "type": "string"}, {"name": "v", "type": "long"}, {"name": "a", "type": "string"},
        ],
    }));
    let mut topic = Topic::of(&platform);
    let keys = [("ab", "c"), ("a", "bc"), ("A", "bc"), ("a ", "bc"), ("", "abc"), ("abc", "")];
    topic.changes(
        keys.iter()
            .map(|(a, b)| change(Op::Create, &json!({"a": a, "b": b, "v": 1}), vec![json!("1.5")]))
            .collect(),
    );
    // The order of the members is of no matter, 10 is more than 9.5, and 1.50 is 1.5.
    topic.lines(
        &LineFormat::Envelope,
        concat!(
            r#"{"op":"u","after":{"b":"c","v":3,"a":"ab"},"source":{"sequence":["10"]}}"#,
            "\n",
            r#"{"op":"u","after":{"a":"ab","b":"c","v":2},"source":{"sequence":[9.5]}}"#,
            "\n",
            r#"{"op":"c","after":{"a":"ab","b":"c","v":1},"source":{"sequence":["1.50"]}}"#,
        ),
    );
    let mut stage = platform.silver();
    let first = apply(&mut stage, &topic.delivery(0, 1)).await;
    assert_eq!((first.counts.inserted, first.rows.opened), (6, 6));
    let second = apply(&mut stage, &topic.delivery(1, 2)).await;
    assert_eq!((second.counts.updated, second.counts.duplicate), (2, 1));
    let history = platform.history(&["a", "b", "v"]).await;
    let of_one: Vec<_> = history.iter().filter(|line| line.starts_with("ab c ")).collect();
    assert_eq!(
        of_one,
        [
            "ab c 1 [1.500000000,9.500000000) c",
            "ab c 2 [9.500000000,10.000000000) u",
            "ab c 3 [10.000000000,-) u",
        ]
    );
    assert_eq!(history.len(), 8);
    assert_eq!(platform.silver_rows().await, platform.silver_rows_by_datafusion().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_of_the_row_orders_it_as_an_instant_in_whatever_zone() {
    let platform = Platform::new(json!({
        "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
        "sequence_by": ["updated"],
        "columns": [
            {"name": "id", "type": "long"}, {"name": "v", "type": "string"},
            {"name": "updated", "type": "timestamp", "history": "latest"},
        ],
    }));
    let mut topic = Topic::of(&platform);
    let mut line = |v: &str, updated: &str| {
        topic.lines(&LineFormat::Plain, json!({"id": 1, "v": v, "updated": updated}).to_string());
    };
    line("b", "2026-01-01T00:00:00Z");
    line("a", "1960-02-29 12:00:00");
    line("b", "2026-01-01T02:00:00.000000001+01:00");
    line("b", "2026-01-01T01:00:00+01:00");
    line("c", "2026-01-01T01:00:00.000000500Z");
    let mut stage = platform.silver();
    let counts: Vec<_> = {
        let mut all = Vec::new();
        for offset in 0..topic.end() {
            all.push(apply(&mut stage, &topic.delivery(offset, offset + 1)).await.counts);
        }
        all
    };
    assert_eq!(counts[1].late, 1);
    assert_eq!(counts[3].duplicate, 1, "the same instant, the same row: {:?}", counts[3]);
    assert_eq!(
        platform.history(&["id", "v"]).await,
        [
            "1 a [1960-02-29T12:00:00Z,2026-01-01T00:00:00Z) u",
            "1 b [2026-01-01T00:00:00Z,2026-01-01T01:00:00Z) u",
            "1 c [2026-01-01T01:00:00Z,-) u",
        ]
    );
}

/// As its connector for PostgreSQL sends them by default.
#[tokio::test(flavor = "multi_thread")]
async fn days_and_times_of_debezium_are_those_of_the_source() {
    let platform = Platform::new(json!({
        "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
        "sequence_by": ["changed"],
        "columns": [
            {"name": "id", "type": "long"}, {"name": "due", "type": "date", "unit": "d"},
            {"name": "changed", "type": "timestamp", "unit": "us"},
            {"name": "packed", "type": "timestamp", "unit": "ns"},
            {"name": "seen", "type": "timestamp"},
            {"name": "total", "type": "decimal", "scale": 2},
        ],
    }));
    let order = |id: u64, more: Value| {
        let mut row = json!({
            "id": id, "due": 20_778, "changed": 1_795_248_000_000_001u64,
            "packed": 1_795_248_000_000_001_999u64, "seen": "2026-11-21T08:00:00Z",
            "total": "12.50",
        });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"op": "c", "before": null, "after": row, "source": {"connector": "postgresql"}})
    };
    let gone = json!({"id": 1, "changed": 1_795_248_000_000_002u64});
    let lines = [
        order(1, json!({})),
        json!({"op": "d", "before": gone, "after": null, "source": {"connector": "postgresql"}}),
        order(2, json!({"due": 20_261_121})),
        order(2, json!({"seen": 1_795_248_000_000_001u64})),
        order(2, json!({"total": "BOI="})),
    ];
    let mut topic = Topic::of(&platform);
    topic.lines(&LineFormat::Envelope, lines.map(|line| line.to_string()).join("\n"));
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(
        platform.history(&["id", "due", "packed", "total"]).await,
        ["1 2026-11-21 2026-11-21T08:00:00.000001Z 12.50 \
          [2026-11-21T08:00:00.000001Z,2026-11-21T08:00:00.000002Z) c"]
    );
    let mends = ["days since 1970-01-01", r#""unit": "us""#, "decimal.handling.mode=string"];
    assert_eq!(applied.quarantined.len(), mends.len(), "{:?}", applied.quarantined);
    for (kept, mend) in applied.quarantined.iter().zip(mends) {
        assert_eq!(kept.code, "bad_type");
        assert!(kept.reason.contains(mend), "{}", kept.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sequence_the_order_is_that_of_arrival() {
    let platform = Platform::new(json!({
        "system": "shop", "name": "plain", "keys": ["id"],
        "columns": [{"name": "id", "type": "long"}, {"name": "v", "type": "string"}],
    }));
    let mut topic = Topic::of(&platform);
    for v in ["a", "b", "a", "a"] {
        topic.lines(&LineFormat::Plain, json!({"id": 1, "v": v}).to_string());
    }
    apply(&mut platform.silver(), &topic.delivery(0, 2)).await;
    platform.index().clear().unwrap();
    let mut stage = platform.silver();
    let applied = alluvium_model::Stage::apply(&mut stage, &topic.delivery(1, 4)).await.unwrap();
    assert_eq!((applied[0].counts.records, applied[0].counts.unchanged), (2, 1));
    let rows = platform.history(&["id", "v"]).await;
    let values: Vec<_> = rows.iter().map(|row| &row[2..3]).collect();
    assert_eq!(values, ["a", "b", "a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worked_example_holds_and_a_mood_changes_no_history() {
    let platform = Platform::new(people());
    let mut topic = Topic::of(&platform);
    let lines = [
        person(5, "Alice", "calm"),
        person(10, "Alice", "calm"),
        person(15, "Alice", "merry"),
        person(20, "Charlie", "calm"),
        person(12, "Bob", "calm"),
        gone(30),
        person(13, "Bob", "sad"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    topic.mapped(&lines[..4]);
    topic.mapped(&lines[4..]);
    let mut stage = platform.silver();
    let applied = apply(&mut stage, &topic.delivery(0, 1)).await;
    assert_eq!(
        (applied.counts.inserted, applied.counts.updated, applied.counts.unchanged),
        (1, 2, 1)
    );
    let applied = apply(&mut stage, &topic.delivery(1, 2)).await;
    assert_eq!((applied.counts.updated, applied.counts.deleted, applied.counts.late), (2, 1, 2));
    assert_eq!(
        platform.history(&["id", "name", "mood"]).await,
        [
            "1 Alice calm [5,12) u",
            "1 Bob sad [12,15) u",
            "1 Alice merry [15,20) u",
            "1 Charlie calm [20,30) u",
        ]
    );
}

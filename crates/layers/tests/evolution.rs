//! Columns that come, go and widen in the source while the rows flow.

use alluvium_model::{Column, ColumnType, Control, Quarantined, Record, Stage};
use arrow::datatypes::DataType;
use serde_json::{Value, json};

use crate::platform::{Platform, Topic, apply, eager, without_batch};
use crate::rebuild::{assert_equal, verified};

/// Notes by number, ordered by a carried long. Only number and name are declared.
pub(crate) fn notes(evolution: &str) -> Value {
    json!({
        "system": "desk", "name": "notes", "load": "delta", "keys": ["id"],
        "sequence_by": [{"carried": "long"}], "schema_evolution": evolution,
        "columns": [
            {"name": "id", "type": "long"},
            {"name": "name", "type": "string"},
            {"name": "size", "type": "integer"},
        ],
    })
}

/// A line about a note; `members` is a JSON object without its braces.
pub(crate) fn note(seq: i64, members: &str) -> String {
    format!(r#"{{"op":"update","seq":{seq},"after":{{{members}}}}}"#)
}

fn gone(seq: i64, id: i64) -> String {
    format!(r#"{{"op":"delete","seq":{seq},"before":{{"id":{id}}}}}"#)
}

pub(crate) fn told(
    added: &[(&str, ColumnType)],
    dropped: &[&str],
    widened: &[(&str, ColumnType)],
) -> Record {
    let columns = |columns: &[(&str, ColumnType)]| {
        columns.iter().map(|(name, kind)| Column::new(*name, *kind)).collect()
    };
    Record::Control(Control::Schema {
        added: columns(added),
        dropped: dropped.iter().map(|name| (*name).to_owned()).collect(),
        widened: columns(widened),
    })
}

/// The columns that are not ours, in the table's order.
async fn columns(platform: &Platform) -> Vec<String> {
    let table = platform.silver_table().await;
    let names = table.schema().fields().iter().map(|field| field.name().clone());
    names.filter(|name| !name.starts_with('_')).collect()
}

async fn type_of(platform: &Platform, column: &str) -> DataType {
    platform.silver_table().await.schema().field_with_name(column).unwrap().data_type().clone()
}

fn codes(quarantined: &[Quarantined]) -> Vec<&str> {
    quarantined.iter().map(|quarantined| quarantined.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_nobody_declared_become_columns_of_text() {
    let platform = Platform::new(notes("evolve"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[
        &note(1, r#""id":1,"name":"a","n":1.50,"o":{"b": [1, 2]},"t":"x","f":true,"z":null"#),
        &note(2, r#""id":2,"name":"b","n":"1.50""#),
    ]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!((applied.counts.inserted, codes(&applied.quarantined)), (2, vec![]));
    assert_eq!(columns(&platform).await, ["id", "name", "size", "f", "n", "o", "t", "z"]);
    for column in ["f", "n", "o", "t", "z"] {
        assert_eq!(type_of(&platform, column).await, DataType::Utf8, "{column}");
    }
    assert_eq!(
        platform.history(&["id", "n", "o", "t", "f", "z"]).await,
        [r#"1 1.50 {"b": [1, 2]} x true - [1,-) u"#, "2 1.50 - - - - [2,-) u"]
    );
    assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_schema_message_told_of_has_its_type() {
    let platform = Platform::new(notes("evolve"));
    let mut topic = Topic::of(&platform);
    topic.records(vec![told(
        &[("n", ColumnType::Long), ("at", ColumnType::Date), ("same", ColumnType::Boolean)],
        &[],
        // Named twice, it is one column.
        &[("n", ColumnType::Long)],
    )]);
    topic.mapped(&[
        &note(1, r#""id":1,"n":"5","at":"2026-11-21","same":false"#),
        &note(2, r#""id":2,"n":"five""#),
    ]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(codes(&applied.quarantined), ["bad_type"]);
    assert_eq!(columns(&platform).await, ["id", "name", "size", "n", "at", "same"]);
    assert_eq!(type_of(&platform, "n").await, DataType::Int64);
    assert_eq!(
        platform.history(&["id", "n", "at", "same"]).await,
        ["1 5 2026-11-21 false [1,-) u"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_schema_is_frozen_what_brings_a_new_column_is_quarantined() {
    let platform = Platform::new(notes("freeze"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[
        &note(1, r#""id":1,"name":"a""#),
        &note(2, r#""id":2,"name":"b","n":5"#),
        &note(3, r#""id":3,"name":"c""#),
    ]);
    topic.records(vec![told(&[("n", ColumnType::Long)], &[], &[])]);
    topic.mapped(&[&note(4, r#""id":2,"name":"b","n":5"#), &note(5, r#""id":4,"name":"d""#)]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(codes(&applied.quarantined), ["new_column", "new_column", "new_column"]);
    assert_eq!(applied.quarantined[1].position.offset, 2);
    assert_eq!(
        platform.history(&["id", "name"]).await,
        ["1 a [1,-) u", "3 c [3,-) u", "4 d [5,-) u"]
    );
    assert_eq!(columns(&platform).await, ["id", "name", "size"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_new_columns_are_discarded_their_values_are_no_change() {
    let platform = Platform::new(notes("discard"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&note(1, r#""id":1,"name":"a""#), &note(2, r#""id":1,"name":"a","n":5"#)]);
    topic.records(vec![told(&[("n", ColumnType::Long)], &[], &[])]);
    topic.mapped(&[&note(3, r#""id":1,"name":"a","n":6"#)]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!((applied.counts.control, applied.counts.unchanged), (1, 2));
    assert_eq!(platform.history(&["id", "name"]).await, ["1 a [1,-) u"]);
    assert_eq!(columns(&platform).await, ["id", "name", "size"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_widened_stays_wide_and_the_same_value_is_no_change() {
    for lost in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let mut topic = Topic::of(&platform);
        topic.mapped(&[&note(1, r#""id":1,"size":5"#), &note(2, r#""id":1,"size":4294967296"#)]);
        let applied = apply(&mut platform.silver(), &topic.newest()).await;
        assert_eq!(codes(&applied.quarantined), ["bad_type"]);
        topic.records(vec![told(&[], &[], &[("size", ColumnType::Long)])]);
        apply(&mut platform.silver(), &topic.newest()).await;
        // What is told again, and narrower, leaves it as it is.
        topic.records(vec![told(&[], &[], &[("size", ColumnType::Short)])]);
        apply(&mut platform.silver(), &topic.newest()).await;
        if lost {
            platform.index().clear().unwrap();
        }
        topic.mapped(&[&note(3, r#""id":1,"size":5"#), &note(4, r#""id":1,"size":4294967296"#)]);
        let applied = apply(&mut platform.silver(), &topic.newest()).await;
        assert_eq!((applied.counts.unchanged, applied.counts.updated), (1, 1), "lost: {lost}");
        assert_eq!(
            platform.history(&["id", "size"]).await,
            ["1 5 [1,4) u", "1 4294967296 [4,-) u"],
            "lost: {lost}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_message_that_cannot_be_followed_is_quarantined_and_changes_nothing() {
    let platform = Platform::new(notes("evolve"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&note(1, r#""id":1,"name":"a","size":5,"free":"f""#)]);
    let wrong = [
        (told(&[("name", ColumnType::Long)], &[], &[]), "incompatible_type"),
        (told(&[], &[], &[("size", ColumnType::Double)]), "incompatible_type"),
        (
            told(&[("fine", ColumnType::Long), ("free", ColumnType::Long)], &[], &[]),
            "incompatible_type",
        ),
        (told(&[("_op", ColumnType::String)], &[], &[]), "bad_column"),
        (told(&[("", ColumnType::String)], &[], &[]), "bad_column"),
        (told(&[("Name", ColumnType::String)], &[], &[]), "bad_column"),
        (told(&[("a b", ColumnType::String)], &[], &[]), "bad_column"),
        (
            told(&[("n", ColumnType::Long), ("n", ColumnType::Double)], &[], &[]),
            "incompatible_type",
        ),
    ];
    let expected: Vec<_> = wrong.iter().map(|(_, code)| *code).collect();
    for (message, _) in wrong {
        topic.records(vec![message]);
    }
    topic.mapped(&[&note(2, r#""id":1,"name":"b","size":5,"free":"f""#)]);
    let applied = apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(codes(&applied.quarantined), expected);
    assert!(applied.quarantined.iter().all(|quarantined| !quarantined.bytes.is_empty()));
    assert_eq!(columns(&platform).await, ["id", "name", "size", "free"]);
    assert_eq!(platform.history(&["id", "name"]).await, ["1 a [1,2) u", "1 b [2,-) u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_stays_on_the_rows_that_have_it_and_may_come_back() {
    for lost in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let mut topic = Topic::of(&platform);
        let records: [Result<String, Record>; 8] = [
            Ok(note(1, r#""id":1,"name":"a","mail":"e""#)),
            Err(told(&[], &["mail"], &[])),
            Ok(note(2, r#""id":1,"name":"a""#)),
            Ok(note(3, r#""id":2,"name":"b""#)),
            Ok(note(4, r#""id":1,"name":"c""#)),
            Err(told(&[("mail", ColumnType::String)], &[], &[])),
            Ok(note(5, r#""id":1,"name":"c","mail":null"#)),
            Ok(note(6, r#""id":1,"name":"c","mail":"f""#)),
        ];
        for record in records {
            match record {
                Ok(line) => topic.mapped(&[&line]),
                Err(message) => topic.records(vec![message]),
            }
            if lost {
                platform.index().clear().unwrap();
            }
            let applied = apply(&mut platform.silver(), &topic.newest()).await;
            assert_eq!(codes(&applied.quarantined), [""; 0]);
        }
        assert_eq!(
            platform.history(&["id", "name", "mail"]).await,
            ["1 a e [1,4) u", "1 c - [4,6) u", "1 c f [6,-) u", "2 b - [3,-) u"],
            "index lost: {lost}"
        );
    }
}

/// A row that lacked a dropped column keeps what the row before it has, also where that comes late,
/// and whether the column is back by then or not.
#[tokio::test(flavor = "multi_thread")]
async fn what_lacked_a_dropped_column_lacks_it_in_the_same_way_once_the_column_is_back() {
    let expected = [
        "1 z - q [10,20) u",
        "1 a - e [20,30) u",
        "1 a - g [30,50) u",
        "1 a 7 - [50,60) u",
        "1 c - - [60,70) u",
        "1 c - f [70,-) u",
    ];
    // Before the column is dropped, while it is, and when it is back.
    for (first, split) in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2)] {
        for lost in [false, true] {
            let platform = Platform::quick(notes("evolve"));
            let mut topic = Topic::of(&platform);
            let late = |topic: &mut Topic, now: i32| {
                if first == now {
                    topic.mapped(&[&note(10, r#""id":1,"name":"z","mail":"q""#)]);
                }
                if split == now {
                    topic.mapped(&[&note(30, r#""id":1,"name":"a","mail":"g""#)]);
                }
            };
            topic.mapped(&[&note(20, r#""id":1,"name":"a","mail":"e""#)]);
            late(&mut topic, 0);
            topic.records(vec![told(&[], &["mail"], &[])]);
            topic.mapped(&[&note(40, r#""id":1,"name":"a""#)]);
            topic.mapped(&[&note(50, r#""id":1,"name":"a","size":7"#)]);
            topic.mapped(&[&note(60, r#""id":1,"name":"c""#)]);
            late(&mut topic, 1);
            topic.records(vec![told(&[("mail", ColumnType::String)], &[], &[])]);
            topic.mapped(&[&note(70, r#""id":1,"name":"c","mail":"f""#)]);
            late(&mut topic, 2);
            for offset in 0..topic.end() {
                if lost {
                    platform.index().clear().unwrap();
                }
                let delivery = topic.delivery(offset, offset + 1);
                let applied = apply(&mut platform.silver(), &delivery).await;
                assert_eq!(codes(&applied.quarantined), [""; 0]);
            }
            let history = platform.history(&["id", "name", "size", "mail"]).await;
            assert_eq!(history, expected, "{first}, {split}, index lost: {lost}");
            apply(&mut platform.raw(1), &topic.all()).await;
            assert_equal(&verified(&platform).await);
        }
    }
}

/// Messages whose columns come one after the other, with what is hidden, late and deleted between.
pub(crate) fn grown(platform: &Platform) -> Topic {
    let mut topic = Topic::of(platform);
    topic.mapped(&[
        &note(10, r#""id":1,"name":"Ann""#),
        &note(20, r#""id":1,"name":"Ann""#),
        &note(30, r#""id":1,"name":"Ann""#),
        &note(10, r#""id":2,"name":"Eve","k":"v""#),
    ]);
    topic.mapped(&[
        &note(40, r#""id":1,"name":"Ann","z":5"#),
        &note(41, r#""id":1,"name":"Ann","z":5"#),
    ]);
    topic.mapped(&[&note(50, r#""y":[1],"id":1,"name":"Ann","z":5"#), &gone(45, 2)]);
    topic.records(vec![told(&[("count", ColumnType::Long)], &["k"], &[])]);
    topic.mapped(&[&note(60, r#""id":2,"name":"Eve","count":7,"b":1,"a":2"#)]);
    topic.mapped(&[&note(15, r#""id":1,"name":"Bob""#), &note(42, r#""id":1,"name":"Ann""#)]);
    topic.mapped(&[
        &note(70, r#""id":2,"name":"Eve","count":7,"c":true"#),
        &note(25, r#""id":2,"name":"Eve""#),
    ]);
    topic
}

#[tokio::test(flavor = "multi_thread")]
async fn late_events_of_the_old_columns_split_what_was_remembered_before_there_were_new_ones() {
    for lost in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let topic = grown(&platform);
        for offset in 0..topic.end() {
            if lost {
                platform.index().clear().unwrap();
            }
            apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
        }
        assert_eq!(
            platform.history(&["id", "name", "k", "z", "y", "count", "a", "c"]).await,
            [
                "1 Ann - - - - - - [10,15) u",
                "1 Bob - - - - - - [15,20) u",
                "1 Ann - - - - - - [20,40) u",
                "1 Ann - 5 - - - - [40,42) u",
                "1 Ann - - - - - - [42,50) u",
                "1 Ann - 5 [1] - - - [50,-) u",
                "2 Eve v - - - - - [10,45) u",
                "2 Eve - - - 7 2 - [60,70) u",
                "2 Eve - - - 7 - true [70,-) u",
            ],
            "index lost: {lost}"
        );
        assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_the_messages_are_batched_and_kept_the_rows_are_the_same() {
    let at_once = Platform::quick(notes("evolve"));
    let topic = grown(&at_once);
    apply(&mut at_once.silver(), &topic.all()).await;
    let expected = without_batch(at_once.silver_rows().await);
    for (cuts, is_kept) in
        [(&[1, 2, 3, 4, 5, 6, 7][..], false), (&[1, 2, 3, 4, 5, 6, 7], true), (&[3, 7], true)]
    {
        let platform = Platform::quick(notes("evolve"));
        let (mut stage, mut after) = (platform.silver().with_upkeep(eager()), 0);
        for to in cuts {
            apply(&mut stage, &topic.delivery(after, *to)).await;
            after = *to;
            if is_kept {
                stage.maintain(alluvium_model::Upkeep::All).await.unwrap();
            }
        }
        assert_eq!(without_batch(platform.silver_rows().await), expected, "{cuts:?} {is_kept}");
        let by_datafusion = without_batch(platform.silver_rows_by_datafusion().await);
        assert_eq!(by_datafusion, expected, "{cuts:?} {is_kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_brings_so_many_columns_and_none_that_are_called_like_ours() {
    let platform = Platform::quick(notes("evolve"));
    let mut topic = Topic::of(&platform);
    let many: Vec<String> = (0..1_500).map(|n| format!(r#""c{n:04}":{n}"#)).collect();
    let many = many.join(",");
    topic.mapped(&[&note(
        1,
        &format!(r#""id":1,"_op":"x","_mine":1,"":2,"a b":3,"NAME":4,{many}"#),
    )]);
    topic.mapped(&[&note(2, r#""id":1,"x,y":1,"Size":2,"twice":1,"Twice":2,"tab\tbed":3"#)]);
    let mut stage = platform.silver();
    let applied = apply(&mut stage, &topic.delivery(0, 1)).await;
    assert_eq!((applied.counts.inserted, codes(&applied.quarantined)), (1, vec![]));
    let found = columns(&platform).await;
    assert_eq!(found.len(), 3 + 1_000);
    assert_eq!((found[3].as_str(), found[1_002].as_str()), ("c0000", "c0999"));
    apply(&mut stage, &topic.newest()).await;
    let found = columns(&platform).await;
    assert_eq!(&found[1_003..], ["twice"]);
    assert_eq!(platform.silver_rows_by_datafusion().await, platform.silver_rows().await);
}

/// What one message brings is bounded by itself, so that its rows are the same in whatever batch.
#[tokio::test(flavor = "multi_thread")]
async fn which_columns_a_message_brings_does_not_depend_on_its_batch() {
    let member = |n: usize| format!(r#""c{n:04}":{n}"#);
    let all = |from, to| (from..to).map(member).collect::<Vec<_>>().join(",");
    let mut found = Vec::new();
    for cuts in [&[1, 2, 3][..], &[3], &[2, 3]] {
        let platform = Platform::quick(notes("evolve"));
        let mut topic = Topic::of(&platform);
        topic.mapped(&[&note(1, &format!(r#""id":1,{}"#, all(0, 1_100)))]);
        topic.mapped(&[&note(2, &format!(r#""id":2,{}"#, all(950, 1_050)))]);
        topic.mapped(&[&note(3, &format!(r#""id":3,{}"#, all(0, 1_100)))]);
        let (mut stage, mut after) = (platform.silver(), 0);
        for to in cuts {
            apply(&mut stage, &topic.delivery(after, *to)).await;
            after = *to;
        }
        found.push(without_batch(platform.silver_rows().await));
    }
    assert!(found.iter().all(|rows| *rows == found[0]), "rows differ between batches");
}

/// What the table does not keep of a column must not hold until the stage is opened again either.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_column_that_is_told_of_only_its_type_counts() {
    for reopened in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let mut topic = Topic::of(&platform);
        let strict = Column { nullable: false, ..Column::new("n", ColumnType::Long) };
        let moved =
            Column { path: Some("$.deep.m".to_owned()), ..Column::new("m", ColumnType::Long) };
        topic.records(vec![Record::Control(Control::Schema {
            added: vec![strict, moved],
            dropped: Vec::new(),
            widened: Vec::new(),
        })]);
        topic.mapped(&[&note(1, r#""id":1,"m":1,"deep":{"m":2}"#)]);
        let mut stage = platform.silver();
        apply(&mut stage, &topic.delivery(0, 1)).await;
        if reopened {
            stage = platform.silver();
        }
        let applied = apply(&mut stage, &topic.newest()).await;
        assert_eq!(codes(&applied.quarantined), [""; 0], "reopened: {reopened}");
        assert_eq!(
            platform.history(&["id", "n", "m", "deep"]).await,
            [r#"1 - 1 {"m":2} [1,-) u"#],
            "reopened: {reopened}"
        );
    }
}

/// A column that was not sent is not one that is null, also where nobody knew of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_first_heard_of_as_unsent_takes_its_value_from_a_late_row() {
    for lost in [false, true] {
        let platform = Platform::new(notes("evolve"));
        let mut topic = Topic::of(&platform);
        let upsert = |seq: i64, row: Value, unset: &[&str]| alluvium_model::Change {
            unset: unset.iter().map(|name| (*name).to_owned()).collect(),
            ..crate::platform::change(alluvium_model::Op::Update, &row, vec![json!(seq)])
        };
        topic.changes(vec![upsert(20, json!({"id": 1, "name": "b"}), &["big"])]);
        topic.changes(vec![upsert(10, json!({"id": 1, "name": "a", "big": "B"}), &[])]);
        for offset in 0..topic.end() {
            if lost {
                platform.index().clear().unwrap();
            }
            apply(&mut platform.silver(), &topic.delivery(offset, offset + 1)).await;
        }
        assert_eq!(
            platform.history(&["id", "name", "big"]).await,
            ["1 a B [10,20) u", "1 b B [20,-) u"],
            "index lost: {lost}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_adds_one_column_and_drops_another_does_both_at_once() {
    let platform = Platform::new(notes("evolve"));
    let mut topic = Topic::of(&platform);
    topic.mapped(&[&note(1, r#""id":1,"name":"a","size":1"#)]);
    topic.records(vec![told(&[("color", ColumnType::String)], &["name"], &[])]);
    topic.mapped(&[&note(2, r#""id":1,"size":1"#)]);
    apply(&mut platform.silver(), &topic.all()).await;
    assert_eq!(platform.history(&["id", "name"]).await, ["1 a [1,-) u"]);
}

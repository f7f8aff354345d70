//! What is stored on the bus and in raw must be read by every later release: golden files freeze it.
//!
//! To renew a golden file, first be sure that the format may change: lines that old releases wrote
//! must still be read, or the format needs a new version (`envelope/2`). Then put what the failing
//! test prints under `actual` into the file by hand.

use alluvium_model::change::Decision;
use alluvium_model::{
    Change, Column, ColumnType, Control, EncodedMessage, Epoch, Op, Position, Record,
};
use alluvium_wire::{Decoder, Line, LineFormat, Mapping, encode_lines, encode_page};
use bytes::Bytes;
use serde_json::json;

use crate::{context, raw};

fn assert_golden(name: &str, expected: &str, actual: &str) {
    assert!(
        expected.trim_end() == actual.trim_end(),
        "tests/golden/{name} differs; how to renew it stands at the head of tests/golden.rs\n\
         --- expected\n{expected}\n--- actual\n{actual}"
    );
}

fn changes() -> Vec<Record> {
    let insert = Change {
        op: Op::Create,
        sequence: vec![json!("2026-11-21T01:00:00Z"), json!(42)],
        changed_at_ms: Some(1_795_222_800_000),
        ..Change::upsert(raw(r#"{"id":1,"name":"Åse \"A\"","price":1.50,"note":null}"#))
    };
    let update = Change {
        before: Some(raw(r#"{"id":1}"#)),
        sequence: vec![json!(43)],
        unset: vec!["note".to_owned()],
        old_key: Some(raw(r#"{"id":0}"#)),
        ..Change::upsert(raw("{\n  \"id\": 1,\r\n  \"name\": \"line\\nfeed\"\n}"))
    };
    let read = Change {
        op: Op::Read,
        snapshot: Some("full-3".to_owned()),
        ..Change::upsert(raw(r#"{"id":2}"#))
    };
    let delete = Change::delete(raw(r#"{"id":1}"#));
    let truncate = Change { op: Op::Truncate, before: None, ..Change::delete(raw("{}")) };
    [insert, update, read, delete, truncate].into_iter().map(Record::Change).collect()
}

fn controls() -> Vec<Control> {
    vec![
        Control::SnapshotEnd { snapshot: "full-3".to_owned(), sequence: vec![json!(7)], rows: 1 },
        Control::Schema {
            added: vec![Column::new("note", ColumnType::String)],
            dropped: vec!["old".to_owned()],
            widened: vec![Column::new("amount", ColumnType::Long)],
        },
        Control::Decision {
            decision: Decision::Approve,
            position: Position { epoch: Epoch(1), offset: 2, index: 3 },
        },
    ]
}

fn headers_of(messages: &[EncodedMessage]) -> String {
    messages.iter().map(|m| serde_json::to_string_pretty(&m.headers).unwrap() + "\n").collect()
}

fn text(message: &EncodedMessage) -> &str {
    std::str::from_utf8(&message.payload).unwrap()
}

#[test]
fn envelopes_and_control_records_are_written_as_ever() {
    let mut records = changes();
    records.extend(controls().into_iter().map(Record::Control));
    let page = encode_page(&records, &context()).unwrap();
    assert_eq!(page.messages.len(), 2, "control records have a message of their own");
    assert_eq!(page.records(), 8);
    assert_golden(
        "envelope.ndjson",
        include_str!("golden/envelope.ndjson"),
        text(&page.messages[0]),
    );
    assert_golden("control.ndjson", include_str!("golden/control.ndjson"), text(&page.messages[1]));
    assert_golden("headers.json", include_str!("golden/headers.json"), &headers_of(&page.messages));
}

#[test]
fn a_change_of_a_foreign_log_tells_where_it_stood() {
    let origin = r#"{"topic":"shop.orders","partition":3,"offset":17,"index":0,"source":{"connector":"postgresql","lsn":24023128}}"#;
    let change = Change {
        sequence: vec![json!("2026-11-21T01:00:00Z"), json!(3), json!(17), json!(0)],
        changed_at_ms: Some(1_795_222_800_000),
        origin: Some(raw(origin)),
        ..Change::upsert(raw(r#"{"id":1}"#))
    };
    let page = encode_page(&[Record::Change(change)], &context()).unwrap();
    let line = text(&page.messages[0]);
    assert_golden("origin.ndjson", include_str!("golden/origin.ndjson"), line);
    let decoder = Decoder::for_headers(&page.messages[0].headers).unwrap();
    assert_eq!(crate::row(&crate::change(&decoder, line)), Some(r#"{"id":1}"#));
}

#[test]
fn who_does_not_know_the_old_key_sees_it_as_the_row_before() {
    let change = Change { old_key: Some(raw(r#"{"id":0}"#)), ..Change::upsert(raw(r#"{"id":1}"#)) };
    let page = encode_page(&[Record::Change(change)], &context()).unwrap();
    let line = text(&page.messages[0]);
    assert!(line.starts_with(r#"{"op":"u","before":{"id":0},"after":{"id":1},"#), "{line}");
}

#[test]
fn mapped_lines_have_their_mapping_in_a_header() {
    let mapping: Mapping =
        "op=op,sequence=ts+lsn,key=after.id,row=after,before=old,ops=add:c".parse().unwrap();
    assert_golden("mapping.json", include_str!("golden/mapping.json"), &mapping.to_json());
    let messages = encode_lines(Bytes::from("{}\n"), &LineFormat::Map(mapping), &context());
    assert_golden(
        "headers_map.json",
        include_str!("golden/headers_map.json"),
        &headers_of(&messages),
    );
    Decoder::for_headers(&messages[0].headers).unwrap();
}

#[test]
fn control_records_are_read_as_they_were_written() {
    let records: Vec<_> = controls().into_iter().map(Record::Control).collect();
    let page = encode_page(&records, &context()).unwrap();
    let decoder = Decoder::for_headers(&page.messages[0].headers).unwrap();
    let read = text(&page.messages[0]).lines().map(|line| match decoder.decode(line.as_bytes()) {
        Ok(Line::Control(control)) => control,
        other => panic!("{other:?}"),
    });
    assert_eq!(read.collect::<Vec<_>>(), controls());
    assert_eq!(decoder.decode(b"{\"kind\":\"other\"}").unwrap_err().code, "bad_control");
}

#[test]
fn changes_are_read_as_they_were_written() {
    let page = encode_page(&changes(), &context()).unwrap();
    let decoder = Decoder::for_headers(&page.messages[0].headers).unwrap();
    let lines: Vec<&str> = text(&page.messages[0]).lines().collect();
    for (line, record) in lines.into_iter().zip(changes()) {
        let Record::Change(written) = record else { unreachable!() };
        let read = crate::change(&decoder, line);
        assert_eq!(read.op, written.op);
        assert_eq!(read.changed_at_ms, written.changed_at_ms);
        assert_eq!(read.snapshot.as_deref(), written.snapshot.as_deref());
        assert_eq!(read.unset, written.unset);
        assert_eq!(read.old_key.map(|k| k.get()), written.old_key.as_deref().map(|k| k.get()));
        assert_eq!(read.before.map(|k| k.get()), written.before.as_deref().map(|k| k.get()));
        let parts: Vec<String> = written.sequence.iter().map(ToString::to_string).collect();
        assert_eq!(crate::texts(&read.sequence), parts);
        assert!(read.key.is_empty());
        let row = if written.op == Op::Delete { written.before } else { written.after };
        let row = row.map(|row| row.get().replace(['\n', '\r'], ""));
        assert_eq!(crate::row(&read).map(str::to_owned), row);
    }
}

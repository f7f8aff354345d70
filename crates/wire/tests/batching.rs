//! How records and lines are cut into messages.

use alluvium_model::{Change, Control, EncodedMessage, Epoch, Message, Record};
use alluvium_wire::{LineFormat, MESSAGE_BYTES, encode_lines, encode_page, headers};
use bytes::Bytes;

use crate::{context, raw};

fn lines(text: &str) -> Vec<EncodedMessage> {
    encode_lines(Bytes::from(text.to_owned()), &LineFormat::Plain, &context())
}

fn ordinals(messages: &[EncodedMessage]) -> Vec<u64> {
    messages.iter().map(|m| headers::delivered_in(&m.headers).unwrap().1).collect()
}

/// As many lines as the message says, each what it was.
fn read_back(messages: Vec<EncodedMessage>) -> Vec<String> {
    let mut all = Vec::new();
    for message in messages {
        let message = Message::new(Epoch(1), 1, 0, message, None);
        let before = all.len();
        all.extend(message.lines().map(|line| String::from_utf8(line.to_vec()).unwrap()));
        assert_eq!(all.len() - before, message.records as usize);
    }
    all
}

fn upsert(size: usize) -> Record {
    Record::Change(Change::upsert(raw(&format!(r#"{{"a":"{}"}}"#, "x".repeat(size)))))
}

fn end() -> Record {
    Record::Control(Control::SnapshotEnd { snapshot: "s".to_owned(), sequence: vec![], rows: 0 })
}

#[test]
fn a_page_becomes_messages_of_bounded_size_in_order() {
    let records: Vec<_> = (0..300).map(|n| upsert(3_000 + n)).collect();
    let page = encode_page(&records, &context()).unwrap();
    assert!(page.messages.len() > 3);
    assert!(page.messages.iter().all(|m| m.payload.len() <= MESSAGE_BYTES));
    let firsts: Vec<u64> = page
        .messages
        .iter()
        .scan(0, |sum, m| {
            let first = *sum;
            *sum += u64::from(m.records);
            Some(first)
        })
        .collect();
    assert_eq!(ordinals(&page.messages), firsts);
    let lengths: Vec<usize> = read_back(page.messages).iter().map(String::len).collect();
    assert_eq!(lengths.len(), 300);
    assert!(lengths.is_sorted());
}

#[test]
fn a_large_record_has_a_message_of_its_own() {
    let page = encode_page(&[upsert(1), upsert(MESSAGE_BYTES), upsert(1)], &context()).unwrap();
    assert_eq!(page.messages.iter().map(|m| m.records).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(page.messages[1].headers.get(headers::CONTENT_TYPE), Some("application/json"));
    let text = format!("{{}}\n\"{}\"\n{{}}\n[]", "x".repeat(MESSAGE_BYTES));
    let messages = lines(&text);
    assert_eq!(messages.iter().map(|m| m.records).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(read_back(messages).join("\n"), text);
}

#[test]
fn control_records_stand_between_changes_where_they_were_put() {
    let page = encode_page(&[upsert(1), upsert(1), end(), upsert(1)], &context()).unwrap();
    let kinds: Vec<_> =
        page.messages.iter().map(|m| (m.records, m.headers.get(headers::KIND))).collect();
    assert_eq!(kinds, [(2, None), (1, Some("control")), (1, None)]);
    assert_eq!(ordinals(&page.messages), [0, 2, 3]);
    assert!(encode_page(&[], &context()).unwrap().messages.is_empty());
}

#[test]
fn a_change_that_no_reader_would_take_is_not_sent() {
    let no_row = Change { after: None, ..Change::upsert(raw("{}")) };
    let no_object = Change { old_key: Some(raw("5")), ..Change::upsert(raw("{}")) };
    let no_key = Change { before: None, ..Change::delete(raw("{}")) };
    for change in [no_row, no_object, no_key] {
        let error = encode_page(&[upsert(1), Record::Change(change)], &context()).unwrap_err();
        assert!(error.to_string().starts_with("record 1 of the page of shop.orders"), "{error}");
        assert_eq!(error.remedy(), alluvium_model::Remedy::Bug);
    }
}

#[test]
fn lines_are_cut_without_being_copied() {
    let text = Bytes::from(format!("{{\"a\":\"{}\"}}\n", "x".repeat(1_000)).repeat(1_000));
    let messages = encode_lines(text.clone(), &LineFormat::Plain, &context());
    let whole = text.as_ptr_range();
    assert!(messages.len() > 3);
    for message in &messages {
        assert!(message.payload.len() <= MESSAGE_BYTES);
        assert!(
            message.payload.len() + 1_100 > MESSAGE_BYTES || message == messages.last().unwrap()
        );
        assert!(whole.contains(&message.payload.as_ptr()));
    }
    assert_eq!(read_back(messages).join("\n") + "\n", text);
}

#[test]
fn blank_lines_and_carriage_returns_are_left_out() {
    assert_eq!(
        read_back(lines("\n{}\r\n \t\r\n\n[1]\n\nnot json \n\n")),
        ["{}", "[1]", "not json "]
    );
    assert_eq!(read_back(lines("{}")), ["{}"]);
    assert!(lines("").is_empty());
    assert!(lines("\n").is_empty());
    assert!(lines("\r\n \n").is_empty());
}

#[test]
fn a_delivery_in_several_calls_counts_on() {
    let context = alluvium_wire::PublishContext { ordinal: 40, ..context() };
    let messages = encode_lines(Bytes::from_static(b"1\n2"), &LineFormat::Envelope, &context);
    assert_eq!(ordinals(&messages), [40]);
    assert_eq!(messages[0].headers.get(headers::CE_ID), Some("page-7/40"));
}

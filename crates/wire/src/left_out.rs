//! A change that is larger than the bus takes: its place goes on without its row.

use std::collections::BTreeMap;

use alluvium_model::{EncodedMessage, Op};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::headers;
use crate::path::Path;
use crate::raw::{extract, present};

/// An envelope of ours, as far as it goes on.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Event<'a> {
    op: &'a str,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Source<'a>,
    ts_ms: i64,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Source<'a> {
    system: &'a str,
    entity: &'a str,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    ts_ms: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    snapshot: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    origin: Origin<'a>,
}

/// Where the change stood. What its producer said of its source is left out too.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Origin<'a> {
    #[serde(borrow)]
    topic: &'a RawValue,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    subject: Option<&'a RawValue>,
    partition: i32,
    offset: i64,
    index: u64,
}

/// The message without its row, if it is one change of a foreign log: a text in its place tells that,
/// and it goes to quarantine where it is read. A delete keeps what stands at the paths of `kept`, and
/// so still applies, if all of that is there and is not what makes it large. `None` for anything else,
/// whose row nobody could find again, and where it would not become much smaller.
pub fn left_out(message: &EncodedMessage, kept: &[Path]) -> Option<EncodedMessage> {
    let is_change = message.headers.get(headers::KIND).is_none()
        && message.headers.get(headers::FORMAT) == Some(headers::FORMAT_ENVELOPE);
    if message.records != 1 || !is_change {
        return None;
    }
    let event: Event<'_> = serde_json::from_slice(&message.payload).ok()?;
    let op = Op::parse(event.op).filter(|op| *op != Op::Truncate)?;
    let size = message.payload.len();
    let text = format!("a change of {size} bytes, left out: larger than the bus takes");
    let key = event.before.filter(|_| op == Op::Delete).and_then(|row| only(row, kept));
    let rows = key.into_iter().chain(to_raw_value(&text));
    let mut smaller = rows.filter_map(|row| with_row(event, op, &row));
    let payload = smaller.find(|payload| payload.len() < size / 2)?;
    Some(EncodedMessage { headers: message.headers.clone(), payload: payload.into(), records: 1 })
}

/// The members of a row in which these paths begin; `None` if something is missing there, or the
/// whole row is meant.
fn only(row: &RawValue, kept: &[Path]) -> Option<Box<RawValue>> {
    let mut members = BTreeMap::new();
    for path in kept {
        present(extract(row, path))?;
        let name = &path.segments().first()?.name;
        members.insert(name, extract(row, &Path::member(name))?);
    }
    if members.is_empty() { None } else { to_raw_value(&members).ok() }
}

/// The event with another row.
fn with_row<'a>(event: Event<'a>, op: Op, row: &'a RawValue) -> Option<Vec<u8>> {
    let (before, after) = if op == Op::Delete { (Some(row), None) } else { (None, Some(row)) };
    serde_json::to_vec(&Event { before, after, ..event }).ok()
}

#[cfg(test)]
mod tests {
    use alluvium_model::{Change, Record};

    use super::*;
    use crate::{Decoder, Line, PublishContext, encode_page};

    fn encoded(change: Change) -> EncodedMessage {
        let context = PublishContext {
            entity: "shop.orders".parse().unwrap(),
            run: None,
            traceparent: None,
            delivery: "poll/1".to_owned(),
            ordinal: 0,
            now: "2026-11-21T08:00:00Z".parse().unwrap(),
        };
        encode_page(&[Record::Change(change)], &context).unwrap().messages.remove(0)
    }

    fn raw(json: String) -> Box<RawValue> {
        RawValue::from_string(json).unwrap()
    }

    fn key() -> [Path; 1] {
        [Path::member("id")]
    }

    fn large(origin: Option<&str>) -> Change {
        let row = raw(format!(r#"{{"id":1,"text":"{}"}}"#, "x".repeat(1000)));
        Change {
            sequence: vec!["2026-11-21T01:00:00Z".into(), 3.into(), 17.into(), 0.into()],
            changed_at_ms: Some(5),
            origin: origin.map(|origin| raw(origin.to_owned())),
            ..Change::upsert(row)
        }
    }

    const ORIGIN: &str =
        r#"{"topic":"a \"b\"","partition":3,"offset":17,"index":0,"source":{"lsn":7}}"#;

    #[test]
    fn a_change_of_a_foreign_log_goes_on_as_its_place() {
        let whole = encoded(large(Some(ORIGIN)));
        let small = left_out(&whole, &key()).unwrap();
        assert_eq!((&small.headers, small.records), (&whole.headers, 1));
        let size = whole.payload.len();
        let expected = format!(
            r#"{{"op":"u","before":null,"after":"a change of {size} bytes, left out: larger than the bus takes","source":{{"system":"shop","entity":"orders","ts_ms":5,"sequence":["2026-11-21T01:00:00Z",3,17,0],"origin":{{"topic":"a \"b\"","partition":3,"offset":17,"index":0}}}},"ts_ms":1795248000000}}"#
        );
        assert_eq!(std::str::from_utf8(&small.payload).unwrap(), expected);
        let decoder = Decoder::for_headers(&small.headers).unwrap();
        assert_eq!(decoder.decode(&small.payload).unwrap_err().code, "bad_row");
        assert_eq!(left_out(&small, &key()), None, "it becomes not much smaller");
    }

    fn deleted(row: &str) -> EncodedMessage {
        encoded(Change {
            origin: Some(raw(ORIGIN.to_owned())),
            ..Change::delete(raw(row.to_owned()))
        })
    }

    #[test]
    fn a_delete_keeps_its_key_and_applies() {
        let text = "x".repeat(1000);
        let whole = deleted(&format!(r#"{{"text":"{text}","id":1.50,"at":{{"s":7,"t":null}}}}"#));
        let kept: [Path; 2] = ["id", "/at/s"].map(|path| path.parse().unwrap());
        let small = left_out(&whole, &kept).unwrap();
        let decoder = Decoder::for_headers(&small.headers).unwrap();
        let Ok(Line::Change(change)) = decoder.decode(&small.payload) else { panic!("no change") };
        let row = change.row.map(RawValue::get);
        assert_eq!((change.op, row), (Op::Delete, Some(r#"{"at":{"s":7,"t":null},"id":1.50}"#)));
        assert_eq!(left_out(&small, &kept), None, "it becomes not much smaller");
    }

    #[test]
    fn a_delete_without_its_key_or_with_a_large_one_goes_on_as_its_place() {
        let text = "x".repeat(1000);
        for (row, kept) in [
            (format!(r#"{{"text":"{text}"}}"#), "id"),
            (format!(r#"{{"text":"{text}","id":null}}"#), "id"),
            (format!(r#"{{"text":"{text}","id":1}}"#), "text"),
            (format!(r#"{{"text":"{text}","id":1}}"#), "$"),
        ] {
            let kept: [Path; 1] = [kept.parse().unwrap()];
            for kept in [&kept[..], &[]] {
                let small = left_out(&deleted(&row), kept).unwrap();
                let said = std::str::from_utf8(&small.payload).unwrap();
                assert!(said.starts_with(r#"{"op":"d","before":"a change of"#), "{said}");
            }
        }
    }

    #[test]
    fn what_tells_no_place_is_never_left_out() {
        assert_eq!(left_out(&encoded(large(None)), &key()), None);
        let mut lines = encoded(large(Some(ORIGIN)));
        lines.records = 2;
        assert_eq!(left_out(&lines, &key()), None);
    }
}

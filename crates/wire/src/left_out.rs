//! A change that is larger than the bus takes: its place goes on without its row.

use alluvium_model::{EncodedMessage, Op};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::headers;

/// An envelope of ours, as far as it goes on. In the place of its row stands a text.
#[derive(Deserialize, Serialize)]
struct Event<'a> {
    op: &'a str,
    #[serde(skip_deserializing)]
    before: Option<String>,
    #[serde(skip_deserializing)]
    after: Option<String>,
    #[serde(borrow)]
    source: Source<'a>,
    ts_ms: i64,
}

#[derive(Deserialize, Serialize)]
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
#[derive(Deserialize, Serialize)]
struct Origin<'a> {
    #[serde(borrow)]
    topic: &'a RawValue,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    subject: Option<&'a RawValue>,
    partition: i32,
    offset: i64,
    index: u64,
}

/// The message without its row, if it is one change of a foreign log: it tells where the row stood, and
/// goes to quarantine where it is read. `None` for anything else, whose row nobody could find again,
/// and where it would not become much smaller.
pub fn left_out(message: &EncodedMessage) -> Option<EncodedMessage> {
    let is_change = message.headers.get(headers::KIND).is_none()
        && message.headers.get(headers::FORMAT) == Some(headers::FORMAT_ENVELOPE);
    if message.records != 1 || !is_change {
        return None;
    }
    let mut event: Event<'_> = serde_json::from_slice(&message.payload).ok()?;
    let size = message.payload.len();
    let told = Some(format!("a change of {size} bytes, left out: larger than the bus takes"));
    match Op::parse(event.op)? {
        Op::Truncate => return None,
        Op::Delete => event.before = told,
        Op::Create | Op::Update | Op::Read => event.after = told,
    }
    let payload = serde_json::to_vec(&event).ok().filter(|payload| payload.len() < size / 2)?;
    Some(EncodedMessage { headers: message.headers.clone(), payload: payload.into(), records: 1 })
}

#[cfg(test)]
mod tests {
    use alluvium_model::{Change, Record};

    use super::*;
    use crate::{Decoder, PublishContext, encode_page};

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
        let small = left_out(&whole).unwrap();
        assert_eq!((&small.headers, small.records), (&whole.headers, 1));
        let size = whole.payload.len();
        let expected = format!(
            r#"{{"op":"u","before":null,"after":"a change of {size} bytes, left out: larger than the bus takes","source":{{"system":"shop","entity":"orders","ts_ms":5,"sequence":["2026-11-21T01:00:00Z",3,17,0],"origin":{{"topic":"a \"b\"","partition":3,"offset":17,"index":0}}}},"ts_ms":1795248000000}}"#
        );
        assert_eq!(std::str::from_utf8(&small.payload).unwrap(), expected);
        let decoder = Decoder::for_headers(&small.headers).unwrap();
        assert_eq!(decoder.decode(&small.payload).unwrap_err().code, "bad_row");
        assert_eq!(left_out(&small), None, "it becomes not much smaller");
    }

    #[test]
    fn the_row_of_a_delete_is_left_out_too() {
        let row = large(Some(ORIGIN)).after.unwrap();
        let delete = Change { origin: Some(raw(ORIGIN.to_owned())), ..Change::delete(row) };
        let small = left_out(&encoded(delete)).unwrap();
        let text = std::str::from_utf8(&small.payload).unwrap();
        assert!(text.starts_with(r#"{"op":"d","before":"a change of"#), "{text}");
    }

    #[test]
    fn what_tells_no_place_is_never_left_out() {
        assert_eq!(left_out(&encoded(large(None))), None);
        let mut lines = encoded(large(Some(ORIGIN)));
        lines.records = 2;
        assert_eq!(left_out(&lines), None);
    }
}

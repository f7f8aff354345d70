//! Headers as NATS carries them.
//!
//! NATS takes one line of text per header. Values are percent-encoded where they hold anything else,
//! in the manner of CloudEvents, whose `ce_` is written `ce-` here. What a message needs to have its
//! place found again stands beside: its records, the running totals of its topic, when its page was
//! published, and its id.

use std::str::FromStr;

use alluvium_model::{EncodedMessage, Headers};
use async_nats::HeaderMap;
use async_nats::datetime::DateTime;
use async_nats::header::{
    HeaderName, HeaderValue, NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE,
    NATS_MESSAGE_ID,
};

use crate::payload;
use crate::times::PUBLISHED;

const RECORDS: &str = "alluvium-records";
const TOTAL_RECORDS: &str = "alluvium-total-records";
const TOTAL_BYTES: &str = "alluvium-total-bytes";
const CURSOR: &str = "alluvium-cursor";
/// What our own headers take at most, and what stands between them.
const OWN_BYTES: usize = 512;

/// How much was published on a topic's epoch up to and with some message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) records: u64,
    /// Bytes of payload.
    pub(super) bytes: u64,
}

impl Totals {
    pub(super) fn with(self, message: &EncodedMessage) -> Self {
        Self {
            records: self.records + u64::from(message.records),
            bytes: self.bytes + message.payload.len() as u64,
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            records: self.records.saturating_sub(before.records),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

/// Which message of which attempt at which page this is: the same when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The page.
    pub(super) page: u128,
    /// The offset after which the page begins.
    pub(super) base: u64,
    /// The message's index in the page.
    pub(super) index: u64,
}

impl Slot {
    fn id(self) -> String {
        format!("{:032x}-{}-{}", self.page, self.base, self.index)
    }

    fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split('-');
        let page = u128::from_str_radix(parts.next()?, 16).ok()?;
        let (base, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { page, base, index })
    }
}

/// What a message is given with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) slot: Slot,
    /// What the topic has with this message.
    pub(super) totals: Totals,
    /// When its page was published, in microseconds since 1970: not before what stands before it,
    /// whatever the clocks of publishers and server say.
    pub(super) published_at_us: i64,
}

/// The size of a message as its limit counts it: payload and headers, as NATS carries them.
pub(super) fn size(message: &EncodedMessage) -> usize {
    let headers = message.headers.0.iter();
    let line = |(name, value): (&String, &String)| {
        encode_name(name).len() + encode(value).len() + ": \r\n".len()
    };
    message.payload.len() + headers.map(line).sum::<usize>()
}

/// What a cursor record takes as a header.
pub(super) fn size_of_cursor(told: &str) -> usize {
    CURSOR.len() + told.len() + ": \r\n".len()
}

/// What a message takes beside its size.
pub(super) const fn overhead() -> usize {
    OWN_BYTES
}

/// The headers of a message that takes this place. If it is `chained`, it is taken only behind the
/// message of the slot before it. The last one of a page says what the cursor record is that follows
/// it.
pub(super) fn write(
    message: &EncodedMessage,
    stamp: &Stamp,
    chained: bool,
    cursor: Option<&str>,
) -> HeaderMap {
    let Stamp { slot, totals, published_at_us } = *stamp;
    let mut map = HeaderMap::new();
    for (name, value) in &message.headers.0 {
        insert(&mut map, &encode_name(name), &encode(value));
    }
    insert(&mut map, RECORDS, &message.records.to_string());
    insert(&mut map, TOTAL_RECORDS, &totals.records.to_string());
    insert(&mut map, TOTAL_BYTES, &totals.bytes.to_string());
    insert(&mut map, PUBLISHED, &published_at_us.to_string());
    if let Some(cursor) = cursor {
        insert(&mut map, CURSOR, cursor);
    }
    map.insert(NATS_MESSAGE_ID, slot.id().as_str());
    map.insert(NATS_EXPECTED_LAST_SEQUENCE, (slot.base + slot.index).to_string().as_str());
    if let Some(index) = slot.index.checked_sub(1).filter(|_| chained) {
        map.insert(NATS_EXPECTED_LAST_MESSAGE_ID, Slot { index, ..slot }.id().as_str());
    }
    map
}

/// What was encoded is always valid; nothing else gets here.
fn insert(map: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        map.insert(name, value);
    }
}

/// The headers as they were sent, how many records the message has, and the totals after it.
pub(super) fn read(map: Option<&HeaderMap>, payload: &[u8]) -> (Headers, u32, Option<Totals>) {
    let mut headers = Headers::default();
    for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        let own = name.starts_with("Nats-")
            || [RECORDS, TOTAL_RECORDS, TOTAL_BYTES, PUBLISHED, CURSOR].contains(&name);
        if let (false, Some(value)) = (own, values.first()) {
            headers.0.insert(swapped(&decode(name)), decode(value.as_str()));
        }
    }
    let records = number(map, RECORDS);
    (headers, records.unwrap_or_else(|| payload::lines(payload)), totals(map))
}

/// The totals of a topic after the message with these headers. One that somebody else wrote tells
/// none.
pub(super) fn totals(map: Option<&HeaderMap>) -> Option<Totals> {
    Some(Totals { records: number(map, TOTAL_RECORDS)?, bytes: number(map, TOTAL_BYTES)? })
}

/// The slot of the message with these headers.
pub(super) fn slot(map: &HeaderMap) -> Option<Slot> {
    Slot::parse(map.get(NATS_MESSAGE_ID)?.as_str())
}

/// A cursor record as a header says it.
pub(super) fn as_header(record: &[u8]) -> String {
    encode(&String::from_utf8_lossy(record))
}

/// The cursor record that the message with these headers tells.
pub(super) fn cursor(map: &HeaderMap) -> Option<String> {
    Some(decode(map.get(CURSOR)?.as_str()))
}

/// When the message with these headers was published, in microseconds since 1970. Of one that
/// somebody else wrote only the server says when that was.
pub(super) fn published_at_us(map: Option<&HeaderMap>, taken: DateTime) -> i64 {
    number(map, PUBLISHED).unwrap_or_else(|| micros(taken))
}

/// A time of the server in microseconds.
pub(super) fn micros(time: DateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

fn number<T: FromStr>(map: Option<&HeaderMap>, name: &str) -> Option<T> {
    map?.get(name)?.as_str().parse().ok()
}

/// `ce_` as `ce-` and the other way round, so that no name is lost.
fn swapped(name: &str) -> String {
    match (name.strip_prefix("ce_"), name.strip_prefix("ce-")) {
        (Some(rest), _) => format!("ce-{rest}"),
        (_, Some(rest)) => format!("ce_{rest}"),
        _ => name.to_owned(),
    }
}

fn encode_name(name: &str) -> String {
    encode(&swapped(name)).replace(':', "%3A")
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b'"' | ..=0x20 | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

/// Leaves alone what was not encoded by us.
fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%');
        decoded.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn headers_come_back_as_they_were_sent() {
        let headers = Headers::default()
            .with("ce_id", "polled/7 \"x\"")
            .with("ce-id", "other")
            .with("note", "grün\r\n 100 %: 5%41")
            .with("empty", "")
            .with("odd name: x", " both ends ");
        let message = EncodedMessage { headers, payload: Bytes::from("{}\n{}"), records: 2 };
        let slot = Slot { page: u128::MAX - 5, base: 70, index: 3 };
        let totals = Totals { records: 9, bytes: 1000 };
        let stamp = Stamp { slot, totals, published_at_us: -7 };
        let told = r#"{"page":7,"cursor":{"at":"ü"}}"#;
        let cursor = as_header(told.as_bytes());
        let map = write(&message, &stamp, true, Some(&cursor));
        let sent = map.iter().map(|(name, values)| (name.to_string(), values[0].to_string()));
        let sent: std::collections::BTreeMap<String, String> = sent.collect();
        assert!(sent.values().all(|v| v.bytes().all(|b| (0x21..0x7f).contains(&b))), "{sent:?}");
        assert_eq!(sent["ce-id"], "polled/7%20%22x%22", "as CloudEvents are written on NATS");
        assert_eq!(sent["Nats-Expected-Last-Sequence"], "73");
        assert_eq!(read(Some(&map), b""), (message.headers, 2, Some(totals)));
        assert_eq!(super::slot(&map), Some(slot));
        assert_eq!(published_at_us(Some(&map), server_time()), -7);
        assert_eq!(super::cursor(&map).as_deref(), Some(told));
    }

    fn server_time() -> DateTime {
        DateTime::from_unix_timestamp(5).unwrap()
    }

    #[test]
    fn what_somebody_else_wrote_is_read_by_its_lines_and_has_the_time_of_the_server() {
        let (headers, records, totals) = read(None, b"{}\n{}\n{}\n");
        assert_eq!((headers, records, totals), (Headers::default(), 3, None));
        assert_eq!(published_at_us(None, server_time()), 5_000_000);
        let mut map = HeaderMap::new();
        map.insert("x", "100%zz");
        assert_eq!(read(Some(&map), b"").0.get("x"), Some("100%zz"));
    }

    #[test]
    fn the_size_bounds_what_goes_over_the_wire() {
        let headers = Headers::default().with("a", "ü\n").with("ce_type", "x");
        let message = EncodedMessage { headers, payload: Bytes::from("12345"), records: u32::MAX };
        let slot = Slot { page: u128::MAX, base: u64::MAX - 1, index: 1 };
        let totals = Totals { records: u64::MAX, bytes: u64::MAX };
        let stamp = Stamp { slot, totals, published_at_us: i64::MIN };
        let cursor = "x".repeat(100);
        let map = write(&message, &stamp, true, Some(&cursor));
        let lines = map.iter().map(|(n, v)| n.to_string().len() + v[0].to_string().len() + 4);
        let wire = 5 + lines.sum::<usize>() + "NATS/1.0\r\n\r\n".len();
        assert!(wire <= size(&message) + size_of_cursor(&cursor) + overhead(), "{wire}");
    }
}

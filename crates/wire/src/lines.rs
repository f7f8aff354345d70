//! Lines as they were received, put into messages without being parsed and, nearly always, without
//! being copied. A line that is no JSON travels too: raw keeps it, a later layer quarantines it.

use alluvium_model::{EncodedMessage, Headers};
use bytes::{Bytes, BytesMut};

use crate::encode::MESSAGE_BYTES;
use crate::headers::{self, PublishContext, base_headers, message_headers};
use crate::mapping::Mapping;

/// What lines are that were not written by [`encode_page`](crate::encode_page).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one is made for a whole file")]
pub enum LineFormat {
    /// Envelopes, ours or Debezium's.
    Envelope,
    /// Rows, an upsert each.
    Plain,
    /// Another shape, read by a mapping.
    Map(Mapping),
}

/// Puts whole lines into messages of at most [`MESSAGE_BYTES`], but for a longer line, which has a
/// message of its own. Blank lines and carriage returns before line feeds are left out; everything
/// else stays as it is. Give [`PublishContext::ordinal`] the records of the calls before.
pub fn encode_lines(
    lines: Bytes,
    format: &LineFormat,
    context: &PublishContext,
) -> Vec<EncodedMessage> {
    let base = format.headers(base_headers(context));
    let mut messages = Vec::new();
    let mut ordinal = context.ordinal;
    let mut rest = lines;
    while !rest.is_empty() {
        let stretch = rest.split_to(message_end(&rest));
        let (payload, records) = clean(stretch);
        if records > 0 {
            let headers = message_headers(&base, context, ordinal, records, false);
            messages.push(EncodedMessage { headers, payload, records });
            ordinal += u64::from(records);
        }
    }
    messages
}

impl LineFormat {
    fn headers(&self, headers: Headers) -> Headers {
        let name = match self {
            LineFormat::Envelope => headers::FORMAT_ENVELOPE,
            LineFormat::Plain => headers::FORMAT_PLAIN,
            LineFormat::Map(_) => headers::FORMAT_MAP,
        };
        let headers = headers.with(headers::FORMAT, name);
        match self {
            LineFormat::Map(mapping) => headers.with(headers::MAP, mapping.to_json()),
            LineFormat::Envelope | LineFormat::Plain => headers,
        }
    }
}

/// Where a message ends that begins with `bytes`: after the last line feed that fits, or after the
/// first where a line is longer.
fn message_end(bytes: &[u8]) -> usize {
    if bytes.len() <= MESSAGE_BYTES {
        return bytes.len();
    }
    match memchr::memrchr(b'\n', &bytes[..=MESSAGE_BYTES]) {
        Some(at) => at + 1,
        None => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
    }
}

/// The stretch without its last line feed, and its records; a copy only if lines must go.
fn clean(stretch: Bytes) -> (Bytes, u32) {
    let body = stretch.slice(..stretch.len() - usize::from(stretch.ends_with(b"\n")));
    if lines_of(&body).any(|line| is_blank(line) || line.ends_with(b"\r")) {
        return copied(&body);
    }
    let records = memchr::memchr_iter(b'\n', &body).count() + 1;
    (body, u32::try_from(records).unwrap_or(u32::MAX))
}

fn copied(body: &[u8]) -> (Bytes, u32) {
    let mut out = BytesMut::with_capacity(body.len());
    let mut records = 0;
    for line in lines_of(body).filter(|line| !is_blank(line)) {
        if records > 0 {
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        records += 1;
    }
    (out.freeze(), records)
}

fn lines_of(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    let mut begin = 0;
    ends.map(move |end| {
        let line = &body[begin..end];
        begin = end + 1;
        line
    })
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

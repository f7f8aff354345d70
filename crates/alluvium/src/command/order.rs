//! Sequences that come beside rows of an entity which does not order its changes by them: nobody is
//! to believe in an order that is not kept.

use alluvium_model::{EncodedMessage, EntityId};
use alluvium_wire::{Decoder, Line};

/// What to declare, so that sequences count.
const DECLARE: &str = "declare \"sequence_by\": [{\"carried\": \"long\"}] (or timestamp, decimal, lsn, binlog; one \
     for each part) in entities.json";

/// What is to be said of the sequence that a mapping names.
pub(super) fn mapped(id: &EntityId) -> String {
    format!("--map names a sequence, and `{id}` orders its changes by arrival: {DECLARE}")
}

/// What is to be said of the sequences that envelopes carry.
pub(super) fn carried(id: &EntityId) -> String {
    format!(
        "the lines carry `source.sequence`, and `{id}` orders its changes by arrival: the sequence \
         is left out of account. To order by it, {DECLARE}"
    )
}

/// Whether a line of these messages carries a sequence.
pub(super) fn is_carried(messages: &[EncodedMessage]) -> bool {
    messages.iter().any(|message| {
        let Ok(decoder) = Decoder::for_headers(&message.headers) else { return false };
        let mut lines = message.payload.split(|byte| *byte == b'\n');
        lines.any(|line| names_one(line) && carries_one(&decoder, line))
    })
}

/// Nearly all lines without a sequence are told by this, without being read.
fn names_one(line: &[u8]) -> bool {
    const NAME: &[u8] = b"\"sequence\"";
    line.windows(NAME.len()).any(|window| window == NAME)
}

fn carries_one(decoder: &Decoder, line: &[u8]) -> bool {
    matches!(decoder.decode(line), Ok(Line::Change(change)) if !change.sequence.is_empty())
}

#[cfg(test)]
mod tests {
    use alluvium_wire::{LineFormat, PublishContext, encode_lines};
    use bytes::Bytes;

    use super::*;

    fn carried_by(lines: &'static str) -> bool {
        let context = PublishContext {
            entity: "shop.orders".parse().unwrap(),
            run: None,
            traceparent: None,
            delivery: "one".to_owned(),
            ordinal: 0,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        is_carried(&encode_lines(
            Bytes::from_static(lines.as_bytes()),
            &LineFormat::Envelope,
            &context,
        ))
    }

    #[test]
    fn a_sequence_is_seen_where_it_is_one() {
        assert!(carried_by(
            "{\"op\":\"c\",\"after\":{\"id\":1}}\n\
             {\"op\":\"c\",\"after\":{\"id\":1},\"source\":{\"sequence\":[7]}}\n"
        ));
        assert!(!carried_by(
            "{\"op\":\"c\",\"after\":{\"id\":1,\"sequence\":[7]},\"source\":{}}\n"
        ));
        assert!(!carried_by(
            "{\"op\":\"c\",\"after\":{\"id\":1},\"source\":{\"sequence\":null}}\n"
        ));
        assert!(!carried_by("{\"sequence\"\n"));
    }
}

//! Records that are larger than the bus takes.
//!
//! A page whose publishing fails for one of them would fail again in every run. Where the record stood
//! in a foreign log, which tells its place, the place goes on instead: others write there what they
//! like, and a bad message never stops a run. All else stays an error, for what could be left out of a
//! table or an API would be missed by nobody.

use alluvium_model::{EncodedMessage, EncodedPage};
use alluvium_wire::left_out;

/// What a bus adds to a message, at most.
const AROUND: usize = 1 << 10;

/// The page without the rows for which a bus with this limit has no room, and how many they are;
/// `None` if there is none that may be left out.
pub(crate) fn without_large(page: &EncodedPage, limit: usize) -> Option<(EncodedPage, u64)> {
    let (mut page, mut count) = (page.clone(), 0);
    for message in &mut page.messages {
        if size(message) + AROUND > limit
            && let Some(smaller) = left_out(message)
        {
            *message = smaller;
            count += 1;
        }
    }
    (count > 0).then_some((page, count))
}

fn size(message: &EncodedMessage) -> usize {
    let headers = message.headers.0.iter().map(|(name, value)| name.len() + value.len());
    message.payload.len() + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use alluvium_model::{Change, Record};
    use alluvium_wire::{MESSAGE_BYTES, PublishContext, encode_page};
    use serde_json::value::to_raw_value;

    use super::*;

    fn change(bytes: usize, is_foreign: bool) -> Record {
        let row = to_raw_value(&serde_json::json!({"id": 1, "text": "x".repeat(bytes)})).unwrap();
        let origin = serde_json::json!({"topic": "t", "partition": 0, "offset": 7, "index": 0});
        let origin = is_foreign.then(|| to_raw_value(&origin).unwrap());
        Record::Change(Change { origin, ..Change::upsert(row) })
    }

    fn page(records: &[Record]) -> EncodedPage {
        let context = PublishContext {
            entity: "shop.orders".parse().unwrap(),
            run: None,
            traceparent: None,
            delivery: "poll/1".to_owned(),
            ordinal: 0,
            now: "2026-11-21T08:00:00Z".parse().unwrap(),
        };
        encode_page(records, &context).unwrap()
    }

    #[test]
    fn only_what_is_too_large_is_left_out_and_the_rest_stays_in_its_place() {
        let limit = 2 * MESSAGE_BYTES;
        let whole = page(&[change(9, true), change(limit, true), change(MESSAGE_BYTES, true)]);
        let (left, count) = without_large(&whole, limit).unwrap();
        assert_eq!((count, left.records(), left.messages.len()), (1, 3, 3));
        assert!(left.messages.iter().all(|message| size(message) + AROUND <= limit));
        assert_eq!(left.messages[0], whole.messages[0]);
        assert_eq!(left.messages[2], whole.messages[2]);
        assert!(without_large(&left, limit).is_none(), "nothing more can be left out");
    }

    #[test]
    fn a_row_that_does_not_stand_in_a_foreign_log_is_never_left_out() {
        let limit = 2 * MESSAGE_BYTES;
        assert!(without_large(&page(&[change(limit, false)]), limit).is_none());
    }
}

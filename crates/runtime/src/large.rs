//! Records that are larger than the bus takes.
//!
//! A page whose publishing fails for one of them would fail again in every run. Where the record stood
//! in a foreign log, which tells its place, the place goes on instead: others write there what they
//! like, and a bad message never stops a run. All else stays an error, for what could be left out of a
//! table or an API would be missed by nobody.

use alluvium_model::metadata::SequenceBy;
use alluvium_model::{EncodedPage, EntitySpec};
use alluvium_wire::{Path, left_out};

/// Leaves the row out of the message at this place of the page, which the bus refused. `false` if that
/// may not be, or was done already.
pub(crate) fn leave_out(page: &mut EncodedPage, at: usize, spec: &EntitySpec) -> bool {
    let Some(message) = page.messages.get_mut(at) else { return false };
    let Some(smaller) = left_out(message, &needed(spec)) else { return false };
    *message = smaller;
    true
}

/// Where the columns stand that a delete cannot do without: its key, and what orders it. Empty where
/// one of them cannot be found.
fn needed(spec: &EntitySpec) -> Vec<Path> {
    let ordering = spec.sequence_by.iter().filter_map(|part| match part {
        SequenceBy::Column(name) => Some(name),
        SequenceBy::Carried { .. } => None,
    });
    let path = |name: &String| match spec.column(name).and_then(|column| column.path.as_ref()) {
        Some(path) => path.parse().ok(),
        None => Some(Path::member(name)),
    };
    let paths: Option<Vec<Path>> = spec.keys.iter().chain(ordering).map(path).collect();
    paths.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use alluvium_model::{Change, Record};
    use alluvium_wire::{MESSAGE_BYTES, PublishContext, encode_page};
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    use super::*;

    fn change(bytes: usize, is_foreign: bool) -> Record {
        let row = to_raw_value(&json!({"id": 1, "text": "x".repeat(bytes)})).unwrap();
        let origin = json!({"topic": "t", "partition": 0, "offset": 7, "index": 0});
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

    fn spec(mut more: Value) -> EntitySpec {
        let mut spec = json!({
            "system": "shop", "name": "orders", "keys": ["id"],
            "columns": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}],
        });
        spec.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn only_what_was_refused_is_left_out_and_the_rest_stays_in_its_place() {
        let large = 2 * MESSAGE_BYTES;
        let whole = page(&[change(9, true), change(large, true), change(large, true)]);
        let mut left = whole.clone();
        assert!(leave_out(&mut left, 1, &spec(json!({}))));
        assert_eq!((left.records(), left.messages.len()), (3, 3));
        assert!(left.messages[1].payload.len() < 1000);
        assert_eq!(left.messages[0], whole.messages[0]);
        assert_eq!(left.messages[2], whole.messages[2]);
        let again = left.clone();
        assert!(!leave_out(&mut left, 1, &spec(json!({}))), "nothing more can be left out of it");
        assert_eq!(left, again);
    }

    #[test]
    fn a_row_that_does_not_stand_in_a_foreign_log_is_never_left_out() {
        let mut page = page(&[change(2 * MESSAGE_BYTES, false)]);
        assert!(!leave_out(&mut page, 0, &spec(json!({}))));
        assert!(!leave_out(&mut page, 1, &spec(json!({}))), "there is no such message");
    }

    #[test]
    fn a_delete_needs_its_key_and_what_orders_it() {
        let paths = |more: Value| -> Vec<String> {
            needed(&spec(more)).iter().map(|path| path.as_str().to_owned()).collect()
        };
        assert_eq!(paths(json!({})), ["/id"]);
        assert_eq!(paths(json!({"sequence_by": ["text", {"carried": "long"}]})), ["/id", "/text"]);
        let nested = json!({"columns": [{"name": "id", "type": "long", "path": "/a/id"}]});
        assert_eq!(paths(nested), ["/a/id"]);
    }
}

//! The order of arrival: that of an entity which declares no other.
//!
//! A sequence in it is the time at which the bus took the message, the message's offset, the
//! record's index, and behind them what identifies the record. That alters no order, for no two
//! records have one place. It stands there so that a record which stands on the topic twice is known
//! wherever its sequence is kept: in the table, in the side files, in the index.

use alluvium_model::sequence::SequenceBuilder;
use alluvium_model::{EntityId, Message};
use alluvium_wire::{ChangeView, delivered_id, headers};
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// How many bytes of a sequence tell the message: its time and its offset.
pub(crate) const PLACE: usize = 12 + 8;
/// Behind them comes the index.
const INDEX: usize = 8;

/// What identifies a record among those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecordId {
    /// The hash of its delivery: all records of one share it.
    pub(crate) delivery: u64,
    /// Half of its own id, which is made of the delivery, its ordinal there and what it says.
    record: u64,
}

/// The id that a sequence in the order of arrival ends with; `None` where the message did not tell
/// what it was delivered in.
pub(crate) fn id_of(sequence: &[u8]) -> Option<RecordId> {
    let (delivery, record) = sequence.get(PLACE + INDEX..)?.split_at_checked(8)?;
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    Some(RecordId { delivery: number(delivery)?, record: number(record)? })
}

/// The id of a control record; `None` where its message does not tell what it was delivered in.
pub(crate) fn control_id(entity: &EntityId, message: &Message, index: u32) -> Option<String> {
    let (name, first) = delivery_of(message)?;
    let line = message.lines().nth(index as usize)?;
    let ordinal = first.saturating_add(u64::from(index));
    Some(format!("{:032x}", delivered_id(entity, &name, ordinal, line)))
}

/// The delivery of a message, and the ordinal of its first record there. It is named with the topic's
/// epoch, for in another one the same name may mean another delivery.
fn delivery_of(message: &Message) -> Option<(String, u64)> {
    let (name, first) = headers::delivered_in(&message.headers)?;
    Some((format!("{}/{name}", message.epoch), first))
}

/// Where a message stands in the order of arrival.
pub(super) struct Arrival<'d> {
    published: Timestamp,
    offset: u64,
    delivery: Option<Delivery<'d>>,
}

/// What a message was delivered in.
struct Delivery<'d> {
    entity: &'d EntityId,
    name: String,
    hash: u64,
    /// The ordinal of the message's first record.
    first: u64,
    /// What a record says; its memory is used again.
    says: Vec<u8>,
}

impl<'d> Arrival<'d> {
    pub(super) fn of(message: &Message, entity: &'d EntityId) -> Self {
        let delivery = delivery_of(message).map(|(name, first)| Delivery {
            entity,
            hash: xxh3_64(name.as_bytes()),
            name,
            first,
            says: Vec::new(),
        });
        let published = Timestamp::from_microsecond(message.published_at_us).unwrap_or_default();
        Self { published, offset: message.offset, delivery }
    }

    /// Adds the parts of a record's sequence.
    pub(super) fn put(
        &mut self,
        builder: &mut SequenceBuilder,
        change: &ChangeView<'_>,
        index: u32,
    ) {
        builder.timestamp(self.published);
        builder.long(i64::try_from(self.offset).unwrap_or(i64::MAX));
        builder.long(i64::from(index));
        if let Some(delivery) = &mut self.delivery {
            // Its order means nothing, so that the sign may stand as it comes.
            builder.long(delivery.hash as i64);
            builder.long(delivery.id(change, index) as i64);
        }
    }
}

impl Delivery<'_> {
    fn id(&mut self, change: &ChangeView<'_>, index: u32) -> u128 {
        // Not the line: an envelope tells when it was made, which is another time when it is made
        // again. No line holds a line feed.
        let Self { says, .. } = self;
        says.clear();
        says.extend_from_slice(change.op.as_str().as_bytes());
        let key = change.key.iter().map(AsRef::as_ref);
        for part in change.row.into_iter().chain(change.old_key).chain(key) {
            says.push(b'\n');
            says.extend_from_slice(part.get().as_bytes());
        }
        let ordinal = self.first.saturating_add(u64::from(index));
        delivered_id(self.entity, &self.name, ordinal, &self.says)
    }
}

#[cfg(test)]
mod tests {
    use alluvium_model::{EncodedMessage, Epoch, Headers};
    use alluvium_wire::{Decoder, Line};
    use bytes::Bytes;

    use super::*;

    /// The sequence of the record that `line` is, as the first one of a message.
    fn sequence(offset: u64, delivery: Option<(&str, &str)>, line: &'static str) -> Vec<u8> {
        sequence_in(Epoch(1), offset, delivery, line)
    }

    fn sequence_in(
        epoch: Epoch,
        offset: u64,
        delivery: Option<(&str, &str)>,
        line: &'static str,
    ) -> Vec<u8> {
        let headers = delivery.map_or(Headers::default(), |(name, ordinal)| {
            Headers::default().with(headers::DELIVERY, name).with(headers::ORDINAL, ordinal)
        });
        let payload = Bytes::from_static(line.as_bytes());
        let encoded = EncodedMessage { headers, payload, records: 1 };
        let message = Message::new(epoch, offset, 1_000_000, encoded, None);
        let decoder = Decoder::for_headers(&message.headers).unwrap();
        let Line::Change(change) = decoder.decode(line.as_bytes()).unwrap() else {
            panic!("{line} is no change")
        };
        let entity = "shop.orders".parse().unwrap();
        let mut builder = SequenceBuilder::default();
        Arrival::of(&message, &entity).put(&mut builder, &change, 0);
        builder.finish().unwrap().encoded().to_vec()
    }

    const LINE: &str = r#"{"op":"u","after":{"id":1},"ts_ms":5}"#;

    #[test]
    fn a_record_that_is_published_again_has_its_id_in_another_place() {
        let [once, again] = [3, 9].map(|offset| sequence(offset, Some(("poll/7", "4")), LINE));
        assert!(once < again);
        assert!(id_of(&once).is_some());
        assert_eq!(id_of(&once), id_of(&again));
        let later = r#"{"op":"u","after":{"id":1},"ts_ms":6}"#;
        assert_eq!(id_of(&once), id_of(&sequence(9, Some(("poll/7", "4")), later)));
    }

    #[test]
    fn another_delivery_ordinal_row_or_operation_is_another_record() {
        let once = id_of(&sequence(3, Some(("poll/7", "4")), LINE));
        for (delivery, line) in [
            (("poll/8", "4"), LINE),
            (("poll/7", "5"), LINE),
            (("poll/7", "4"), r#"{"op":"u","after":{"id":2},"ts_ms":5}"#),
            (("poll/7", "4"), r#"{"op":"c","after":{"id":1},"ts_ms":5}"#),
        ] {
            assert_ne!(id_of(&sequence(3, Some(delivery), line)), once, "{delivery:?} {line}");
        }
        let elsewhere = sequence_in(Epoch(2), 3, Some(("poll/7", "4")), LINE);
        assert_ne!(id_of(&elsewhere), once, "the same name in another epoch");
    }

    #[test]
    fn without_its_delivery_a_record_has_no_id() {
        let bare = sequence(3, None, LINE);
        assert_eq!((bare.len(), id_of(&bare)), (PLACE + INDEX, None));
        let unnumbered = sequence(3, Some(("poll/7", "first")), LINE);
        assert_eq!(unnumbered, bare);
        assert!(bare < sequence(3, Some(("poll/7", "4")), LINE));
    }

    #[test]
    fn sequences_never_change_between_releases() {
        let told = hex::encode(sequence(3, Some(("poll/7", "4")), LINE));
        let (place, id) = told.split_at(2 * (PLACE + INDEX));
        assert_eq!(place, "80000000000000010000000080000000000000038000000000000000");
        let entity = "shop.orders".parse().unwrap();
        let record = delivered_id(&entity, "1/poll/7", 4, b"u\n{\"id\":1}") as u64;
        let shown = |number: u64| format!("{:016x}", number ^ (1 << 63));
        assert_eq!(id, shown(xxh3_64(b"1/poll/7")) + &shown(record));
    }
}

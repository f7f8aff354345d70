//! Messages as Kafka's records, and back.
//!
//! Headers are carried as they are, which is CloudEvents' binary mode: their names are those of its
//! Kafka binding. Beside them stand the bus's own: how many records the lines hold, when the message
//! was published, its number among those of polled pages and where the one before it stands, and the
//! topic's epoch, by which a reader notices that the topic was made anew under its feet.

use alluvium_model::{BusError, EncodedMessage, EntityId, Epoch, Headers, Message};
use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};

use crate::payload::lines;
use crate::times::PUBLISHED;

const RECORDS: &str = "alluvium-records";
const EPOCH: &str = "alluvium-epoch";
/// Of all messages of polled pages in the topic's epoch, the how-manieth this one is.
const POLLED: &str = "alluvium-polled";
/// On the first message of a polled page: the offset of the last one of such pages before it.
const POLLED_AFTER: &str = "alluvium-polled-after";
/// On a record that begins a topic, and is nobody's message.
const MARK: &str = "alluvium-mark";

/// The headers of the record that begins a topic and says its epoch.
pub(super) fn mark(epoch: Epoch) -> OwnedHeaders {
    let epoch = epoch.to_string();
    let headers = OwnedHeaders::new().insert(Header { key: MARK, value: Some("epoch") });
    headers.insert(Header { key: EPOCH, value: Some(epoch.as_str()) })
}

/// Which one of a topic's polled messages it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Polled {
    /// Its number among them, from 1.
    pub(super) number: u64,
    /// The offset of the one before it, where that is told.
    pub(super) after: Option<u64>,
}

/// The headers of a message, and which polled one it is if its page was polled.
pub(super) fn headers(
    message: &EncodedMessage,
    epoch: Epoch,
    published_at_us: i64,
    polled: Option<Polled>,
) -> OwnedHeaders {
    let numbers = [
        (RECORDS, Some(message.records.to_string())),
        (PUBLISHED, Some(published_at_us.to_string())),
        (POLLED, polled.map(|polled| polled.number.to_string())),
        (POLLED_AFTER, polled.and_then(|polled| polled.after).map(|after| after.to_string())),
        (EPOCH, Some(epoch.to_string())),
    ];
    let own = numbers.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let all = message.headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    all.chain(own).fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}

/// The bytes of a message, as its limit counts them.
pub(super) fn size(message: &EncodedMessage) -> usize {
    let headers = message.headers.0.iter().map(|(name, value)| name.len() + value.len());
    message.payload.len() + headers.sum::<usize>()
}

/// A message that was found.
pub(super) struct Found {
    pub(super) message: Message,
    /// Which polled one it is, if it is one.
    pub(super) polled: Option<Polled>,
}

/// The message that stands at a record's place in the topic of `entity`, which has `epoch`; `None`
/// for a mark.
///
/// A record without the bus's own headers was put there by somebody else, and is taken as it is. One
/// of another epoch is refused with [`BusError::UnexpectedEpoch`].
pub(super) fn read(
    entity: &EntityId,
    epoch: Epoch,
    record: &BorrowedMessage<'_>,
) -> Result<Option<Found>, BusError> {
    let mut headers = Headers::default();
    let (mut records, mut marked, mut said) = (None, false, None);
    let (mut number, mut after) = (None, None);
    for header in record.headers().map(|h| h.iter()).into_iter().flatten() {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
        match header.key {
            RECORDS => records = value.parse().ok(),
            EPOCH => said = value.parse().ok().map(Epoch),
            POLLED => number = value.parse().ok(),
            POLLED_AFTER => after = value.parse().ok(),
            MARK => marked = true,
            PUBLISHED => {}
            name => {
                headers.0.insert(name.to_owned(), value.into_owned());
            }
        }
    }
    if marked && said.is_some() {
        return Ok(None);
    }
    if let Some(found) = said.filter(|said| *said != epoch) {
        let topic = entity.clone();
        return Err(BusError::UnexpectedEpoch { topic, expected: epoch, found });
    }
    let payload = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    let records = records.unwrap_or_else(|| lines(&payload));
    let encoded = EncodedMessage { headers, payload, records };
    let message = Message::new(epoch, offset(record), published_at_us(record), encoded, None);
    Ok(Some(Found { message, polled: number.map(|number| Polled { number, after }) }))
}

/// When a message was published, as its publisher says, and else as Kafka does.
pub(super) fn published_at_us(record: &BorrowedMessage<'_>) -> i64 {
    let told = header(record, PUBLISHED).and_then(|told| told.parse().ok());
    let stamped = || record.timestamp().to_millis().unwrap_or(0).saturating_mul(1000);
    told.unwrap_or_else(stamped)
}

/// The record's offset. The first of a topic is its mark, at 0, so that messages begin at 1.
pub(super) fn offset(record: &BorrowedMessage<'_>) -> u64 {
    u64::try_from(record.offset()).unwrap_or(0)
}

/// What stands first in a topic.
pub(super) enum Beginning {
    /// A mark, and the epoch that it says.
    Mark(Epoch),
    /// A message, and the epoch for which it was published, if its publisher was a bus.
    Message(Option<Epoch>),
}

/// What a record is that stands first in a topic.
pub(super) fn beginning(record: &BorrowedMessage<'_>) -> Beginning {
    let said = header(record, EPOCH).and_then(|told| told.parse().ok()).map(Epoch);
    match (header(record, MARK), said) {
        (Some(_), Some(epoch)) => Beginning::Mark(epoch),
        (_, said) => Beginning::Message(said),
    }
}

fn header<'a>(record: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let mut all = record.headers().map(|h| h.iter()).into_iter().flatten();
    let value = all.find(|header| header.key == name).and_then(|header| header.value)?;
    std::str::from_utf8(value).ok()
}

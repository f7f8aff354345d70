//! A message of Kafka, taken out of librdkafka.

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::log::{Arrived, telling};

/// A message as the connector takes it.
pub(super) fn arrived(message: &BorrowedMessage<'_>) -> Arrived {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.filter_map(|header| {
        let value = std::str::from_utf8(header.value.unwrap_or_default()).ok()?;
        Some((header.key, value))
    });
    Arrived {
        partition: message.partition(),
        offset: message.offset(),
        subject: None,
        time_us: message.timestamp().to_millis().and_then(|ms| ms.checked_mul(1000)),
        key: message.key().map(ToOwned::to_owned),
        headers: telling(headers),
        value: message.payload().map(ToOwned::to_owned),
    }
}

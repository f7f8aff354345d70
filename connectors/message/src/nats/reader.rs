//! A consumer of one stream: pages of its messages, none left out.

use std::time::Duration;

use alluvium_model::SourceError;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{Batch, BatchError, Config};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::stream::Stream;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::{ONLY, signed, silent};
use crate::log::{Arrived, Brought, Want, telling};

/// Messages asked for at once.
const BATCH: u64 = 256;
/// Bytes asked for at once, whatever a page may have.
const MOST_BYTES: u64 = 1 << 40;
/// The server counts a message with its subject and more, which takes so many bytes at most.
const AROUND: u64 = 16 << 10;
/// So long the server keeps a consumer that nobody asks.
const FORGET: Duration = Duration::from_secs(60);

/// A consumer of a stream, and where it stands.
pub(super) struct Reader {
    consumer: Consumer<Config>,
    of: (String, Option<String>),
    next: i64,
    /// How many messages it has brought.
    delivered: u64,
    /// The bytes of the largest message that the server takes.
    largest: u64,
    /// Whether the server took a message up that had no room.
    is_cut: bool,
    timeout: Duration,
}

/// How much is asked for at once, and for how long.
#[derive(Default)]
struct Ask {
    messages: u64,
    /// How many bytes of messages; none: however many.
    bytes: Option<u64>,
    /// How long to wait for the first; none: not at all.
    wait: Option<Duration>,
}

impl Reader {
    /// A new consumer that begins at `next`.
    pub(super) async fn open(
        stream: &Stream,
        want: &Want,
        next: i64,
        largest: u64,
        within: Duration,
    ) -> Result<Self, SourceError> {
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: u64::try_from(next).unwrap_or(1).max(1),
            },
            ack_policy: AckPolicy::None,
            filter_subject: want.subject.clone().unwrap_or_default(),
            inactive_threshold: FORGET,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let made = stream.create_consumer(config);
        let consumer = timeout(within, made).await.map_err(|_| silent(&want.topic))?;
        let consumer = consumer.map_err(|error| {
            let text = format!("stream `{}` gave no consumer: {:?}", want.topic, error.kind());
            SourceError::Unavailable(text)
        })?;
        let of = (want.topic.clone(), want.subject.clone());
        Ok(Self { consumer, of, next, delivered: 0, largest, is_cut: false, timeout: within })
    }

    /// Whether it stands where a page is wanted from.
    pub(super) fn stands_at(&self, want: &Want, next: i64) -> bool {
        self.next == next && self.of.0 == want.topic && self.of.1 == want.subject
    }

    /// Whether a new consumer must read on: of one for whose message there was no room, servers are
    /// not sure how many more there are.
    pub(super) fn is_spent(&self) -> bool {
        self.is_cut
    }

    /// A page of a stream whose last message stands before `end`.
    pub(super) async fn page(&mut self, want: &Want, end: i64) -> Result<Brought, SourceError> {
        let mut brought = Brought::default();
        // Messages that come while this page is read are for the next one.
        let mut pending = if self.next < end { self.pending().await? } else { 0 };
        let mut bytes = 0;
        if pending == 0 && !want.wait.is_zero() {
            self.next = self.next.max(end);
            let ask = Ask { messages: 1, wait: Some(want.wait), ..Ask::default() };
            pending = self.batch(ask, &mut brought.messages).await?;
            bytes = brought.messages.iter().map(Arrived::bytes).sum();
        }
        while pending > 0 && (brought.messages.len() as u64) < want.messages && bytes < want.bytes {
            let room = (want.messages - brought.messages.len() as u64).min(BATCH).min(pending);
            // Less than its largest message the server might not be able to give. One that came when
            // it took larger ones ends the page.
            let space = (want.bytes - bytes).max(self.largest).min(MOST_BYTES) + AROUND;
            let ask = Ask { messages: room, bytes: Some(space), ..Ask::default() };
            let before = brought.messages.len();
            self.batch(ask, &mut brought.messages).await?;
            let new = brought.messages.get(before..).unwrap_or_default();
            bytes += new.iter().map(Arrived::bytes).sum::<u64>();
            pending = pending.saturating_sub(new.len() as u64);
            if new.is_empty() {
                break;
            }
        }
        if self.is_cut && brought.messages.is_empty() {
            // A message larger than the server takes by now: it comes alone, however large it is.
            let ask = Ask { messages: 1, wait: Some(self.timeout), ..Ask::default() };
            self.batch(ask, &mut brought.messages).await?;
            pending = pending.saturating_sub(brought.messages.len() as u64);
        }
        if pending == 0 {
            self.next = self.next.max(end);
        }
        brought.next.insert(ONLY, self.next);
        brought.more = pending > 0;
        Ok(brought)
    }

    async fn asked(&self, ask: &Ask) -> Result<Batch, BatchError> {
        let most = usize::try_from(ask.messages).unwrap_or(1);
        // Zero is no bound.
        let bytes = ask.bytes.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let consumer = &self.consumer;
        match ask.wait {
            Some(wait) => {
                let asked = consumer.batch().max_messages(most).max_bytes(bytes);
                asked.expires(wait).messages().await
            }
            None => consumer.fetch().max_messages(most).max_bytes(bytes).messages().await,
        }
    }

    /// How many messages the consumer has yet to bring.
    async fn pending(&self) -> Result<u64, SourceError> {
        let info = timeout(self.timeout, self.consumer.get_info()).await;
        let info = info.map_err(|_| silent(&self.of.0))?;
        Ok(info.map_err(|_| silent(&self.of.0))?.num_pending)
    }

    /// Adds what is asked for: messages that are there, or the first that comes in time. Gives how
    /// many more the consumer has after them.
    async fn batch(&mut self, ask: Ask, messages: &mut Vec<Arrived>) -> Result<u64, SourceError> {
        let silent = || silent(&self.of.0);
        let batch = timeout(self.timeout, self.asked(&ask)).await.map_err(|_| silent())?;
        let mut batch = batch.map_err(|_| silent())?;
        let (before, mut pending) = (messages.len(), 0);
        let patience = self.timeout + ask.wait.unwrap_or_default();
        while let Some(message) = timeout(patience, batch.next()).await.map_err(|_| silent())? {
            let message = match message {
                Ok(message) => message,
                // The next message has no room in what was asked for. Any other error comes again.
                Err(error) if messages.len() > before || has_no_room(&error.to_string()) => {
                    self.is_cut = true;
                    break;
                }
                Err(_) => return Err(silent()),
            };
            let (arrived, count, left) = arrived(&message)?;
            // A consumer that acknowledges nothing brings nothing twice: what a broken connection
            // took with it must be asked for anew.
            if count != self.delivered + 1 {
                return Err(silent());
            }
            self.delivered = count;
            self.next = arrived.offset + 1;
            pending = left;
            messages.push(arrived);
        }
        Ok(pending)
    }
}

/// Whether the server says that the next message is larger than what was asked for.
fn has_no_room(said: &str) -> bool {
    said.contains("Size Exceeds")
}

/// A message, its number among those that its consumer brought, and how many are left.
fn arrived(message: &Message) -> Result<(Arrived, u64, u64), SourceError> {
    let info = message.info().map_err(|_| {
        SourceError::BadAnswer("a message does not tell its place in the stream".to_owned())
    })?;
    let headers: Vec<(&str, String)> = (message.headers.iter().flat_map(|headers| headers.iter()))
        .filter_map(|(name, values)| Some((name.as_ref(), decoded(values.first()?.as_str()))))
        .collect();
    let time_us = i64::try_from(info.published.unix_timestamp_nanos() / 1000).ok();
    let arrived = Arrived {
        partition: ONLY,
        offset: signed(info.stream_sequence),
        subject: Some(message.subject.to_string()),
        time_us,
        key: None,
        headers: telling(headers.iter().map(|(name, value)| (*name, value.as_str()))),
        value: Some(message.payload.to_vec()),
    };
    Ok((arrived, info.consumer_sequence, info.pending))
}

/// The value of a header: CloudEvents' binding for NATS percent-encodes what a header cannot hold.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                &tail[2..]
            }
            (first, _) => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_cloudevents_writes_them_on_nats() {
        assert_eq!(decoded("application/x-ndjson"), "application/x-ndjson");
        assert_eq!(decoded("%7B%22op%22:%22op%22%7D"), r#"{"op":"op"}"#);
        assert_eq!(decoded("50 %, %zz and %C3%A5"), "50 %, %zz and å");
    }
}

//! NATS JetStream as a log: a stream read from a given sequence on, by a consumer that the server
//! forgets. Core NATS keeps nothing and so is no log.

mod login;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use alluvium_model::{EntityId, SourceError};
use async_nats::jetstream::consumer::pull::{Batch, Config};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::{
    GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Info, RetentionPolicy, Stream};
use async_nats::jetstream::{self, ErrorCode, Message};
use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::log::{Arrived, Brought, Log, Want, another, lost, telling};
use crate::settings::{MessageConnection, OnLoss, Start};

/// The only partition.
const ONLY: i32 = 0;
/// Messages asked for at once; a page's bytes are looked at in between.
const BATCH: u64 = 256;
/// So long the server keeps a consumer that nobody asks.
const FORGET: Duration = Duration::from_secs(60);

/// Servers of NATS.
pub(crate) struct NatsLog {
    jetstream: jetstream::Context,
    timeout: Duration,
    readers: HashMap<EntityId, Reader>,
}

/// A consumer of a stream, and where it stands.
struct Reader {
    consumer: Consumer<Config>,
    of: (String, Option<String>),
    next: i64,
    /// How many messages it has brought.
    delivered: u64,
}

/// What a stream says of itself.
struct Reach {
    stream: Stream,
    created: String,
    first: i64,
    /// The sequence after the last message.
    end: i64,
}

impl NatsLog {
    /// Connects and logs in.
    pub(crate) async fn connect(
        connection: &MessageConnection,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        let client = login::connect(connection, timeout).await?;
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(timeout);
        Ok(Self { jetstream, timeout, readers: HashMap::new() })
    }

    async fn reach(&self, want: &Want) -> Result<Reach, SourceError> {
        let name = &want.topic;
        let stream = self.jetstream.get_stream(name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(error) => refused(name, error.error_code()),
            GetStreamErrorKind::Request if is_unheard(&error) => core(),
            GetStreamErrorKind::Request => {
                SourceError::Unavailable(format!("stream `{name}`: no answer"))
            }
            _ => SourceError::Misconfigured(format!("`{name}` is no name of a stream")),
        })?;
        let Info { config, created, state, .. } = stream.cached_info();
        if config.retention != RetentionPolicy::Limits {
            return Err(SourceError::Misconfigured(format!(
                "stream `{name}` drops what was read, so that nothing could be read again; give it \
                 the retention `limits`, or read a mirror of it that has"
            )));
        }
        let created = created.unix_timestamp_nanos().to_string();
        let (first, end) = (signed(state.first_sequence), signed(state.last_sequence) + 1);
        Ok(Reach { created, first: first.max(1), end, stream })
    }

    /// The sequence to read from, and how many were lost before it.
    fn begin(&self, want: &Want, reach: &Reach) -> Result<(i64, u64), SourceError> {
        let place = format!("stream `{}`", want.topic);
        let next = match want.from.as_ref().map(|from| from.get(&ONLY).copied()) {
            None if want.start == Start::Latest => return Ok((reach.end, 0)),
            None | Some(None) => return Ok((reach.first, 0)),
            Some(Some(next)) => next,
        };
        let is_other = want.incarnation.as_ref().is_some_and(|known| *known != reach.created);
        if is_other || next > reach.end {
            let how = "it was made anew since";
            return match want.on_loss {
                OnLoss::Stop => Err(another(want, &place, how)),
                OnLoss::Continue => {
                    tracing::warn!(entity = %want.entity, "the stream was made anew");
                    Ok((reach.first, 0))
                }
            };
        }
        // A stream that keeps the last message of each subject compacts: what is gone was replaced.
        let config = &reach.stream.cached_info().config;
        let compacts = config.max_messages_per_subject > 0
            && config.max_messages <= 0
            && config.max_bytes <= 0
            && config.max_age.is_zero();
        if next >= reach.first || compacts {
            return Ok((next, 0));
        }
        if want.on_loss == OnLoss::Stop {
            return Err(lost(want, &place, next, reach.first));
        }
        let gone = u64::try_from(reach.first - next).unwrap_or(0);
        tracing::warn!(entity = %want.entity, gone, "messages were gone before they were read");
        Ok((reach.first, gone))
    }

    async fn open(&self, want: &Want, reach: &Reach, next: i64) -> Result<Reader, SourceError> {
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
        let made = reach.stream.create_consumer(config);
        let consumer = timeout(self.timeout, made).await.map_err(|_| silent(&want.topic))?;
        let consumer = consumer.map_err(|error| {
            let text = format!("stream `{}` gave no consumer: {:?}", want.topic, error.kind());
            SourceError::Unavailable(text)
        })?;
        let of = (want.topic.clone(), want.subject.clone());
        Ok(Reader { consumer, of, next, delivered: 0 })
    }

    async fn read(
        &self,
        reader: &mut Reader,
        want: &Want,
        reach: &Reach,
    ) -> Result<Brought, SourceError> {
        let mut brought =
            Brought { incarnation: Some(reach.created.clone()), ..Brought::default() };
        // Messages that come while this page is read are for the next one.
        let mut pending =
            if reader.next < reach.end { reader.pending(self.timeout).await? } else { 0 };
        let mut bytes = 0;
        if pending == 0 && !want.wait.is_zero() {
            reader.next = reader.next.max(reach.end);
            pending = reader.batch(1, Some(want.wait), self.timeout, &mut brought.messages).await?;
            bytes = brought.messages.iter().map(Arrived::bytes).sum();
        }
        while pending > 0 && (brought.messages.len() as u64) < want.messages && bytes < want.bytes {
            let room = (want.messages - brought.messages.len() as u64).min(BATCH).min(pending);
            let before = brought.messages.len();
            reader.batch(room, None, self.timeout, &mut brought.messages).await?;
            let new = brought.messages.get(before..).unwrap_or_default();
            bytes += new.iter().map(Arrived::bytes).sum::<u64>();
            pending = pending.saturating_sub(new.len() as u64);
            if new.is_empty() {
                break;
            }
        }
        if pending == 0 {
            reader.next = reader.next.max(reach.end);
        }
        brought.next.insert(ONLY, reader.next);
        brought.more = pending > 0;
        Ok(brought)
    }
}

#[async_trait]
impl Log for NatsLog {
    async fn page(&mut self, want: Want) -> Result<Brought, SourceError> {
        let reach = self.reach(&want).await?;
        let (next, lost) = self.begin(&want, &reach)?;
        let of = (want.topic.clone(), want.subject.clone());
        let known = self.readers.remove(&want.entity);
        let known = known.filter(|reader| reader.next == next && reader.of == of && lost == 0);
        let fresh = known.is_none();
        let mut reader = match known {
            Some(reader) => reader,
            None => self.open(&want, &reach, next).await?,
        };
        let mut read = self.read(&mut reader, &want, &reach).await;
        if read.is_err() && !fresh {
            // The server may have forgotten the consumer meanwhile.
            reader = self.open(&want, &reach, next).await?;
            read = self.read(&mut reader, &want, &reach).await;
        }
        let brought = Brought { lost, ..read? };
        self.readers.insert(want.entity, reader);
        Ok(brought)
    }

    async fn note(
        &mut self,
        _: &EntityId,
        _: &str,
        _: BTreeMap<i32, i64>,
    ) -> Result<(), SourceError> {
        // A stream that is only read keeps nothing for us.
        Ok(())
    }
}

impl Reader {
    /// How many messages the consumer has yet to bring.
    async fn pending(&self, within: Duration) -> Result<u64, SourceError> {
        let info = timeout(within, self.consumer.get_info()).await;
        let info = info.map_err(|_| silent(&self.of.0))?;
        Ok(info.map_err(|_| silent(&self.of.0))?.num_pending)
    }

    /// Adds at most so many messages: those that are there, or the first that comes in time. Gives
    /// how many more the consumer has after them.
    async fn batch(
        &mut self,
        most: u64,
        wait: Option<Duration>,
        within: Duration,
        messages: &mut Vec<Arrived>,
    ) -> Result<u64, SourceError> {
        let most = usize::try_from(most).unwrap_or(1);
        let silent = || silent(&self.of.0);
        let asked = async {
            match wait {
                Some(wait) => {
                    self.consumer.batch().max_messages(most).expires(wait).messages().await
                }
                None => self.consumer.fetch().max_messages(most).messages().await,
            }
        };
        let batch = timeout(within, asked).await.map_err(|_| silent())?;
        let mut batch: Batch = batch.map_err(|_| silent())?;
        let mut pending = 0;
        let patience = within + wait.unwrap_or_default();
        while let Some(message) = timeout(patience, batch.next()).await.map_err(|_| silent())? {
            let message = message.map_err(|_| silent())?;
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

fn refused(name: &str, code: ErrorCode) -> SourceError {
    match code {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => core(),
        ErrorCode::STREAM_NOT_FOUND => SourceError::Misconfigured(format!(
            "there is no stream `{name}`; what core NATS sends without one is kept nowhere"
        )),
        ErrorCode(code) => SourceError::Unavailable(format!("stream `{name}`: error {code}")),
    }
}

/// There is a server, and nobody at it who keeps streams.
fn core() -> SourceError {
    SourceError::Misconfigured(
        "there is no JetStream for this account: what core NATS sends is kept nowhere and could not \
         be read again. Switch JetStream on and make a stream of the subjects"
            .to_owned(),
    )
}

/// Whether nobody listens to the API of streams.
fn is_unheard(error: &GetStreamError) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<RequestError>());
    cause.is_some_and(|cause| cause.kind() == RequestErrorKind::NoResponders)
}

fn silent(name: &str) -> SourceError {
    SourceError::Unavailable(format!("stream `{name}`: the server did not answer"))
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
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

//! NATS JetStream as a log: a stream read from a given sequence on, by a consumer that the server
//! forgets. Core NATS keeps nothing and so is no log.

mod login;
mod reader;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use alluvium_model::{EntityId, SourceError};
use async_nats::jetstream::context::{
    GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Info, RetentionPolicy, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_trait::async_trait;

use self::reader::Reader;
use crate::log::{Brought, Log, Want, another, lost};
use crate::settings::{MessageConnection, OnLoss, Start};

/// The only partition.
const ONLY: i32 = 0;

/// Servers of NATS.
pub(crate) struct NatsLog {
    jetstream: jetstream::Context,
    timeout: Duration,
    readers: HashMap<EntityId, Reader>,
}

/// What a stream says of itself.
struct Reach {
    stream: Stream,
    created: String,
    first: i64,
    /// The sequence after the last message.
    end: i64,
}

impl Reach {
    /// Whether it keeps the last messages of each subject and has no other limit: what is gone was
    /// replaced.
    fn compacts(&self) -> bool {
        let config = &self.stream.cached_info().config;
        config.max_messages_per_subject > 0
            && config.max_messages <= 0
            && config.max_bytes <= 0
            && config.max_age.is_zero()
    }
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
        if next >= reach.first || reach.compacts() {
            return Ok((next, 0));
        }
        Ok((reach.first, missed(want, next, reach.first, reach.first - next)?))
    }

    /// A consumer goes on behind what was removed before it came there, and says nothing. So where a
    /// page of a log that was read before passed something over, it is asked whether the stream
    /// still begins before that. If not, the page ends there, and the next one tells.
    async fn overtaken(
        &self,
        want: &Want,
        next: i64,
        brought: &mut Brought,
    ) -> Result<u64, SourceError> {
        let was_read = want.from.as_ref().is_some_and(|from| from.contains_key(&ONLY));
        let holes = holes(next, brought);
        let Some(hole) = holes.first().filter(|_| was_read) else { return Ok(0) };
        let reach = self.reach(want).await?;
        if reach.first <= hole.start || reach.compacts() {
            return Ok(0);
        }
        if want.on_loss == OnLoss::Stop && hole.start > next {
            brought.messages.retain(|message| message.offset < hole.start);
            brought.next.insert(ONLY, hole.start);
            brought.more = true;
            return Ok(0);
        }
        let gone: i64 =
            holes.iter().map(|hole| (hole.end.min(reach.first) - hole.start).max(0)).sum();
        missed(want, hole.start, reach.first, gone)
    }
}

#[async_trait]
impl Log for NatsLog {
    async fn page(&mut self, want: Want) -> Result<Brought, SourceError> {
        let reach = self.reach(&want).await?;
        let (next, lost) = self.begin(&want, &reach)?;
        let known = self.readers.remove(&want.entity);
        let known = known.filter(|reader| lost == 0 && reader.stands_at(&want, next));
        let is_fresh = known.is_none();
        let largest = self.jetstream.client().max_payload() as u64;
        let open = || Reader::open(&reach.stream, &want, next, largest, self.timeout);
        let mut reader = match known {
            Some(reader) => reader,
            None => open().await?,
        };
        let mut brought = reader.page(&want, reach.end).await;
        if brought.is_err() && !is_fresh {
            // The server may have forgotten the consumer meanwhile.
            reader = open().await?;
            brought = reader.page(&want, reach.end).await;
        }
        let mut brought = brought?;
        brought.lost = lost + self.overtaken(&want, next, &mut brought).await?;
        brought.incarnation = Some(reach.created);
        if !reader.is_spent() {
            self.readers.insert(want.entity, reader);
        }
        Ok(brought)
    }

    async fn note(&mut self, _: &EntityId, _: BTreeMap<i32, i64>) -> Result<(), SourceError> {
        // A stream that is only read keeps nothing for us.
        Ok(())
    }
}

/// The stretches that a page passed over which was read from `next` on: nothing stood there, or
/// nothing any more.
fn holes(next: i64, brought: &Brought) -> Vec<Range<i64>> {
    let end = brought.next.get(&ONLY).copied();
    let stops = brought.messages.iter().map(|message| message.offset).chain(end);
    let mut at = next;
    let mut holes = Vec::new();
    for stop in stops {
        if at < stop {
            holes.push(at..stop);
        }
        at = stop + 1;
    }
    holes
}

/// So many messages were gone before they were read, which was done up to `next`: their count, if it
/// is to go on without them.
fn missed(want: &Want, next: i64, first: i64, gone: i64) -> Result<u64, SourceError> {
    if want.on_loss == OnLoss::Stop {
        return Err(lost(want, &format!("stream `{}`", want.topic), next, first));
    }
    tracing::warn!(entity = %want.entity, gone, "messages were gone before they were read");
    Ok(u64::try_from(gone).unwrap_or(0))
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
    use crate::log::Arrived;

    #[test]
    fn what_a_page_passed_over_is_told_with_what_it_passed_over_at_its_end() {
        let arrived = |offset: &i64| Arrived { offset: *offset, ..Arrived::default() };
        let holes = |offsets: &[i64], end| {
            let messages = offsets.iter().map(arrived).collect();
            let next = BTreeMap::from([(ONLY, end)]);
            let holes = holes(3, &Brought { messages, next, ..Brought::default() });
            holes.into_iter().map(|hole| (hole.start, hole.end)).collect::<Vec<_>>()
        };
        assert!(holes(&[3, 4, 5], 6).is_empty());
        assert!(holes(&[], 3).is_empty());
        assert_eq!(holes(&[4, 5, 9], 10), [(3, 4), (6, 9)]);
        assert_eq!(holes(&[3], 8), [(4, 8)]);
        assert_eq!(holes(&[], 8), [(3, 8)]);
    }
}

//! JetStream's API: one way to ask, one way to say what went wrong.
//!
//! In a cluster a list has only what its servers tell: what they do not tell stands in it by name.

use alluvium_model::BusError;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, Info, RawMessage};
use async_nats::jetstream::{Error, ErrorCode};
use async_nats::jetstream::{consumer, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::calls;

/// The code of who is to ask again later.
const TOO_MANY: usize = 429;

/// Why a request was not fulfilled.
#[derive(Debug)]
pub(super) enum Failure {
    /// JetStream refused it.
    Refused(Error),
    /// There was no answer, or none that could be read.
    Away(BusError),
}

impl Failure {
    pub(super) fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Refused(error) if error.error_code() == code)
    }
}

impl From<Failure> for BusError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => refused(&error),
            Failure::Away(error) => error,
        }
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::Away(error)
    }
}

/// What an error of JetStream means. A cluster in which servers are away says so in many ways, and
/// goes on when they are back.
pub(super) fn refused(error: &Error) -> BusError {
    let text = format!("JetStream: {error}");
    match error.error_code() {
        ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STREAM_STORE_FAILED => BusError::Full(text),
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            BusError::Refused(format!("{text}; enable it for the account that alluvium uses"))
        }
        // What the settings have cannot be here; in part these are of the server's own kind, too.
        ErrorCode::STREAM_INVALID_CONFIG
        | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
        | ErrorCode::STREAM_SUBJECT_OVERLAP
        | ErrorCode::STREAM_MAX_BYTES_REQUIRED
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => BusError::Refused(text),
        // Of the servers that the stream needs, some are away.
        ErrorCode::CLUSTER_NO_PEERS => BusError::Unavailable(text),
        _ if error.code() >= 500 || error.code() == TOO_MANY => BusError::Unavailable(text),
        _ => BusError::Rejected(text),
    }
}

#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

#[derive(Deserialize)]
struct StreamPage {
    total: usize,
    streams: Option<Vec<Info>>,
    missing: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ConsumerPage {
    total: usize,
    consumers: Option<Vec<consumer::Info>>,
    missing: Option<Vec<String>>,
}

/// What there is.
#[derive(Debug)]
pub(super) struct Listed<T> {
    /// As its servers tell it.
    pub(super) found: Vec<T>,
    /// The names of those whose servers do not answer.
    pub(super) away: Vec<String>,
}

impl<T> Listed<T> {
    fn new() -> Self {
        Self { found: Vec::new(), away: Vec::new() }
    }

    fn len(&self) -> usize {
        self.found.len() + self.away.len()
    }

    /// Takes up one page; whether it is the last of `total`.
    fn add(&mut self, found: Option<Vec<T>>, away: Option<Vec<String>>, total: usize) -> bool {
        let before = self.len();
        self.found.extend(found.unwrap_or_default());
        self.away.extend(away.unwrap_or_default());
        self.len() == before || self.len() >= total
    }
}

/// A request, answered.
pub(super) async fn ask<T: DeserializeOwned>(
    js: &Context,
    subject: String,
    body: &Value,
) -> Result<T, Failure> {
    let error = match calls::within(&js.client(), js.request(subject, body)).await? {
        Ok(Response::Ok(answer)) => return Ok(answer),
        Ok(Response::Err { error }) => return Err(Failure::Refused(error)),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            "it starts, or is not enabled".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Err(BusError::Unavailable(format!("JetStream does not answer: {error}")).into())
}

fn known<T>(answer: Result<T, Failure>, missing: ErrorCode) -> Result<Option<T>, BusError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is(missing) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// A stream, if there is one of that name.
pub(super) async fn stream(js: &Context, name: &str) -> Result<Option<Info>, BusError> {
    let answer = ask(js, format!("STREAM.INFO.{name}"), &json!({})).await;
    known(answer, ErrorCode::STREAM_NOT_FOUND)
}

/// Makes a stream.
pub(super) async fn create(js: &Context, config: &Config) -> Result<Info, Failure> {
    let name = &config.name;
    ask(js, format!("STREAM.CREATE.{name}"), &json!(config)).await
}

/// Alters a stream.
pub(super) async fn update(js: &Context, config: &Config) -> Result<Info, BusError> {
    let name = &config.name;
    Ok(ask(js, format!("STREAM.UPDATE.{name}"), &json!(config)).await?)
}

/// All streams that take `subject`.
pub(super) async fn streams(js: &Context, subject: &str) -> Result<Listed<Info>, BusError> {
    let mut all = Listed::new();
    loop {
        let body = json!({ "offset": all.len(), "subject": subject });
        let page: StreamPage = ask(js, "STREAM.LIST".to_owned(), &body).await?;
        if all.add(page.streams, page.missing, page.total) {
            return Ok(all);
        }
    }
}

/// The message at `sequence`, if it is there.
pub(super) async fn message(
    js: &Context,
    stream: &str,
    sequence: u64,
) -> Result<Option<StreamMessage>, BusError> {
    get(js, stream, &json!({ "seq": sequence })).await
}

/// The last message of a subject, if there is one.
pub(super) async fn last_message(
    js: &Context,
    stream: &str,
    subject: &str,
) -> Result<Option<StreamMessage>, BusError> {
    get(js, stream, &json!({ "last_by_subj": subject })).await
}

/// The first message of a subject from `sequence` on, if there is one.
pub(super) async fn next_message(
    js: &Context,
    stream: &str,
    subject: &str,
    sequence: u64,
) -> Result<Option<StreamMessage>, BusError> {
    get(js, stream, &json!({ "seq": sequence, "next_by_subj": subject })).await
}

async fn get(js: &Context, stream: &str, body: &Value) -> Result<Option<StreamMessage>, BusError> {
    let answer = ask::<Got>(js, format!("STREAM.MSG.GET.{stream}"), body).await;
    let Some(got) = known(answer, ErrorCode::NO_MESSAGE_FOUND)? else { return Ok(None) };
    let at = got.message.sequence;
    let read = StreamMessage::try_from(got.message);
    read.map(Some).map_err(|_| BusError::Corrupt(format!("stream {stream}: message {at}")))
}

/// Removes all messages up to `offset`, which must be above 0.
pub(super) async fn purge(js: &Context, stream: &str, offset: u64) -> Result<(), BusError> {
    let body = json!({ "seq": offset + 1 });
    let answer: stream::PurgeResponse = ask(js, format!("STREAM.PURGE.{stream}"), &body).await?;
    tracing::debug!(stream, offset, messages = answer.purged, "removed what retention lets go");
    Ok(())
}

/// All consumers of a stream.
pub(super) async fn consumers(
    js: &Context,
    stream: &str,
) -> Result<Listed<consumer::Info>, BusError> {
    let mut all = Listed::new();
    loop {
        let body = json!({ "offset": all.len() });
        let page: ConsumerPage = ask(js, format!("CONSUMER.LIST.{stream}"), &body).await?;
        if all.add(page.consumers, page.missing, page.total) {
            return Ok(all);
        }
    }
}

/// Makes a durable consumer.
pub(super) async fn create_consumer(
    js: &Context,
    stream: &str,
    name: &str,
    config: Value,
) -> Result<consumer::Info, BusError> {
    let body = json!({ "stream_name": stream, "config": config });
    Ok(ask(js, format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), &body).await?)
}

/// Removes a consumer, if it is there.
pub(super) async fn delete_consumer(
    js: &Context,
    stream: &str,
    name: &str,
) -> Result<(), BusError> {
    let answer = ask::<Value>(js, format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await;
    known(answer, ErrorCode::CONSUMER_NOT_FOUND).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as a server sends it.
    fn error(code: usize, kind: ErrorCode) -> Error {
        let said = json!({ "code": code, "err_code": kind, "description": "as it says" });
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn what_a_cluster_says_while_servers_are_away_passes() {
        for (code, kind) in [
            (500, ErrorCode::STREAM_OFFLINE),
            (500, ErrorCode::CONSUMER_OFFLINE),
            (500, ErrorCode::STREAM_OFFLINE_REASON),
            (500, ErrorCode::CLUSTER_NOT_LEADER),
            (503, ErrorCode::CLUSTER_NOT_AVAILABLE),
            (500, ErrorCode::RAFT_GENERAL),
            (500, ErrorCode::STREAM_GENERALOR),
            (400, ErrorCode::CLUSTER_NO_PEERS),
            (429, ErrorCode::STREAM_TOO_MANY_REQUESTS),
            (504, ErrorCode::default()),
        ] {
            let meant = refused(&error(code, kind));
            assert!(matches!(meant, BusError::Unavailable(_)), "{code} {kind:?}: {meant:?}");
        }
    }

    #[test]
    fn what_no_waiting_helps_against_stops() {
        for (code, kind) in [
            (400, ErrorCode::STREAM_SUBJECT_OVERLAP),
            (400, ErrorCode::STREAM_MAX_BYTES_REQUIRED),
            (500, ErrorCode::STREAM_INVALID_CONFIG),
            (500, ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED),
            (503, ErrorCode::JETSTREAM_NOT_ENABLED),
            (503, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT),
        ] {
            let meant = refused(&error(code, kind));
            assert!(matches!(meant, BusError::Refused(_)), "{code} {kind:?}: {meant:?}");
        }
        for (code, kind) in [
            (400, ErrorCode::BAD_REQUEST),
            (404, ErrorCode::STREAM_NOT_FOUND),
            (400, ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM),
        ] {
            let meant = refused(&error(code, kind));
            assert!(matches!(meant, BusError::Rejected(_)), "{code} {kind:?}: {meant:?}");
        }
        for (code, kind) in [
            (500, ErrorCode::STORAGE_RESOURCES_EXCEEDED),
            (503, ErrorCode::INSUFFICIENT_RESOURCES),
            (503, ErrorCode::STREAM_STORE_FAILED),
        ] {
            let meant = refused(&error(code, kind));
            assert!(matches!(meant, BusError::Full(_)), "{code} {kind:?}: {meant:?}");
        }
    }

    #[test]
    fn a_list_is_whole_when_all_are_told_or_named() {
        let away = |name: &str| Some(vec![name.to_owned()]);
        let mut all = Listed::new();
        assert!(!all.add(Some(vec![1, 2]), away("a"), 5));
        assert!(all.add(Some(vec![3]), away("b"), 5));
        assert_eq!((all.found, all.away), (vec![1, 2, 3], vec!["a".to_owned(), "b".to_owned()]));
        assert!(Listed::<u8>::new().add(None, None, 7), "a page without any is the last");
    }
}

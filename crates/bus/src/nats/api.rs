//! JetStream's API: one way to ask, one way to say what went wrong.

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

/// Why a request was not fulfilled.
#[derive(Debug)]
pub(super) enum Failure {
    /// JetStream refused it.
    Refused(Error),
    /// There was no answer, or none that could be read.
    Away(String),
}

impl Failure {
    fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Refused(error) if error.error_code() == code)
    }
}

impl From<Failure> for BusError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => refused(&error),
            Failure::Away(text) => BusError::Unavailable(text),
        }
    }
}

/// What an error of JetStream means.
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
        _ if error.code() == 503 || error.code() == 504 => BusError::Unavailable(text),
        _ => BusError::Refused(text),
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
}

#[derive(Deserialize)]
struct ConsumerPage {
    total: usize,
    consumers: Option<Vec<consumer::Info>>,
}

/// A request, answered.
pub(super) async fn ask<T: DeserializeOwned>(
    js: &Context,
    subject: String,
    body: &Value,
) -> Result<T, Failure> {
    match js.request(subject, body).await {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) => Err(Failure::Refused(error)),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            Err(Failure::Away("JetStream does not answer: it starts, or is not enabled".to_owned()))
        }
        Err(error) => Err(Failure::Away(format!("JetStream does not answer: {error}"))),
    }
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

/// Makes a stream. `None` if there is one of that name by now, made otherwise.
pub(super) async fn create(js: &Context, config: &Config) -> Result<Option<Info>, BusError> {
    let name = &config.name;
    let answer = ask(js, format!("STREAM.CREATE.{name}"), &json!(config)).await;
    known(answer, ErrorCode::STREAM_NAME_EXIST)
}

/// Alters a stream.
pub(super) async fn update(js: &Context, config: &Config) -> Result<Info, BusError> {
    let name = &config.name;
    Ok(ask(js, format!("STREAM.UPDATE.{name}"), &json!(config)).await?)
}

/// All streams that take `subject`.
pub(super) async fn streams(js: &Context, subject: &str) -> Result<Vec<Info>, BusError> {
    let mut all = Vec::new();
    loop {
        let body = json!({ "offset": all.len(), "subject": subject });
        let page: StreamPage = ask(js, "STREAM.LIST".to_owned(), &body).await?;
        let streams = page.streams.unwrap_or_default();
        let is_last = streams.is_empty();
        all.extend(streams);
        if is_last || all.len() >= page.total {
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
pub(super) async fn consumers(js: &Context, stream: &str) -> Result<Vec<consumer::Info>, BusError> {
    let mut all = Vec::new();
    loop {
        let body = json!({ "offset": all.len() });
        let page: ConsumerPage = ask(js, format!("CONSUMER.LIST.{stream}"), &body).await?;
        let consumers = page.consumers.unwrap_or_default();
        let is_last = consumers.is_empty();
        all.extend(consumers);
        if is_last || all.len() >= page.total {
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

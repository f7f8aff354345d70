//! Every call to the server goes through here: it ends in time, and none is begun while there is no
//! connection.
//!
//! While the client connects anew it keeps what it is given, until its queue is full. Whoever gives it
//! more then waits without end, whatever time a request has for its answer; and what was given up
//! long ago is sent all the same when the server is back.

use std::fmt::Display;
use std::time::Duration;

use alluvium_model::BusError;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::publish::PublishAck;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;

use super::connect::REQUEST_TIMEOUT;

/// So long a connection that broke may take to come back until who asks is told: a server that is
/// started anew is there again by then.
const FLAP: Duration = Duration::from_secs(3);
/// How often it is looked whether it is back.
const LOOK: Duration = Duration::from_millis(20);

/// What `call` comes to. [`BusError::Unavailable`] if there is no connection, or no end in time.
pub(super) fn within<T>(
    client: &Client,
    call: impl Future<Output = T>,
) -> impl Future<Output = Result<T, BusError>> {
    bounded(move || client.connection_state() == State::Connected, call)
}

/// The same of a call that fails only where there is no way to the server.
pub(super) async fn sent<T, E: Display>(
    client: &Client,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, BusError> {
    let away = |error: E| BusError::Unavailable(format!("nothing was sent to NATS: {error}"));
    within(client, call).await?.map_err(away)
}

/// A message, acknowledged; or why the server did not take it.
pub(super) async fn publish(
    js: &Context,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<Result<PublishAck, PublishError>, BusError> {
    let publishing = async {
        match js.publish_with_headers(subject, headers, payload).await {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        }
    };
    within(&js.client(), publishing).await
}

async fn bounded<T>(
    is_connected: impl Fn() -> bool,
    call: impl Future<Output = T>,
) -> Result<T, BusError> {
    let connecting = async {
        while !is_connected() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(FLAP, connecting).await.is_err() {
        return Err(BusError::Unavailable("there is no connection to NATS".to_owned()));
    }
    let silent = |_| {
        let seconds = REQUEST_TIMEOUT.as_secs();
        BusError::Unavailable(format!("NATS did not answer within {seconds} s"))
    };
    tokio::time::timeout(REQUEST_TIMEOUT, call).await.map_err(silent)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn nothing_is_asked_while_there_is_no_connection() {
        let asked = Cell::new(false);
        let refused = bounded(|| false, async { asked.set(true) }).await;
        assert!(
            matches!(&refused, Err(BusError::Unavailable(text)) if text.contains("no connection")),
            "{refused:?}"
        );
        assert!(!asked.get());
    }

    #[tokio::test]
    async fn a_connection_that_comes_back_at_once_is_waited_for() {
        let looked = Cell::new(0);
        let is_connected = || looked.replace(looked.get() + 1) > 0;
        assert_eq!(bounded(is_connected, async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_call_without_an_end_is_given_up() {
        let given_up = bounded(|| true, std::future::pending::<()>()).await;
        assert!(
            matches!(&given_up, Err(BusError::Unavailable(text)) if text.contains("did not answer")),
            "{given_up:?}"
        );
    }
}

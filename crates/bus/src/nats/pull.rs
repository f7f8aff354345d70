//! One request for messages: bounded by count and bytes, it stands at the server until it is
//! fulfilled or its time is over.
//!
//! What comes meanwhile waits in the inbox, so whoever stops listening in the middle misses nothing
//! when it listens again.

use std::time::{Duration, Instant};

use alluvium_model::BusError;
use async_nats::{Message, Subscriber};
use futures::StreamExt as _;
use serde_json::json;

use super::version::LEAST_PAYLOAD;
use super::{LARGEST_MESSAGE, Shared, calls};

/// So long a request stands.
const EXPIRES: Duration = Duration::from_secs(10);
/// Without an answer so long after that, the request was lost.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is still the one that the request went over.
const LOOK: Duration = Duration::from_millis(500);
/// So many bytes a request asks for at most: what exceeds 64 MB never comes.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// So many at least: any message that is no single large record.
pub(super) const LEAST_BYTES: usize = LEAST_PAYLOAD;
const SILENT: &str = "the server does not answer for it";

/// How much a request may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    messages: usize,
    bytes: usize,
}

impl Bound {
    /// Messages of so many bytes, and fewer than an inbox holds.
    pub(super) fn of(bytes: usize) -> Self {
        Self { messages: 2000, bytes }
    }

    /// One message, however large.
    pub(super) fn one() -> Self {
        Self { messages: 1, bytes: LARGEST_MESSAGE + (1 << 20) }
    }
}

/// A request that stands.
pub(super) struct Pull {
    inbox: Subscriber,
    bound: Bound,
    got: usize,
    connection: u64,
    asked: Instant,
}

/// What came of it.
pub(super) enum Came {
    /// A message.
    Message(Box<Message>),
    /// Nothing more: fulfilled, or out of time.
    Over,
    /// The next message is larger than what was asked for.
    TooLarge,
    /// The server does not know the consumer, or does not answer for it.
    NoConsumer(String),
}

impl Pull {
    pub(super) async fn ask(
        shared: &Shared,
        stream: &str,
        consumer: &str,
        bound: Bound,
    ) -> Result<Self, BusError> {
        let client = &shared.client;
        let reply = client.new_inbox();
        let inbox = calls::sent(client, client.subscribe(reply.clone())).await?;
        let (connection, asked) = (connection(shared), shared.clock.instant());
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let body = json!({ "batch": bound.messages, "max_bytes": bound.bytes, "expires": expires });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let asking = client.publish_with_reply(subject, reply, body.to_string().into());
        calls::sent(client, asking).await?;
        Ok(Self { inbox, bound, got: 0, connection, asked })
    }

    /// What comes next. May be dropped and called again.
    pub(super) async fn next(&mut self, shared: &Shared) -> Came {
        loop {
            if self.got >= self.bound.messages {
                return Came::Over;
            }
            match tokio::time::timeout(LOOK, self.inbox.next()).await {
                Ok(Some(message)) => {
                    if let Some(came) = self.came(message) {
                        return came;
                    }
                }
                Ok(None) => return Came::Over,
                // A server of 2.9 says nothing where there is no such consumer.
                Err(_) if self.is_lost(shared) => return Came::NoConsumer(SILENT.to_owned()),
                Err(_) => {}
            }
        }
    }

    fn is_lost(&self, shared: &Shared) -> bool {
        self.connection != connection(shared) || shared.clock.since(self.asked) > EXPIRES + GRACE
    }

    /// `None` for what says nothing.
    fn came(&mut self, message: Message) -> Option<Came> {
        let Some(status) = message.status.filter(|status| status.as_u16() != 200) else {
            self.got += 1;
            return Some(Came::Message(Box::new(message)));
        };
        let said = message.description.unwrap_or_default();
        match status.as_u16() {
            100 => None,
            409 if said.contains("Size Exceeds") && self.got == 0 => Some(Came::TooLarge),
            409 if said.to_ascii_lowercase().contains("deleted") => Some(Came::NoConsumer(said)),
            503 => Some(Came::NoConsumer(SILENT.to_owned())),
            _ => Some(Came::Over),
        }
    }
}

/// Which connection this is: a new one knows nothing of what was asked over the last.
fn connection(shared: &Shared) -> u64 {
    shared.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
}

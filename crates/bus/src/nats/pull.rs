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

use super::{Shared, calls};

/// So long a request stands.
const EXPIRES: Duration = Duration::from_secs(10);
/// Without an answer so long after that, the request was lost.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is still the one that the request went over.
const LOOK: Duration = Duration::from_millis(500);
/// So many messages a request brings at most: fewer than an inbox holds.
const MOST: usize = 2000;
const SILENT: &str = "the server does not answer for it";

/// A request that stands.
pub(super) struct Pull {
    inbox: Subscriber,
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
        bytes: usize,
    ) -> Result<Self, BusError> {
        let client = &shared.client;
        let reply = client.new_inbox();
        let inbox = calls::sent(client, client.subscribe(reply.clone())).await?;
        let (connection, asked) = (connection(shared), shared.clock.instant());
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let body = json!({ "batch": MOST, "max_bytes": bytes, "expires": expires });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let asking = client.publish_with_reply(subject, reply, body.to_string().into());
        calls::sent(client, asking).await?;
        Ok(Self { inbox, got: 0, connection, asked })
    }

    /// What comes next. May be dropped and called again.
    pub(super) async fn next(&mut self, shared: &Shared) -> Came {
        loop {
            if self.got >= MOST {
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

//! In the background: how the topics stand on the server, every few seconds, and what retention
//! lets go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use alluvium_model::{BusError, EntityId};
use async_nats::jetstream::stream::Info;

use super::api::Listed;
use super::headers;
use super::publish::room;
use super::topic::Topic;
use super::{Shared, api, retention, streams};

const EVERY: Duration = Duration::from_secs(5);
/// What looks at many messages comes less often: once in so many times.
const SELDOM: u32 = 6;

/// What became of each topic: one that fails keeps no other from its turn.
pub(super) type Done = Vec<(EntityId, Result<(), BusError>)>;

/// Goes on until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let (mut looked, mut retained) = (Warned::default(), Warned::default());
    for round in 1_u32.. {
        tokio::time::sleep(EVERY).await;
        let is_seldom = round.is_multiple_of(SELDOM);
        match once(&shared, is_seldom).await {
            Ok(done) => looked.tell(done, "NATS did not tell how a topic stands"),
            Err(error) => {
                tracing::debug!(%error, "NATS did not tell how the topics stand");
                continue;
            }
        }
        if is_seldom {
            retained.tell(retain(&shared).await, "retention could not remove what it may");
        }
    }
}

/// The topics of which it was warned: once each, until it goes right again.
#[derive(Default)]
struct Warned(HashSet<EntityId>);

impl Warned {
    fn tell(&mut self, done: Done, what: &str) {
        for (topic, done) in done {
            let is_news = self.is_news(&topic, done.is_err());
            match done {
                Err(error) if is_news => tracing::warn!(%topic, %error, "{what}"),
                Err(error) => tracing::debug!(%topic, %error, "{what}"),
                Ok(()) => {}
            }
        }
    }

    /// Whether a topic fails that did not fail the last time.
    fn is_news(&mut self, topic: &EntityId, fails: bool) -> bool {
        match fails {
            true => self.0.insert(topic.clone()),
            false => {
                self.0.remove(topic);
                false
            }
        }
    }
}

pub(super) async fn retain(shared: &Shared) -> Done {
    let mut done = Vec::new();
    for topic in shared.known() {
        let retained = retention::retain(shared, &topic).await;
        done.push((topic.id.clone(), retained));
    }
    done
}

/// Asks how the topics stand, and what waits for the layers that read them here; or for `all` that
/// ever did, most of which read them elsewhere by now.
pub(super) async fn once(shared: &Shared, all: bool) -> Result<Done, BusError> {
    let known = shared.known();
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let Listed { found, away } = shared.streams_of_topics().await?;
    let found: HashMap<&str, &Info> = found.iter().map(|i| (i.config.name.as_str(), i)).collect();
    let away: HashSet<String> = away.into_iter().collect();
    let mut done = Vec::new();
    for topic in known {
        let looked = match away.contains(&topic.stream) {
            true => Err(BusError::Unavailable(format!(
                "the servers that have stream {} do not answer",
                topic.stream
            ))),
            false => look(shared, &topic, found.get(topic.stream.as_str()).copied(), all).await,
        };
        done.push((topic.id.clone(), looked));
    }
    Ok(done)
}

/// Takes up how one topic stands, by what a list has of its stream.
async fn look(
    shared: &Shared,
    topic: &Arc<Topic>,
    listed: Option<&Info>,
    all: bool,
) -> Result<(), BusError> {
    match listed.filter(|info| streams::epoch(info) == topic.epoch) {
        Some(info) => topic.saw(info),
        // A list may lack what is there. What is gone is forgotten: whoever uses the topic next finds
        // another epoch.
        None if shared.same(topic).await?.is_none() => return Ok(()),
        None => {}
    }
    look_at_messages(shared, topic, all).await
}

/// What only messages tell.
async fn look_at_messages(shared: &Shared, topic: &Topic, all: bool) -> Result<(), BusError> {
    room::ask_what_landed(shared, topic).await?;
    let (js, stream, subject) = (&shared.js, &topic.stream, &topic.subject);
    if topic.needs_totals(all)
        && let Some(last) = api::last_message(js, stream, subject).await?
    {
        topic.is_sure_of(last.sequence);
        let known = topic.known_totals(last.sequence);
        let totals = shared.totals_with(stream, &last, known).await?;
        topic.saw_totals(last.sequence, totals);
    }
    for after in topic.unasked(all) {
        // Not what should come next, but what does: the server may have dropped it already.
        let next = api::next_message(js, stream, subject, after + 1).await?;
        let next_at_us = next.map(|m| headers::published_at_us(Some(&m.headers), m.time));
        topic.asked(after, next_at_us);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_topic_that_fails_it_is_warned_once_until_it_goes_right() {
        let [orders, items]: [EntityId; 2] =
            ["shop.orders", "shop.items"].map(|t| t.parse().unwrap());
        let mut warned = Warned::default();
        assert!(warned.is_news(&orders, true));
        assert!(!warned.is_news(&orders, true));
        assert!(warned.is_news(&items, true), "each topic is told");
        assert!(!warned.is_news(&orders, false));
        assert!(warned.is_news(&orders, true), "it went right meanwhile");
    }
}

//! The durable consumer of a reader: named by layer and token, so that of two owners the younger
//! stays, and the older one is told.

use std::time::Duration;

use alluvium_model::{BusError, Layer};
use async_nats::jetstream::consumer;
use serde_json::json;

use super::super::api::{self, Listed};
use super::super::topic::first_after;
use super::NatsSubscriber;

/// What is not acknowledged is not sent again by itself: a layer asks for what it needs.
const ACK_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const PAUSE: Duration = Duration::from_millis(200);

impl NatsSubscriber {
    /// Makes a consumer that begins after what came, and takes those away that older owners have.
    pub(super) async fn stand(&mut self) -> Result<String, BusError> {
        let info = self.shared.still(&self.topic).await?;
        self.topic.check_there(self.head(), first_after(&info))?;
        let unique = self.shared.client.new_inbox();
        let unique = unique.rsplit('.').next().unwrap_or_default();
        let name = format!("{}-{}-{unique}", self.layer, self.owner.0);
        let config = json!({
            "durable_name": name,
            "description": format!("alluvium: layer {} of {}", self.layer, self.topic.id),
            "deliver_policy": "by_start_sequence", "opt_start_seq": self.head() + 1,
            "ack_policy": "all", "ack_wait": u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX),
            "max_ack_pending": -1, "max_deliver": -1, "replay_policy": "instant",
        });
        let (js, stream) = (&self.shared.js, &self.topic.stream);
        let mine = api::create_consumer(js, stream, &name, config).await?;
        self.take_over(&mine).await?;
        self.consumer = Some(name.clone());
        Ok(name)
    }

    /// Of all readers of the layer only the youngest stays: that of the highest token, and among
    /// those the one that came last.
    async fn take_over(&self, mine: &consumer::Info) -> Result<(), BusError> {
        let (js, stream) = (&self.shared.js, &self.topic.stream);
        for other in self.readers().await?.found {
            if other.name == mine.name {
                continue;
            }
            let token = token(&other.name, self.layer).unwrap_or(0);
            if token > self.owner.0 {
                api::delete_consumer(js, stream, &mine.name).await?;
                return Err(self.superseded(&other.name));
            }
            if token < self.owner.0 || other.created <= mine.created {
                api::delete_consumer(js, stream, &other.name).await?;
            }
        }
        Ok(())
    }

    /// The consumers of this layer.
    async fn readers(&self) -> Result<Listed<consumer::Info>, BusError> {
        let mut all = api::consumers(&self.shared.js, &self.topic.stream).await?;
        all.found.retain(|consumer| token(&consumer.name, self.layer).is_some());
        Ok(all)
    }

    fn superseded(&self, by: &str) -> BusError {
        BusError::Unavailable(format!(
            "another process has taken over the {} layer of topic {}, as consumer {by}",
            self.layer, self.topic.id
        ))
    }

    /// The consumer is gone, or the server is not there yet after a restart.
    pub(super) async fn without_consumer(&mut self, why: &str) -> Result<(), BusError> {
        self.pull = None;
        self.shared.still(&self.topic).await?;
        let mine = self.consumer.clone().unwrap_or_default();
        let readers = self.readers().await?;
        // Those who have it may be choosing who leads.
        let is_away = readers.away.contains(&mine);
        if is_away || readers.found.iter().any(|reader| reader.name == mine) {
            tokio::time::sleep(PAUSE).await;
            return Ok(());
        }
        self.consumer = None;
        match readers.found.first() {
            Some(other) => Err(self.superseded(&other.name)),
            None => {
                tracing::warn!(topic = %self.topic.id, layer = %self.layer, why, "a consumer is gone");
                Ok(())
            }
        }
    }
}

/// The token in the name of a consumer, if it is one of `layer`.
fn token(name: &str, layer: Layer) -> Option<u64> {
    name.strip_prefix(layer.as_str())?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_tells_its_layer_and_token() {
        assert_eq!(token("raw-17-abc", Layer::Raw), Some(17));
        assert_eq!(token("raw-17-abc", Layer::Bronze), None);
        assert_eq!(token("dashboard", Layer::Raw), None);
    }
}

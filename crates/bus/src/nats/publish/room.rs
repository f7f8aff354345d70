//! Room for a page: no more waits for raw than may, and the store takes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_model::BusError;
use tokio::sync::watch;

use super::super::topic::Topic;
use super::super::{Shared, records, retention};

/// How often a publisher that waits for room asks whether raw has landed in another process.
const ASK: Duration = Duration::from_secs(1);
/// So long it waits in silence.
const SILENT: Duration = Duration::from_secs(5);
/// How often it says that it waits, from then on.
const TELL: Duration = Duration::from_secs(30);

/// Waits until no more waits for raw than may. Raw may land in this process or in another one.
pub(super) async fn wait_for(
    shared: &Shared,
    topic: &Arc<Topic>,
    bytes: u64,
) -> Result<(), BusError> {
    let mut waiting = Waiting::new(shared, topic);
    while !topic.has_room(bytes, shared.settings.max_unlanded_bytes) {
        waiting.step().await?;
    }
    Ok(())
}

/// A publisher that waits until raw has landed more.
struct Waiting<'a> {
    shared: &'a Shared,
    topic: &'a Arc<Topic>,
    landed: watch::Receiver<u64>,
    since: Instant,
    telling: Telling,
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, topic: &'a Arc<Topic>) -> Self {
        let (landed, since) = (topic.landed.subscribe(), shared.clock.instant());
        Self { shared, topic, landed, since, telling: Telling::default() }
    }

    /// Waits for a moment, in which raw may land more in this process; otherwise asks whether it has
    /// in another one. Whether it has landed more here.
    async fn step(&mut self) -> Result<bool, BusError> {
        if tokio::time::timeout(ASK, self.landed.changed()).await.is_ok() {
            return Ok(true);
        }
        self.tell();
        match self.ask().await {
            // Whoever waits need not know: it is asked again.
            Err(BusError::Unavailable(why)) => {
                tracing::debug!(topic = %self.topic.id, why, "how far raw has landed could not be asked");
            }
            asked => asked?,
        }
        Ok(false)
    }

    async fn ask(&self) -> Result<(), BusError> {
        ask_what_landed(self.shared, self.topic).await?;
        self.shared.still(self.topic).await.map(drop)
    }

    fn tell(&mut self) {
        let waited = self.shared.clock.since(self.since);
        if self.telling.is_due(waited) {
            tracing::warn!(
                topic = %self.topic.id,
                bytes = self.topic.unlanded_bytes(),
                landed = self.topic.landed(),
                seconds = waited.as_secs(),
                "a publisher waits for raw; is a worker running that lands raw?"
            );
        }
    }
}

/// When a publisher that waits says so next: after so long.
struct Telling(Duration);

impl Default for Telling {
    fn default() -> Self {
        Self(SILENT)
    }
}

impl Telling {
    fn is_due(&mut self, waited: Duration) -> bool {
        let is_due = waited >= self.0;
        if is_due {
            self.0 = waited + TELL;
        }
        is_due
    }
}

/// Takes up how far raw has landed, as the server knows it.
pub(in super::super) async fn ask_what_landed(
    shared: &Shared,
    topic: &Topic,
) -> Result<(), BusError> {
    let stored = records::landed(&shared.js, &shared.names, &topic.id).await?;
    if let Some(record) = stored.map(|s| s.value).filter(|l| l.epoch == topic.epoch) {
        topic.raw_landed(record);
    }
    Ok(())
}

/// Lets go what raw has landed; where that is nothing, waits until it lands more. Where it has landed
/// everything, others fill the store, of which `error` tells.
pub(super) async fn make(
    shared: &Shared,
    topic: &Arc<Topic>,
    error: BusError,
) -> Result<(), BusError> {
    let mut waiting = Waiting::new(shared, topic);
    ask_what_landed(shared, topic).await?;
    let info = shared.still(topic).await?;
    if retention::let_go(shared, topic, &info).await? {
        return Ok(());
    }
    if topic.landed() >= info.state.last_sequence || info.config.max_bytes <= 0 {
        return Err(error);
    }
    tracing::warn!(topic = %topic.id, "the topic's stream is full; waiting for raw");
    while !waiting.step().await? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_says_so_after_a_while_and_then_now_and_again() {
        let mut telling = Telling::default();
        let said: Vec<u64> =
            (0..100).filter(|second| telling.is_due(Duration::from_secs(*second))).collect();
        assert_eq!(said, [5, 35, 65, 95]);
    }
}

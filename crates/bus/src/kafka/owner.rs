//! The polled pages of one entity: each in one transaction with its cursor record.
//!
//! Kafka lets one producer at a time have a transactional id, and there is one id per entity. Who
//! takes it over rolls back what its predecessor left open and fences it, and only then reads the
//! cursor record: from then on nobody else can write one. It is taken over once for each fencing
//! token, so that a predecessor that was fenced does not take it back. Who let it go because he had
//! nothing to publish takes it up again if nobody has published since.

use alluvium_model::port::Published;
use alluvium_model::{BusError, CursorRecord, EncodedPage, FencingToken};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;

use super::cursors::Stored;
use super::mishap::{is_fenced, stopped, told};
use super::publish::{Client, drop_aside, refused, settle};
use super::shared::Shared;
use super::topic::Topic;
use super::transaction::{Ended, Failure, abort, commit, fill, reason};

/// A client that nobody has used for so many rounds of the keeper is ended.
const REST_ROUNDS: u32 = 12;

/// Whether this process has the transactional id of an entity.
#[derive(Default)]
pub(super) struct Owner {
    pub(super) client: Option<Client>,
    /// How many rounds of the keeper nobody has used the client.
    idle: u32,
    /// What was the last page when the client was ended because nobody used it.
    rests: Option<Last>,
    /// The token for which it was taken over last, also if it was lost since.
    token: Option<FencingToken>,
    /// Whether it is not known what became of the last page.
    unsure: bool,
}

/// Who published the last page that stands on the bus, and which one.
type Last = Option<(FencingToken, u64)>;

/// Publishes a page and its cursor record, in one transaction. Must not be dropped on its way.
pub(super) async fn publish(
    shared: &Shared,
    topic: &Topic,
    page: &EncodedPage,
    record: &CursorRecord,
) -> Result<Published, BusError> {
    let mut owner = topic.owner.lock().await;
    let _alone = topic.pages.write().await;
    let client = owner.ready(shared, topic, record).await?;
    let mut stored = follow(shared, topic, record);
    let ended = match fill(&client, shared, topic, page, &mut stored).await {
        Ok(offsets) => commit(&client, shared.settings.patience).await.map(|e| (e, offsets))?,
        Err(failure) => {
            let failure = reason(&client, shared.settings.patience, failure).await;
            return Err(owner.roll_back(shared, topic, page, record, failure).await);
        }
    };
    match ended {
        (Ended::Committed, offsets) => {
            let published_at_us = stored.published_at_us;
            shared.cursors.wrote(&topic.id, stored);
            let span = settle(shared, topic, page, &offsets, published_at_us).await?;
            Ok(Published { span })
        }
        (Ended::Failed(error), _) => {
            Err(owner.roll_back(shared, topic, page, record, Failure::Kafka(error)).await)
        }
        (Ended::Unknown(error), _) => {
            owner.unsure = true;
            owner.let_go();
            let doing = format!("publishing to {}; it may still become durable", topic.name);
            Err(told(&doing, &error))
        }
    }
}

/// The topic's cursor record. Where this process does not know what became of its last page, that is
/// settled first.
pub(super) async fn cursor(
    shared: &Shared,
    topic: &Topic,
) -> Result<Option<CursorRecord>, BusError> {
    let mut owner = topic.owner.lock().await;
    if owner.unsure {
        owner.take_over(shared, topic).await?;
    }
    drop(owner);
    shared.cursors.refresh(&shared.looker).await?;
    Ok(shared.cursors.cursor(&topic.id, topic.epoch).map(|last| last.record))
}

/// What is to be stored with a page that has no message yet: it goes on where the last one ended,
/// whoever published that.
fn follow(shared: &Shared, topic: &Topic, record: &CursorRecord) -> Stored {
    let last = shared.cursors.cursor(&topic.id, topic.epoch);
    topic.heard(last.as_ref().map_or(0, |last| last.published_at_us));
    Stored {
        epoch: topic.epoch,
        record: record.clone(),
        polled: last.as_ref().map_or(0, |last| last.polled),
        polled_at: last.and_then(|last| last.polled_at),
        published_at_us: topic.stamp(shared.now_us()),
    }
}

impl Owner {
    /// A client that has the transactional id, for the token of `record`.
    async fn ready(
        &mut self,
        shared: &Shared,
        topic: &Topic,
        record: &CursorRecord,
    ) -> Result<Client, BusError> {
        let anew = self.token != Some(record.token) || self.unsure;
        if anew || self.rests.is_some() {
            // Asked before, so that who comes too late fences nobody.
            shared.cursors.refresh(&shared.looker).await?;
            check(shared, topic, record)?;
            if !anew && self.rests != Some(last(shared, topic)) {
                return Err(fenced(shared, topic, record).await);
            }
            self.take_over(shared, topic).await?;
            self.token = Some(record.token);
        }
        self.idle = 0;
        check(shared, topic, record)?;
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => Err(fenced(shared, topic, record).await),
        }
    }

    /// Takes the transactional id over, and reads what was published until then.
    async fn take_over(&mut self, shared: &Shared, topic: &Topic) -> Result<(), BusError> {
        self.let_go();
        let doing = |e: &KafkaError| told(&format!("taking {} over", topic.name), e);
        let client: Client = shared
            .settings
            .transactions(&topic.name)
            .create_with_context(shared.context.clone())
            .map_err(|e| shared.context.refuses(&e))?;
        let (asking, patience) = (client.clone(), shared.settings.patience);
        let asked = tokio::task::spawn_blocking(move || asking.init_transactions(patience));
        if let Err(error) = asked.await.map_err(|e| stopped(&e))? {
            drop_aside(client);
            return Err(doing(&error));
        }
        self.client = Some(client);
        // Until it is known what was published, the next attempt asks again.
        (self.idle, self.rests, self.unsure) = (0, None, true);
        shared.cursors.refresh(&shared.looker).await?;
        self.unsure = false;
        Ok(())
    }

    /// Rolls a transaction back; what its publisher is told.
    async fn roll_back(
        &mut self,
        shared: &Shared,
        topic: &Topic,
        page: &EncodedPage,
        record: &CursorRecord,
        failure: Failure,
    ) -> BusError {
        let lost = matches!(&failure, Failure::Kafka(error) if is_fenced(error));
        let aborted = match &self.client {
            Some(client) if !lost => abort(client.clone(), shared.settings.patience).await,
            _ => Ok(()),
        };
        let lost = lost || aborted.as_ref().is_err_and(is_fenced);
        // librdkafka may tell the next transaction what went wrong with this one, so the next page
        // gets another client.
        self.let_go();
        if lost {
            return fenced(shared, topic, record).await;
        }
        self.unsure = true;
        match failure {
            Failure::Kafka(error) => refused(shared, topic, page, &error),
            Failure::Told(error) => error,
        }
    }

    /// Ends the client. The id is taken over anew when there is something to publish.
    pub(super) fn let_go(&mut self) {
        drop_aside(self.client.take());
    }

    /// One more round of the keeper. Ends a client that nobody has used for many. Rounds are counted,
    /// and no time, so that a process that was stopped does not count as one that had nothing to
    /// publish.
    pub(super) fn idles(&mut self, shared: &Shared, topic: &Topic) {
        self.idle = self.idle.saturating_add(1);
        if self.idle > REST_ROUNDS {
            self.rest(shared, topic);
        }
    }

    /// Ends the client until there is something to publish. Whose client it was stays known: it is not
    /// taken over anew by who was fenced meanwhile.
    pub(super) fn rest(&mut self, shared: &Shared, topic: &Topic) {
        if self.client.is_some() && !self.unsure {
            self.rests = Some(last(shared, topic));
            self.let_go();
        }
    }
}

fn last(shared: &Shared, topic: &Topic) -> Last {
    let last = shared.cursors.cursor(&topic.id, topic.epoch)?;
    Some((last.record.token, last.record.page))
}

/// [`BusError::Fenced`] if the page may not follow what stands on the bus.
fn check(shared: &Shared, topic: &Topic, record: &CursorRecord) -> Result<(), BusError> {
    match shared.cursors.cursor(&topic.id, topic.epoch) {
        Some(last) if !record.may_follow(Some(&last.record)) => Err(fenced_by(topic, &last.record)),
        _ => Ok(()),
    }
}

/// Somebody else has the id. What stands on the bus may not be theirs yet.
async fn fenced(shared: &Shared, topic: &Topic, record: &CursorRecord) -> BusError {
    if let Err(error) = shared.cursors.refresh(&shared.looker).await {
        tracing::debug!(%error, "who fenced a page could not be asked");
    }
    let last = shared.cursors.cursor(&topic.id, topic.epoch);
    fenced_by(topic, last.as_ref().map_or(record, |last| &last.record))
}

fn fenced_by(topic: &Topic, last: &CursorRecord) -> BusError {
    BusError::Fenced { topic: topic.id.clone(), token: last.token.0, page: last.page }
}

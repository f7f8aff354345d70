//! The poll loop: one entity, from its cursor until its source has no more.
//!
//! A page goes: source, bus, then the source's acknowledgement. Nothing is acknowledged that the
//! bus has not made durable, and where it is not known whether it did, the bus is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_ledger::LeaseName;
use alluvium_model::port::Published;
use alluvium_model::{
    BusError, Cursor, CursorRecord, EncodedPage, EntityId, EntitySpec, Ownership, Page, Position,
    Record, RunId,
};
use alluvium_wire::{PublishContext, encode_page};

use crate::context::Context;
use crate::error::PollError;
use crate::feed::{Feed, GaveUp, retry_after};
use crate::large::leave_out;
use crate::lease::{HeldLease, settled};
use crate::retry::Attempts;
use crate::topic;

/// How the id of a delivery begins that was a page with a cursor.
const POLLED: &str = "poll/";

/// The number of the page that a delivery's id tells; `None` if it was no such page.
pub fn polled_page(delivery: &str) -> Option<u64> {
    delivery.strip_prefix(POLLED)?.parse().ok()
}

/// How far a source was read. A record may also say to begin anew: its page number then keeps the
/// pages to come from being taken for those that were.
fn read_to(record: &CursorRecord) -> Option<&Cursor> {
    Some(&record.cursor).filter(|cursor| **cursor != Cursor::beginning())
}

/// What a run is to its polls.
#[derive(Debug, Clone)]
pub(crate) struct RunTag {
    pub(crate) run: RunId,
    pub(crate) traceparent: Option<String>,
}

/// How much was brought. It can still be read after the poll has panicked.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    polled: AtomicU64,
    published: AtomicU64,
    end: Mutex<Option<Position>>,
}

impl Tally {
    pub(crate) fn polled(&self) -> u64 {
        self.polled.load(Ordering::Relaxed)
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Where the last page ends on the topic.
    pub(crate) fn end(&self) -> Option<Position> {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_polled(&self, records: u64) {
        self.polled.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn add_published(&self, records: u64, to: &Published) {
        self.published.fetch_add(records, Ordering::Relaxed);
        let end = Position { epoch: to.span.epoch, offset: to.span.to, index: 0 };
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }
}

/// Polls an entity until there is no more. The tally counts what was brought also where it fails.
pub(crate) async fn poll_entity(
    context: &Arc<Context>,
    feed: &mut Feed,
    spec: &EntitySpec,
    tag: &RunTag,
    tally: &Tally,
) -> Result<(), GaveUp> {
    let lease = take_lease(context, &spec.id()).await?;
    let lost = lease.lost().clone();
    let mut poll = EntityPoll {
        context,
        feed,
        spec,
        id: spec.id(),
        tag,
        tally,
        lease: lease.ownership(),
        last: None,
        unnumbered: 0,
    };
    let result = tokio::select! {
        biased;
        () = lost.cancelled() => Err(GaveUp::at_once(PollError::LeaseLost)),
        result = poll.until_no_more() => result,
    };
    lease.release().await;
    result
}

async fn take_lease(context: &Arc<Context>, entity: &EntityId) -> Result<HeldLease, GaveUp> {
    let platform = &context.platform;
    let settings = &platform.settings;
    let mut attempts = Attempts::new(&settings.retry);
    loop {
        let name = LeaseName::poll(entity);
        let (ledger, clock) = (&platform.ledger, &platform.clock);
        match HeldLease::take(ledger, clock, name, &settings.holder, settings.lease_ttl).await {
            Ok(lease) => return Ok(lease),
            Err(error) => retry_after(&mut attempts, error, &context.stop.polls).await?,
        }
    }
}

struct EntityPoll<'a> {
    context: &'a Arc<Context>,
    feed: &'a mut Feed,
    spec: &'a EntitySpec,
    id: EntityId,
    tag: &'a RunTag,
    tally: &'a Tally,
    lease: Ownership,
    last: Option<CursorRecord>,
    /// Pages of this run that had no cursor.
    unnumbered: u64,
}

impl EntityPoll<'_> {
    async fn until_no_more(&mut self) -> Result<(), GaveUp> {
        self.find_cursor().await?;
        loop {
            if self.context.stop.polls.is_cancelled() {
                return Err(GaveUp::at_once(PollError::Stopped));
            }
            let page = self.next_page().await?;
            let more = page.more;
            let moved = self.land(page).await?;
            if !more {
                return Ok(());
            }
            if !moved {
                return Err(GaveUp::at_once(PollError::Stuck));
            }
        }
    }

    /// The bus knows how far was published; only where it knows nothing, the ledger's copy counts.
    /// What the bus has is acknowledged once more: a crash may have come in between.
    async fn find_cursor(&mut self) -> Result<(), GaveUp> {
        let mut attempts = Attempts::new(&self.context.platform.settings.retry);
        loop {
            match self.known_cursor().await {
                Ok(Some((record, on_bus))) => {
                    self.last = Some(record.clone());
                    if let Some(cursor) = read_to(&record).filter(|_| on_bus) {
                        self.acknowledge(cursor).await?;
                    }
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(error) => self.retry(&mut attempts, error).await?,
            }
        }
    }

    async fn known_cursor(&mut self) -> Result<Option<(CursorRecord, bool)>, PollError> {
        let platform = &self.context.platform;
        if let Some(record) = platform.publisher.cursor(&self.id).await? {
            return Ok(Some((record, true)));
        }
        topic::is_known::<PollError>(self.context, &self.id).await?;
        let copy = platform.ledger.cursor(&self.id).await?;
        if copy.is_some() {
            tracing::warn!(entity = %self.id, "the bus knows no cursor; the ledger's copy is used");
        }
        Ok(copy.map(|record| (record, false)))
    }

    async fn next_page(&mut self) -> Result<Page, GaveUp> {
        let cursor = self.last.as_ref().and_then(read_to).cloned();
        let mut attempts = Attempts::new(&self.context.platform.settings.retry);
        loop {
            let started = self.context.platform.clock.instant();
            match self.feed.poll(self.spec, cursor.as_ref()).await {
                Ok(page) => {
                    let took = self.context.platform.clock.since(started);
                    self.context.platform.metrics.polled(&self.id, page.records.len() as u64, took);
                    self.tally.add_polled(page.records.len() as u64);
                    return Ok(page);
                }
                Err(error) => self.retry(&mut attempts, error).await?,
            }
        }
    }

    /// Publishes a page and acknowledges it; whether the cursor moved.
    async fn land(&mut self, page: Page) -> Result<bool, GaveUp> {
        let before = self.last.as_ref().map(|last| &last.cursor);
        let moved = page.next.is_some() && page.next.as_ref() != before;
        if page.records.is_empty() && !moved {
            return Ok(false);
        }
        let cursor = page.next.or_else(|| before.cloned());
        let record = cursor
            .map(|cursor| CursorRecord::following(self.last.as_ref(), self.lease.token(), cursor));
        let encoded = self.encode(page.records, record.as_ref()).await?;
        self.publish(encoded, record.as_ref()).await?;
        if let Some(record) = record {
            self.last = Some(record.clone());
            if moved {
                self.acknowledge(&record.cursor).await?;
            }
            self.note_cursor(&record).await;
        }
        Ok(moved)
    }

    async fn encode(
        &mut self,
        records: Vec<Record>,
        record: Option<&CursorRecord>,
    ) -> Result<EncodedPage, GaveUp> {
        let context = PublishContext {
            entity: self.id.clone(),
            run: Some(self.tag.run.clone()),
            traceparent: self.tag.traceparent.clone(),
            delivery: self.delivery(record),
            ordinal: 0,
            now: self.context.now(),
        };
        let encoded = tokio::task::spawn_blocking(move || encode_page(&records, &context)).await;
        match encoded {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(error)) => Err(GaveUp::at_once(PollError::Record(error.to_string()))),
            Err(error) => Err(GaveUp::at_once(PollError::Record(error.to_string()))),
        }
    }

    /// The same when the same page is published again: pages are numbered where they have a cursor.
    fn delivery(&mut self, record: Option<&CursorRecord>) -> String {
        match record {
            Some(record) => format!("{POLLED}{}", record.page),
            None => {
                self.unnumbered += 1;
                format!("run/{}/{}", self.tag.run, self.unnumbered)
            }
        }
    }

    async fn publish(
        &mut self,
        mut page: EncodedPage,
        record: Option<&CursorRecord>,
    ) -> Result<(), GaveUp> {
        let (records, started) = (page.records(), self.context.platform.clock.instant());
        let publisher = Arc::clone(&self.context.platform.publisher);
        let mut attempts = Attempts::new(&self.context.platform.settings.retry);
        let published = loop {
            settled(&self.lease).await;
            // Only handles are copied: the payload is shared.
            match publisher.publish(&self.id, page.clone(), record.cloned()).await {
                Ok(published) => break published,
                // As often as there are such records: each becomes much smaller.
                Err(error) if self.leave_out(&mut page, &error) => {}
                Err(error) => match self.written_all_the_same(record).await {
                    Some(published) => break published,
                    None => self.retry(&mut attempts, error.into()).await?,
                },
            }
        };
        self.tally.add_published(records, &published);
        let took = self.context.platform.clock.since(started);
        self.context.platform.metrics.published(&self.id, records, took);
        Ok(())
    }

    /// Leaves out of the page what the bus refused as too large; `false` if that may not be.
    fn leave_out(&self, page: &mut EncodedPage, error: &BusError) -> bool {
        let BusError::TooLarge { message: Some(at), size, limit } = error else { return false };
        let (entity, is_left_out) = (&self.id, leave_out(page, *at, self.spec));
        if is_left_out {
            tracing::warn!(%entity, size, limit, "a record too large for the bus was left out");
        }
        is_left_out
    }

    /// Failure was reported, but the page may have been written: the bus knows whose cursor it has.
    async fn written_all_the_same(&mut self, record: Option<&CursorRecord>) -> Option<Published> {
        let record = record?;
        let publisher = &self.context.platform.publisher;
        let on_bus = publisher.cursor(&self.id).await.ok()??;
        if on_bus != *record {
            return None;
        }
        let (epoch, offset) = publisher.end(&self.id).await.ok()?;
        tracing::info!(entity = %self.id, "a page was written though failure was reported");
        Some(Published { span: alluvium_model::Span { epoch, after: offset, to: offset } })
    }

    async fn acknowledge(&mut self, cursor: &Cursor) -> Result<(), GaveUp> {
        let mut attempts = Attempts::new(&self.context.platform.settings.retry);
        loop {
            match self.feed.acknowledge(self.spec, cursor).await {
                Ok(()) => return Ok(()),
                Err(error) => self.retry(&mut attempts, error).await?,
            }
        }
    }

    /// The ledger's copy is for people, and for the day on which the bus is lost: no reason to fail.
    async fn note_cursor(&mut self, record: &CursorRecord) {
        let ledger = &self.context.platform.ledger;
        if let Err(error) = ledger.note_cursor(&self.id, record, self.context.now()).await {
            tracing::warn!(entity = %self.id, %error, "the ledger did not take a copy of a cursor");
        }
    }

    async fn retry(&mut self, attempts: &mut Attempts, error: PollError) -> Result<(), GaveUp> {
        tracing::debug!(entity = %self.id, %error, "a poll failed");
        self.context.platform.metrics.poll_failed(&self.id);
        retry_after(attempts, error, &self.context.stop.polls).await
    }
}

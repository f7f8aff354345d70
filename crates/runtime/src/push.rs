//! Pages that are pushed by hand, not polled: in a run of their own, with a cursor only where their
//! giver can go on where it broke off.

use std::sync::Arc;

use alluvium_ledger::{Lease, LeaseName, RunStatus};
use alluvium_model::port::Published;
use alluvium_model::{
    Cursor, CursorRecord, EncodedPage, EntityId, Epoch, Ownership, Position, RunId,
};
use jiff::Timestamp;

use crate::context::Context;
use crate::error::{PollError, RuntimeError};
use crate::lease::{HeldLease, settled};
use crate::report::{EntityReport, RunReport};
use crate::retry::Attempts;
use crate::run::{OpenRun, RunRequest};
use crate::topic;

/// A run in which pages are pushed.
pub struct PushRun {
    context: Arc<Context>,
    entity: EntityId,
    open: OpenRun,
    published: u64,
    position: Option<Position>,
    held: Option<Held>,
}

/// What pushing with a cursor needs: the topic's poll lease, and what stands on the bus.
struct Held {
    lease: HeldLease,
    last: Option<CursorRecord>,
}

impl PushRun {
    pub(crate) async fn open(
        context: &Arc<Context>,
        entity: &EntityId,
    ) -> Result<Self, RuntimeError> {
        context.crew.ensure_known(context, entity).await?;
        let turn = Arc::clone(&context.system(&entity.system)?.turn).lock_owned().await;
        let request =
            RunRequest { system: entity.system.clone(), entity: None, trigger: "publish" };
        let open = OpenRun::open(context, request, turn).await?;
        let (context, entity) = (Arc::clone(context), entity.clone());
        Ok(Self { context, entity, open, published: 0, position: None, held: None })
    }

    /// The run, for the messages' headers.
    pub fn run(&self) -> &RunId {
        self.open.id()
    }

    /// The run's trace context, for the messages' headers.
    pub fn traceparent(&self) -> Option<&str> {
        self.open.tag().traceparent.as_deref()
    }

    /// Publishes a page. `Ok` means that it is durable.
    pub async fn publish(&mut self, page: EncodedPage) -> Result<Published, RuntimeError> {
        let records = page.records();
        let published = publish(&self.context, &self.entity, page).await?;
        self.published += records;
        let span = published.span;
        self.position = Some(Position { epoch: span.epoch, offset: span.to, index: 0 });
        Ok(published)
    }

    /// Takes the entity's poll lease and tells how far its topic was read into, so that pushing can
    /// go on there. Needed once before [`PushRun::publish_at`]; [`RuntimeError::Held`] while another
    /// process polls or pushes the entity. What a dead one left behind is waited for.
    pub async fn resume(&mut self) -> Result<Option<Cursor>, RuntimeError> {
        let platform = &self.context.platform;
        let lease = take_lease(&self.context, &self.entity).await?;
        let last = platform.publisher.cursor(&self.entity).await?;
        if last.is_none() {
            topic::is_known::<RuntimeError>(&self.context, &self.entity).await?;
        }
        let cursor = last.as_ref().map(|record| record.cursor.clone());
        self.held = Some(Held { lease, last });
        Ok(cursor)
    }

    /// Publishes a page together with how far its source was read, in one step of the bus.
    /// [`RuntimeError::LeaseLost`] once another process may do so: what was published before stands.
    pub async fn publish_at(
        &mut self,
        page: EncodedPage,
        cursor: Cursor,
    ) -> Result<(), RuntimeError> {
        let Some(held) = &mut self.held else {
            return Err(RuntimeError::Defect("a cursor is pushed without a lease".to_owned()));
        };
        let record = CursorRecord::following(held.last.as_ref(), held.lease.token(), cursor);
        let (records, lost) = (page.records(), held.lease.lost().clone());
        let lease = held.lease.ownership();
        let publishing = publish_at(&self.context, &self.entity, page, &record, &lease);
        let (epoch, offset) = tokio::select! {
            biased;
            () = lost.cancelled() => return Err(RuntimeError::LeaseLost(self.entity.clone())),
            published = publishing => published?,
        };
        self.position = Some(Position { epoch, offset, index: 0 });
        self.published += records;
        held.last = Some(record);
        Ok(())
    }

    /// Where the last page ends on the topic; `None` if there was none.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Ends the run: as failed, with `error` as its reason, if there is one. The reason stands in
    /// the ledger and must show no secret and no row values.
    pub async fn finish(self, error: Option<String>) -> RunReport {
        let status = if error.is_some() { RunStatus::Failed } else { RunStatus::Succeeded };
        let report = EntityReport {
            entity: self.entity,
            status,
            reason: error,
            polled: self.published,
            published: self.published,
            position: self.position,
        };
        self.open.note(&report).await;
        if let Some(held) = self.held {
            held.lease.release().await;
        }
        self.open.finish(vec![report], None).await
    }
}

/// Takes the entity's poll lease. Where the ledger is away, it is tried again as a poll does.
async fn take_lease(context: &Context, entity: &EntityId) -> Result<HeldLease, RuntimeError> {
    let (settings, stop) = (&context.platform.settings, &context.stop.polls);
    let mut attempts = Attempts::new(&settings.retry);
    let mut seen = None;
    loop {
        match try_lease(context, entity, &mut seen).await {
            Ok(Some(lease)) => return Ok(lease),
            Ok(None) => {
                let pause = tokio::time::sleep(settings.lease_ttl / 4);
                if stop.run_until_cancelled(pause).await.is_none() {
                    return Err(RuntimeError::Stopping);
                }
            }
            Err(error) => {
                if attempts.pause(error.remedy(), stop).await.is_err() || stop.is_cancelled() {
                    return Err(error);
                }
            }
        }
    }
}

/// Takes the lease if it is free. Whoever holds it prolongs it while it lives: a lease that lasts
/// longer than when it was `seen` before is not worth waiting for.
async fn try_lease(
    context: &Context,
    entity: &EntityId,
    seen: &mut Option<Timestamp>,
) -> Result<Option<HeldLease>, RuntimeError> {
    let (platform, name) = (&context.platform, LeaseName::poll(entity));
    let (holder, ttl) = (&platform.settings.holder, platform.settings.lease_ttl);
    let (ledger, clock) = (&platform.ledger, &platform.clock);
    match HeldLease::take(ledger, clock, name.clone(), holder, ttl).await {
        Ok(lease) => return Ok(Some(lease)),
        Err(PollError::Held) => {}
        Err(PollError::Ledger(error)) => return Err(error.into()),
        Err(error) => return Err(RuntimeError::Defect(error.to_string())),
    }
    let leases = ledger.leases().await?.into_iter();
    for Lease { holder, expires_at: until, .. } in leases.filter(|l| l.name == name.as_str()) {
        if seen.is_some_and(|seen| until > seen) {
            return Err(RuntimeError::Held { entity: entity.clone(), holder, until });
        }
        if seen.replace(until).is_none() {
            tracing::warn!(%entity, holder, %until, "another process has it: waiting for its lease");
        }
    }
    Ok(None)
}

/// Publishes a page with its cursor record; where the topic ends then.
async fn publish_at(
    context: &Context,
    entity: &EntityId,
    page: EncodedPage,
    record: &CursorRecord,
    lease: &Ownership,
) -> Result<(Epoch, u64), RuntimeError> {
    let publisher = &context.platform.publisher;
    let (records, started) = (page.records(), context.platform.clock.instant());
    let mut attempts = Attempts::new(&context.platform.settings.retry);
    let place = loop {
        settled(lease).await;
        let error = match publisher.publish(entity, page.clone(), Some(record.clone())).await {
            Ok(Published { span }) => break (span.epoch, span.to),
            Err(error) => error,
        };
        // It may have been written though failure was reported: the bus knows.
        if publisher.cursor(entity).await.is_ok_and(|found| found.as_ref() == Some(record)) {
            break publisher.end(entity).await?;
        }
        let stop = &context.stop.all;
        if attempts.pause(error.remedy(), stop).await.is_err() || stop.is_cancelled() {
            return Err(error.into());
        }
    };
    context.platform.metrics.published(entity, records, context.platform.clock.since(started));
    Ok(place)
}

/// Publishes a page without cursor. A page that was written though failure was reported is written
/// again, and absorbed by its ids.
pub(crate) async fn publish(
    context: &Arc<Context>,
    entity: &EntityId,
    page: EncodedPage,
) -> Result<Published, RuntimeError> {
    context.crew.ensure_known(context, entity).await?;
    let platform = &context.platform;
    let (records, started) = (page.records(), platform.clock.instant());
    let mut attempts = Attempts::new(&platform.settings.retry);
    loop {
        let error = match platform.publisher.publish(entity, page.clone(), None).await {
            Ok(published) => {
                platform.metrics.published(entity, records, platform.clock.since(started));
                return Ok(published);
            }
            Err(error) => error,
        };
        if attempts.pause(error.remedy(), &context.stop.all).await.is_err() {
            return Err(error.into());
        }
        if context.stop.all.is_cancelled() {
            return Err(RuntimeError::Stopping);
        }
    }
}

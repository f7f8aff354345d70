//! The way onto a bus that others may leave for another one, and from it.
//!
//! A process looks for a mark when it opens the bus, and does something there later. In between the
//! bus may have been left by a move that did not see the process yet. So the mark is read again by
//! whoever has told that it is there, and has the lease that the work needs: before a layer reads,
//! before a source is gone on with, and from time to time while pages are published.
//!
//! A process may also stand still after it has looked, for as long as the move takes. What it then
//! publishes with a cursor the bus refuses: the move has put a page of its own on each topic. A page
//! without a cursor counts only if no mark is there after it, either: then the one who moves has
//! still to look, once the bus is left, whether all that is on it has landed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alluvium_bus::{Bus, Mark};
use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, Clock, CursorRecord, EncodedPage, EntityId, Epoch, FencingToken, Layer, Publisher,
    Subscriber, SystemClock,
};
use async_trait::async_trait;

/// So long nobody looks again before a page.
const LOOK: Duration = Duration::from_secs(1);

/// A bus, refused from the moment at which a mark says so.
pub(crate) struct Gate {
    bus: Arc<dyn Bus>,
    /// When no mark was in the way that was asked for last.
    looked: Mutex<Option<Instant>>,
}

impl Gate {
    /// The way onto this bus, and from it.
    pub(crate) fn of(bus: &Arc<dyn Bus>) -> Self {
        Self { bus: Arc::clone(bus), looked: Mutex::default() }
    }

    async fn check(&self) -> Result<(), BusError> {
        let asked = SystemClock.instant();
        if let Some(refusal) = self.bus.mark().await?.as_ref().and_then(Mark::refusal) {
            return Err(BusError::Refused(refusal));
        }
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(())
    }

    async fn check_at_times(&self) -> Result<(), BusError> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        match looked.is_some_and(|looked| SystemClock.since(looked) < LOOK) {
            true => Ok(()),
            false => self.check().await,
        }
    }

    /// Whoever is refused because the bus was left is told that.
    async fn fenced(&self, fenced: BusError) -> BusError {
        match self.check().await {
            Err(refused @ BusError::Refused(_)) => refused,
            _ => fenced,
        }
    }
}

#[async_trait]
impl Publisher for Gate {
    async fn publish(
        &self,
        topic: &EntityId,
        page: EncodedPage,
        cursor: Option<CursorRecord>,
    ) -> Result<Published, BusError> {
        self.check_at_times().await?;
        let is_pushed = cursor.is_none();
        match self.bus.publish(topic, page, cursor).await {
            Err(error @ BusError::Fenced { .. }) => Err(self.fenced(error).await),
            Ok(published) if is_pushed => self.check().await.map(|()| published),
            done => done,
        }
    }

    async fn cursor(&self, topic: &EntityId) -> Result<Option<CursorRecord>, BusError> {
        self.check().await?;
        self.bus.cursor(topic).await
    }

    async fn end(&self, topic: &EntityId) -> Result<(Epoch, u64), BusError> {
        self.bus.end(topic).await
    }
}

#[async_trait]
impl Subscribe for Gate {
    async fn subscribe(
        &self,
        topic: &EntityId,
        layer: Layer,
        owner: FencingToken,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        self.check().await?;
        self.bus.subscribe(topic, layer, owner).await
    }
}

#[cfg(test)]
mod tests {
    use alluvium_bus::{BusSettings, EmbeddedBus, Move, fence};
    use alluvium_model::{Cursor, EncodedMessage, Headers};

    use super::*;

    const OWNER: FencingToken = FencingToken(1);

    fn made() -> Move {
        Move::begin("embedded".to_owned(), "nats://127.0.0.1:9".to_owned(), 1, None)
    }

    async fn put(bus: &Arc<dyn Bus>, mark: &Mark) {
        let before = bus.mark().await.unwrap();
        assert!(bus.put_mark(mark, before.as_ref()).await.unwrap());
    }

    fn page() -> EncodedPage {
        let (headers, payload) = (Headers::default(), "{}".into());
        EncodedPage { messages: vec![EncodedMessage { headers, payload, records: 1 }] }
    }

    #[tokio::test]
    async fn a_bus_that_is_left_after_it_was_opened_takes_and_gives_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> =
            EmbeddedBus::open(folder.path(), BusSettings::default(), clock).unwrap();
        let (gate, topic) = (Gate::of(&bus), "shop.orders".parse().unwrap());
        let at = |page, token| {
            let cursor = Cursor("x".into());
            Some(CursorRecord { token: FencingToken(token), page, cursor })
        };
        for (mark, number) in [(None, 1), (Some(Mark::Arrived(made())), 2)] {
            if let Some(mark) = mark {
                put(&bus, &mark).await;
            }
            gate.cursor(&topic).await.unwrap();
            gate.subscribe(&topic, Layer::Raw, OWNER).await.unwrap();
            gate.publish(&topic, page(), None).await.unwrap();
            gate.publish(&topic, page(), at(number, 1)).await.unwrap();
        }
        let late = gate.publish(&topic, page(), at(2, 1)).await;
        assert!(matches!(late, Err(BusError::Fenced { .. })), "no mark is the reason: {late:?}");
        fence(bus.as_ref(), &topic, FencingToken(2), None).await.unwrap();
        let end = bus.end(&topic).await.unwrap();
        for mark in [Mark::Left(made()), Mark::Arriving(made())] {
            // As if it had been asked for just before it came.
            *gate.looked.lock().unwrap() = Some(SystemClock.instant());
            put(&bus, &mark).await;
            let refused = [
                gate.publish(&topic, page(), at(3, 1)).await.err(),
                gate.cursor(&topic).await.err(),
                gate.subscribe(&topic, Layer::Raw, OWNER).await.err(),
            ];
            *gate.looked.lock().unwrap() = None;
            let unlooked = gate.publish(&topic, page(), at(4, 3)).await.err();
            for error in refused.into_iter().chain([unlooked]) {
                let said = error.unwrap().to_string();
                assert!(said.contains(&mark.refusal().unwrap()), "{said}");
            }
            assert_eq!(bus.end(&topic).await.unwrap(), end);
        }
    }

    #[tokio::test]
    async fn a_page_without_a_cursor_that_may_have_come_too_late_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> =
            EmbeddedBus::open(folder.path(), BusSettings::default(), clock).unwrap();
        let (gate, topic) = (Gate::of(&bus), "shop.orders".parse().unwrap());
        put(&bus, &Mark::Left(made())).await;
        // It has looked, and stood still until the bus was left.
        *gate.looked.lock().unwrap() = Some(SystemClock.instant() + LOOK);
        let refused = gate.publish(&topic, page(), None).await.unwrap_err();
        assert!(matches!(refused, BusError::Refused(_)), "{refused}");
        assert_eq!(bus.end(&topic).await.unwrap().1, 1, "nobody was in the way before it");
    }
}

//! Moving house: marks stay, and what stands of a topic's cursor goes along once. Beside the marks
//! stands whose bus it is.

use alluvium_bus::{Bus, EmbeddedBus, Mark, Move, Tenant, carry, fence};
use alluvium_model::{
    BusError, Cursor, CursorRecord, EncodedPage, EntityId, FencingToken, Publisher,
};

use crate::kafka::mock::Mock;
use crate::nats::{connect, server, settings};
use crate::support::{open, page, record, topic};

fn mark(begun_at_ms: i64) -> Mark {
    Mark::Left(Move::begin("embedded".to_owned(), "nats://there".to_owned(), begun_at_ms, None))
}

/// Puts two marks, one after the other; and none in the place of one that is not known.
async fn put_twice(bus: &dyn Bus) {
    assert_eq!(bus.mark().await.unwrap(), None);
    for (number, before) in [(1, None), (2, Some(mark(1)))] {
        for _again in 0..2 {
            assert!(bus.put_mark(&mark(number), before.as_ref()).await.unwrap());
            assert_eq!(bus.mark().await.unwrap(), Some(mark(number)));
        }
    }
    for unknown in [None, Some(mark(1)), Some(mark(3))] {
        assert!(!bus.put_mark(&mark(3), unknown.as_ref()).await.unwrap(), "{unknown:?}");
        assert_eq!(bus.mark().await.unwrap(), Some(mark(2)));
    }
}

#[tokio::test]
async fn the_last_mark_stays_on_the_embedded_bus_and_is_no_topic() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    put_twice(bus.as_ref()).await;
    bus.publish(&topic(), page([b"{}".to_vec()]), Some(record(1))).await.unwrap();
    drop(bus);
    let bus = open(folder.path());
    assert_eq!(bus.mark().await.unwrap(), Some(mark(2)));
    assert_eq!(EmbeddedBus::topic_stats(&bus).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_mark_stays_on_nats_for_every_process() {
    let server = server!();
    let bus = connect(settings(&server)).await;
    put_twice(bus.as_ref()).await;
    let other = connect(settings(&server)).await;
    assert_eq!(other.mark().await.unwrap(), Some(mark(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_mark_stays_on_kafka_for_every_process() {
    let mock = Mock::new();
    put_twice(mock.connect().await.as_ref()).await;
    assert_eq!(mock.connect().await.mark().await.unwrap(), Some(mark(2)));
}

/// What one process says of whose bus it is, the other hears.
async fn say_whose_it_is(one: &dyn Bus, other: &dyn Bus) {
    assert_eq!(one.tenant().await.unwrap(), None);
    for beat in 1..=2 {
        let tenant = Tenant { ledger: "ours".to_owned(), beat };
        one.put_tenant(&tenant).await.unwrap();
        assert_eq!(other.tenant().await.unwrap(), Some(tenant));
    }
    assert_eq!(one.mark().await.unwrap(), None, "no mark of a move");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_bus_it_is_is_known_to_every_process() {
    let mock = Mock::new();
    say_whose_it_is(mock.connect().await.as_ref(), mock.connect().await.as_ref()).await;
    let server = server!();
    let (one, other) = (connect(settings(&server)).await, connect(settings(&server)).await);
    say_whose_it_is(one.as_ref(), other.as_ref()).await;
}

#[tokio::test]
async fn a_cursor_is_carried_once_and_a_later_one_takes_its_place() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (open(here.path()), open(there.path()));
    assert_eq!(carry(old.as_ref(), new.as_ref(), &topic()).await.unwrap(), None);
    for number in [3, 4] {
        old.publish(&topic(), page([b"{}".to_vec()]), Some(record(number))).await.unwrap();
        for _again in 0..2 {
            let carried = carry(old.as_ref(), new.as_ref(), &topic()).await.unwrap();
            assert_eq!(carried, Some(record(number)));
        }
        assert_eq!(new.cursor(&topic()).await.unwrap(), Some(record(number)));
    }
    assert_eq!(new.end(&topic()).await.unwrap().1, 0, "no message went along");
    // Who tries a page again takes it over with a younger token; the one carried before stands.
    let (before, after) = (record(5), CursorRecord { token: FencingToken(9), ..record(5) });
    new.publish(&topic(), EncodedPage::default(), Some(before.clone())).await.unwrap();
    old.publish(&topic(), page([b"{}".to_vec()]), Some(after.clone())).await.unwrap();
    assert_eq!(carry(old.as_ref(), new.as_ref(), &topic()).await.unwrap(), Some(after));
    assert_eq!(new.cursor(&topic()).await.unwrap(), Some(before));
}

/// Whoever had topics of a bus before it is fenced gets nothing more onto it, and sources are read on
/// from where they were. `late` is the bus as such a one has it open.
pub(crate) async fn shut_out(bus: &dyn Bus, late: &dyn Bus) {
    let there = tempfile::tempdir().unwrap();
    let new = open(there.path());
    let [orders, people, none] =
        ["shop.orders", "shop.people", "shop.none"].map(|name| name.parse::<EntityId>().unwrap());
    let at = |last: Option<&CursorRecord>, token: u64, cursor: &str| {
        CursorRecord::following(last, FencingToken(token), Cursor(cursor.into()))
    };
    let first = at(None, 5, "a");
    late.publish(&orders, page([b"{}".to_vec()]), Some(first.clone())).await.unwrap();
    // Of the second the ledger alone knows a cursor; of the third nobody knows one.
    let copy = CursorRecord { page: 7, ..at(None, 4, "b") };
    for (topic, known) in [(&orders, None), (&people, Some(&copy)), (&none, None)] {
        for token in [6, 9] {
            fence(bus, topic, FencingToken(token), known.cloned()).await.unwrap();
        }
    }
    for (topic, last) in [(&orders, Some(&first)), (&people, Some(&copy)), (&none, None)] {
        let end = bus.end(topic).await.unwrap();
        for page in [page([b"{}".to_vec()]), EncodedPage::default()] {
            let refused = late.publish(topic, page, Some(at(last, 5, "c"))).await;
            assert!(matches!(refused, Err(BusError::Fenced { .. })), "{topic}: {refused:?}");
        }
        assert_eq!(bus.end(topic).await.unwrap(), end, "{topic}");
        let carried = carry(bus, new.as_ref(), topic).await.unwrap().unwrap();
        assert_eq!(new.cursor(topic).await.unwrap().as_ref(), Some(&carried));
        let cursor = last.map_or(Cursor::beginning(), |last| last.cursor.clone());
        let page = last.map_or(0, |last| last.page) + 2;
        assert_eq!(carried, CursorRecord { token: FencingToken(9), page, cursor }, "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_a_topic_before_it_is_fenced_publishes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    shut_out(bus.as_ref(), bus.as_ref()).await;
    let server = server!();
    let (bus, late) = (connect(settings(&server)).await, connect(settings(&server)).await);
    shut_out(bus.as_ref(), late.as_ref()).await;
}

//! The contract suite of all buses: one async function per property.
//!
//! A bus offers itself as a [`BusUnderTest`], opened with the limits below, and as what more it is; it
//! runs every property of these with [`bus_contract!`](crate::bus_contract). A property panics where
//! the bus breaks its promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a contract suite ends the test that calls it"
)]

mod mishaps;
mod publishing;
mod reading;
mod retention;

pub use mishaps::*;
pub use publishing::*;
pub use reading::*;
pub use retention::*;

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::port::Subscribe;
use alluvium_model::{
    Cursor, CursorRecord, Delivery, EncodedMessage, EncodedPage, EntityId, FencingToken,
    FetchLimit, Headers, Publisher, Subscriber,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use crate::{Bus, BusSettings};

/// The two ends of a bus.
pub type Ends = (Arc<dyn Publisher>, Arc<dyn Subscribe>);

/// A bus, empty at first, that the suite can open, restart and lose.
#[async_trait]
pub trait BusUnderTest: Send + Sync {
    /// The ends of the bus, opened with [`settings`].
    async fn open(&self) -> Ends;

    /// The bus as a whole, as it was opened last. Let go of it before it is opened anew.
    fn whole(&self) -> Arc<dyn Bus>;

    /// Ends the bus and opens it anew, so that only what is durable is left. The caller holds no
    /// end of it any more.
    async fn restart(&self) -> Ends;

    /// Loses all that the bus holds, as with its disk, and opens it anew. The caller holds no end of
    /// it any more.
    async fn lose(&self) -> Ends;
}

/// One whose retention the suite can see at work.
#[async_trait]
pub trait AgingBus: BusUnderTest {
    /// Lets more time pass than [`settings`] keep messages, and returns when retention has removed
    /// what it may.
    async fn grow_old(&self);
}

/// One whose store the suite can fill.
#[async_trait]
pub trait BoundedBus: BusUnderTest {
    /// Opens the bus so that its store takes about `bytes`, however much [`settings`] let wait. None
    /// where no such store can be had, which is told.
    async fn open_with_a_store_of(&self, bytes: u64) -> Option<Ends>;

    /// What was published has filled the store: from now on it has room for a part of a page.
    async fn fill(&self);

    /// There is room again, once raw has committed what it landed. A bus that takes nothing more
    /// after its store was full is opened anew.
    async fn make_room(&self, ends: Ends) -> Ends;
}

/// One with a broker that may die alone. Others live and die with their process.
#[async_trait]
pub trait BrokeredBus: BusUnderTest {
    /// Kills the broker and starts it again while the bus's ends are held.
    async fn kill_the_broker(&self);
}

/// The limits that the suite expects.
pub fn settings() -> BusSettings {
    BusSettings {
        retention_age: Duration::from_secs(3600),
        max_message_bytes: 64 << 10,
        max_unlanded_bytes: 256 << 10,
        ..BusSettings::default()
    }
}

/// Makes a test of each property. Takes an expression that makes a fresh
/// [`BusUnderTest`](crate::contract::BusUnderTest), then what more it is: `aging`
/// ([`AgingBus`](crate::contract::AgingBus)), `bounded`
/// ([`BoundedBus`](crate::contract::BoundedBus)), `brokered`
/// ([`BrokeredBus`](crate::contract::BrokeredBus)). What an engine cannot show is no test of it.
/// After a semicolon come attributes for all tests.
#[macro_export]
macro_rules! bus_contract {
    (@every $bus:expr, $attributes:tt) => {
        $crate::bus_contract! { @tests $bus, $attributes,
            a_new_topic_is_empty_and_keeps_its_epoch,
            all_topics_are_listed_whoever_made_them,
            what_is_acknowledged_survives_a_restart,
            headers_and_bytes_come_back_unaltered,
            an_older_token_is_fenced,
            a_page_that_was_published_before_is_fenced,
            an_empty_page_moves_the_cursor_durably,
            a_page_without_cursor_leaves_the_cursor_alone,
            an_oversized_message_is_refused_with_its_whole_page,
            concurrent_publishers_keep_each_page_in_one_piece,
            messages_come_in_order_and_without_holes,
            a_fetch_brings_at_least_one_message_and_no_more_than_its_limit,
            a_fetch_waits_for_the_first_message,
            a_fetch_that_is_given_up_loses_no_message,
            a_fetch_without_messages_ends_after_its_wait,
            what_is_not_committed_comes_again,
            a_seek_goes_on_after_the_position,
            a_seek_into_another_epoch_is_refused,
            a_seek_beyond_the_end_is_refused,
            layers_read_independently_of_each_other,
            a_full_topic_makes_its_publisher_wait_and_no_other,
            a_full_topic_takes_no_part_of_a_page_for_all_of_it,
            a_recreated_topic_has_another_epoch_and_no_cursor,
            a_slow_reader_holds_nobody_up_and_misses_nothing,
            a_page_whose_answer_was_lost_stands_once,
        }
    };
    (@aging $bus:expr, $attributes:tt) => {
        $crate::bus_contract! { @tests $bus, $attributes,
            retention_spares_what_raw_has_not_landed,
            what_retention_removed_is_gone_and_never_skipped,
            cursor_and_offsets_survive_retention,
        }
    };
    (@bounded $bus:expr, $attributes:tt) => {
        $crate::bus_contract! { @tests $bus, $attributes,
            a_full_store_takes_no_part_of_a_page_for_all_of_it,
        }
    };
    (@brokered $bus:expr, $attributes:tt) => {
        $crate::bus_contract! { @tests $bus, $attributes,
            a_broker_that_restarts_in_mid_batch_loses_and_doubles_nothing,
        }
    };
    (@tests $bus:expr, $attributes:tt, $($property:ident),+ $(,)?) => {
        $( $crate::bus_contract! { @test $bus, $attributes, $property } )+
    };
    (@test $bus:expr, [$($attribute:tt)*], $property:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attribute)*
        async fn $property() {
            let bus = $bus;
            $crate::contract::$property(&bus).await;
        }
    };
    (@kinds $bus:expr, $attributes:tt, $($kind:ident)+) => {
        $( $crate::bus_contract! { @$kind $bus, $attributes } )+
    };
    ($bus:expr $(, $kind:ident)* $(,)?) => {
        $crate::bus_contract! { @kinds $bus, [], every $($kind)* }
    };
    ($bus:expr $(, $kind:ident)*; $($attribute:tt)+) => {
        $crate::bus_contract! { @kinds $bus, [$($attribute)+], every $($kind)* }
    };
}

/// Who reads, where it does not matter who.
const OWNER: FencingToken = FencingToken(1);

fn topic() -> EntityId {
    "shop.orders".parse().unwrap()
}

fn message(payload: impl Into<Bytes>) -> EncodedMessage {
    EncodedMessage { headers: Headers::default(), payload: payload.into(), records: 1 }
}

/// A page of `count` messages that say which page and message they are.
fn page(number: u64, count: u64) -> EncodedPage {
    let line = |n| message(json!({ "page": number, "message": n }).to_string());
    EncodedPage { messages: (0..count).map(line).collect() }
}

fn record(token: u64, page: u64) -> CursorRecord {
    CursorRecord { token: FencingToken(token), page, cursor: Cursor(json!({ "after": page })) }
}

async fn publish_pages(publisher: &Arc<dyn Publisher>, pages: std::ops::RangeInclusive<u64>) {
    for number in pages {
        publisher.publish(&topic(), page(number, 2), Some(record(1, number))).await.unwrap();
    }
}

fn at_once() -> FetchLimit {
    FetchLimit { wait: Duration::from_millis(50), ..FetchLimit::default() }
}

/// Everything that is there now.
async fn drain(subscriber: &mut Box<dyn Subscriber>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    loop {
        let delivery = subscriber.fetch(at_once()).await.unwrap();
        if delivery.is_empty() {
            return deliveries;
        }
        deliveries.push(delivery);
    }
}

/// The offsets of all messages.
fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().flat_map(|d| &d.messages).map(|m| m.offset).collect()
}

/// The payloads of the pages that [`publish_pages`] published.
fn sent(pages: std::ops::RangeInclusive<u64>) -> Vec<Bytes> {
    pages.flat_map(|number| page(number, 2).messages).map(|m| m.payload).collect()
}

fn payloads(deliveries: &[Delivery]) -> Vec<Bytes> {
    deliveries.iter().flat_map(|d| &d.messages).map(|m| m.payload.clone()).collect()
}

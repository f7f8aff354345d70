//! Of two pollers one advances: an older one that hangs in the middle of its page, wherever that is,
//! writes nothing behind what the younger one wrote.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::{BusError, CursorRecord, EncodedPage, FencingToken, Publisher};
use bytes::Bytes;

use super::line::Line;
use super::{all, connect, server, settings};
use crate::support::{page, record, topic};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a publisher sends: its messages, and its questions where the topic ends, and where the fence
/// stands.
const MESSAGES: &str = "HPUB alluvium.changes.shop.orders ";
const END: &str = "$JS.API.STREAM.INFO.alluvium-changes-shop-orders ";
const LAST: &str = "$JS.API.STREAM.MSG.GET.alluvium-changes-shop-orders ";
const FENCE: &str = "$JS.API.STREAM.MSG.GET.alluvium-state ";
const RECORD: &str = "HPUB alluvium.state.cursor.shop.orders ";

fn by(token: u64, number: u64) -> CursorRecord {
    CursorRecord { token: FencingToken(token), ..record(number) }
}

fn says(what: &str) -> EncodedPage {
    page((0..3).map(|n| format!("{what} {n}").into_bytes()))
}

fn sent(pages: &[&str]) -> Vec<Bytes> {
    pages.iter().flat_map(|what| says(what).messages).map(|message| message.payload).collect()
}

async fn payloads(bus: &NatsBus) -> Vec<Bytes> {
    all(bus).await.iter().map(|message| message.payload.clone()).collect()
}

/// An older poller stops before the first `what` that it sends, a younger one publishes, and the
/// older one goes on. If somebody `pushed` before, the older one has to ask where the topic ends.
async fn the_younger_one_goes_first(what: &str, pushed: bool) {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let old = connect(NatsSettings { servers: vec![line.url()], ..settings(&server) }).await;
    let new = connect(settings(&server)).await;
    old.publish(&topic(), says("first"), Some(by(1, 1))).await.unwrap();
    if pushed {
        new.publish(&topic(), says("pushed"), None).await.unwrap();
    }
    line.stop_before(what, 1);
    let publisher = Arc::clone(&old);
    let publishing =
        tokio::spawn(async move { publisher.publish(&topic(), says("old"), Some(by(1, 2))).await });
    line.has_stopped().await;
    new.publish(&topic(), says("new"), Some(by(2, 2))).await.unwrap();
    line.go_on();
    let refused = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap();
    assert!(refused.is_err(), "{what}, {pushed}: {refused:?}");
    let refused = old.publish(&topic(), says("old"), Some(by(1, 3))).await;
    assert!(matches!(refused, Err(BusError::Fenced { token: 2, page: 2, .. })), "{refused:?}");
    let expected = if pushed { &["first", "pushed", "new"][..] } else { &["first", "new"] };
    assert_eq!(payloads(&new).await, sent(expected), "{what}, {pushed}");
    assert_eq!(old.cursor(&topic()).await.unwrap(), Some(by(2, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_older_owner_stands_behind_a_younger_ones_page_wherever_it_stopped() {
    for (what, pushed) in [
        (MESSAGES, false),
        (FENCE, false),
        (MESSAGES, true),
        (FENCE, true),
        (END, true),
        (LAST, true),
    ] {
        the_younger_one_goes_first(what, pushed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_owner_is_refused_before_the_younger_has_written_its_record() {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let new = connect(NatsSettings { servers: vec![line.url()], ..settings(&server) }).await;
    let old = connect(settings(&server)).await;
    old.publish(&topic(), says("first"), Some(by(1, 1))).await.unwrap();
    // The first of them takes the record over, the second is the page's own.
    line.stop_before(RECORD, 2);
    let publisher = Arc::clone(&new);
    let publishing =
        tokio::spawn(async move { publisher.publish(&topic(), says("new"), Some(by(2, 2))).await });
    line.has_stopped().await;
    // Then the topic's last message does not tell the record any more.
    old.publish(&topic(), says("pushed"), None).await.unwrap();
    for empty in [true, false] {
        let page = if empty { EncodedPage::default() } else { says("old") };
        let refused = old.publish(&topic(), page, Some(by(1, 2))).await;
        assert!(matches!(refused, Err(BusError::Fenced { token: 2, page: 1, .. })), "{refused:?}");
    }
    line.go_on();
    let written = async {
        while old.cursor(&topic()).await.unwrap() != Some(by(2, 2)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("the younger one's record is written");
    publishing.abort();
    assert_eq!(payloads(&old).await, sent(&["first", "new", "pushed"]));
}

/// Nothing of such a page stands on the topic: its record alone is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_an_older_owners_empty_page_stands_nowhere_behind_a_younger_ones() {
    for number in [1, 2] {
        let server = server!();
        let line = Line::to(&server.url()).await;
        let old = connect(NatsSettings { servers: vec![line.url()], ..settings(&server) }).await;
        let new = connect(settings(&server)).await;
        if number > 1 {
            old.publish(&topic(), says("first"), Some(by(1, 1))).await.unwrap();
        }
        line.stop_before(RECORD, 1);
        let publisher = Arc::clone(&old);
        let publishing = tokio::spawn(async move {
            publisher.publish(&topic(), EncodedPage::default(), Some(by(1, number))).await
        });
        line.has_stopped().await;
        new.publish(&topic(), says("new"), Some(by(2, number))).await.unwrap();
        line.go_on();
        let refused = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap();
        assert!(
            matches!(&refused, Err(BusError::Fenced { token: 2, page, .. }) if *page == number),
            "{refused:?}"
        );
        assert_eq!(new.cursor(&topic()).await.unwrap(), Some(by(2, number)));
    }
}

/// A younger poller stops before its first message, after `first` was published.
async fn somebody_has_begun(first: Option<CursorRecord>) {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let new = connect(NatsSettings { servers: vec![line.url()], ..settings(&server) }).await;
    let old = connect(settings(&server)).await;
    if let Some(first) = &first {
        old.publish(&topic(), says("first"), Some(first.clone())).await.unwrap();
    }
    let number = first.as_ref().map_or(1, |first| first.page + 1);
    line.stop_before(MESSAGES, 1);
    let publisher = Arc::clone(&new);
    let publishing =
        tokio::spawn(
            async move { publisher.publish(&topic(), says("new"), Some(by(2, number))).await },
        );
    line.has_stopped().await;
    publishing.abort();
    let cursor = |record: Option<CursorRecord>| record.map(|record| (record.page, record.cursor));
    assert_eq!(cursor(old.cursor(&topic()).await.unwrap()), cursor(first));
    let refused = old.publish(&topic(), says("old"), Some(by(1, number))).await;
    assert!(matches!(refused, Err(BusError::Fenced { token: 2, .. })), "{refused:?}");
    old.publish(&topic(), says("next"), Some(by(3, number))).await.unwrap();
    assert_eq!(old.cursor(&topic()).await.unwrap(), Some(by(3, number)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_has_begun_and_published_nothing_leaves_the_cursor_as_it_was() {
    somebody_has_begun(None).await;
    somebody_has_begun(Some(by(1, 1))).await;
}

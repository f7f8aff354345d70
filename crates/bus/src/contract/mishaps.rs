//! What a bus keeps where something goes wrong: it is lost, full or killed, its answer does not
//! arrive, or somebody reads slowly.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::port::{Published, Subscribe};
use alluvium_model::{
    BusError, CursorRecord, Delivery, EncodedPage, FetchLimit, Layer, Position, Publisher, Remedy,
    Span, Subscriber,
};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{
    BoundedBus, BrokeredBus, BusUnderTest, OWNER, at_once, drain, message, page, payloads,
    publish_pages, record, sent, settings, topic,
};
use crate::testkit::{Fault, ScriptedPublisher, noise};

/// So long may pass until something that must happen has happened.
const PATIENCE: Duration = Duration::from_secs(90);

/// A topic that was lost begins anew, and nobody takes it for its predecessor.
pub async fn a_recreated_topic_has_another_epoch_and_no_cursor(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    publish_pages(&publisher, 1..=3).await;
    let (before, end) = publisher.end(&topic()).await.unwrap();
    drop((publisher, subscribe));
    let (publisher, subscribe) = bus.lose().await;
    let (epoch, begin) = publisher.end(&topic()).await.unwrap();
    assert!(epoch > before, "epoch {epoch} after {before}");
    assert_eq!((begin, publisher.cursor(&topic()).await.unwrap()), (0, None));
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let refused = raw.seek(&Position { epoch: before, offset: end, index: 0 }).await;
    assert!(matches!(&refused, Err(BusError::UnexpectedEpoch { .. })), "{refused:?}");
    let refused = raw.commit(&Span { epoch: before, after: 0, to: end }).await;
    assert!(matches!(&refused, Err(BusError::UnexpectedEpoch { .. })), "{refused:?}");
    publish_pages(&publisher, 1..=1).await;
    assert_eq!(payloads(&drain(&mut raw).await), sent(1..=1));
}

/// Who takes one message now and then stops neither the publisher nor another layer, and finds
/// everything when it comes to it.
pub async fn a_slow_reader_holds_nobody_up_and_misses_nothing(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let mut slow = subscribe.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let one = FetchLimit { records: 1, wait: Duration::from_secs(20), ..FetchLimit::default() };
    let (mut seen, mut landed) = (Vec::new(), Vec::new());
    for number in 1..=30 {
        publish_pages(&publisher, number..=number).await;
        for delivery in drain(&mut raw).await {
            raw.commit(&delivery.span).await.unwrap();
            landed.push(delivery);
        }
        if number % 5 == 0 {
            seen.push(slow.fetch(one).await.unwrap());
        }
    }
    assert_eq!(payloads(&landed), sent(1..=30));
    assert_eq!(payloads(&seen).len(), 6);
    seen.extend(drain(&mut slow).await);
    assert_eq!(payloads(&seen), sent(1..=30));
    assert!(seen.windows(2).all(|pair| pair[0].span.is_followed_by(&pair[1].span)));
}

/// The page was written, its publisher was told otherwise and tries again: fenced, and the cursor
/// says why.
pub async fn a_page_whose_answer_was_lost_stands_once(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let scripted = ScriptedPublisher::over(Arc::clone(&publisher));
    scripted.fault(Fault::FailAfterWrite);
    let lost = scripted.publish(&topic(), page(1, 2), Some(record(1, 1))).await;
    assert!(matches!(lost, Err(BusError::Unavailable(_))));
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1, 1)));
    let again = scripted.publish(&topic(), page(1, 2), Some(record(1, 1))).await;
    assert!(matches!(&again, Err(BusError::Fenced { token: 1, page: 1, .. })), "{again:?}");
    scripted.publish(&topic(), page(2, 2), Some(record(1, 2))).await.unwrap();
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(payloads(&drain(&mut raw).await), sent(1..=2));
}

/// What does not fit is refused, or waits: the cursor never stands at a page that is not there as a
/// whole. Once raw has landed, the same page goes through, once. Here the bus itself sets the bound.
pub async fn a_full_topic_takes_no_part_of_a_page_for_all_of_it(bus: &dyn BusUnderTest) {
    let (publisher, subscribe) = bus.open().await;
    let pages = fill(&publisher).await;
    does_not_fit(&publisher, pages + 1).await;
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let landed = land(&mut raw).await;
    goes_on(&publisher, &mut raw, landed, pages + 1).await;
}

/// The same where the engine's store sets the bound.
pub async fn a_full_store_takes_no_part_of_a_page_for_all_of_it(bus: &dyn BoundedBus) {
    let room = settings().max_unlanded_bytes;
    let Some((publisher, subscribe)) = bus.open_with_a_store_of(room).await else { return };
    let pages = fill(&publisher).await;
    bus.fill().await;
    does_not_fit(&publisher, pages + 1).await;
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let landed = land(&mut raw).await;
    drop(raw);
    let (publisher, subscribe) = bus.make_room((publisher, subscribe)).await;
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let Span { epoch, to, .. } = landed.last().unwrap().span;
    raw.seek(&Position { epoch, offset: to, index: 0 }).await.unwrap();
    goes_on(&publisher, &mut raw, landed, pages + 1).await;
}

/// A page of which a part fits where it does not, and which cannot be made smaller.
fn large(number: u64) -> EncodedPage {
    EncodedPage { messages: (0..4).map(|n| message(noise(number * 4 + n, 22 << 10))).collect() }
}

/// Publishes as many large pages as may wait; how many.
async fn fill(publisher: &Arc<dyn Publisher>) -> u64 {
    let pages = settings().max_unlanded_bytes / large(0).bytes() as u64;
    for number in 1..=pages {
        publisher.publish(&topic(), large(number), Some(record(1, number))).await.unwrap();
    }
    pages
}

async fn does_not_fit(publisher: &Arc<dyn Publisher>, number: u64) {
    let entity = topic();
    let publish = publisher.publish(&entity, large(number), Some(record(1, number)));
    let refused = tokio::time::timeout(Duration::from_secs(2), publish).await;
    assert!(matches!(&refused, Ok(Err(BusError::Full(_))) | Err(_)), "{refused:?}");
    let last = publisher.cursor(&entity).await.unwrap().map_or(0, |cursor| cursor.page);
    assert_eq!(last, number - 1);
}

/// Reads all that is there, and commits it.
async fn land(raw: &mut Box<dyn Subscriber>) -> Vec<Delivery> {
    let landed = drain(raw).await;
    raw.commit(&Span { after: 0, ..landed.last().unwrap().span }).await.unwrap();
    landed
}

/// The page that did not fit goes through, and each page stands once.
async fn goes_on(
    publisher: &Arc<dyn Publisher>,
    raw: &mut Box<dyn Subscriber>,
    mut landed: Vec<Delivery>,
    number: u64,
) {
    let publish = until_published(publisher, large(number), record(1, number));
    tokio::time::timeout(PATIENCE, publish).await.expect("there is room again");
    landed.extend(drain(raw).await);
    let expected: Vec<Bytes> =
        (1..=number).flat_map(|n| large(n).messages).map(|m| m.payload).collect();
    assert_eq!(payloads(&landed), expected);
}

/// Publisher and reader try again, as the runtime does, and each page stands once, in its order.
pub async fn a_broker_that_restarts_in_mid_batch_loses_and_doubles_nothing(bus: &dyn BrokeredBus) {
    const PAGES: u64 = 60;
    let (publisher, subscribe) = bus.open().await;
    let (done, mut progress) = watch::channel(0);
    let publishing: JoinHandle<()> = tokio::spawn(async move {
        for number in 1..=PAGES {
            until_published(&publisher, page(number, 5), record(1, number)).await;
            done.send_replace(number);
        }
    });
    let reading = tokio::spawn(async move { read(&subscribe, PAGES as usize * 5).await });
    for mark in [PAGES / 3, PAGES * 2 / 3] {
        let reached = tokio::time::timeout(PATIENCE, progress.wait_for(|page| *page >= mark)).await;
        reached.expect("pages are published").unwrap();
        bus.kill_the_broker().await;
    }
    tokio::time::timeout(PATIENCE, publishing).await.expect("all pages are published").unwrap();
    let got = tokio::time::timeout(PATIENCE, reading).await.expect("all come").unwrap();
    let expected: Vec<Bytes> =
        (1..=PAGES).flat_map(|n| page(n, 5).messages).map(|m| m.payload).collect();
    assert_eq!(got, expected);
}

/// Publishes as the runtime does: again while that may help; and what stands though failure was
/// reported is published.
async fn until_published(
    publisher: &Arc<dyn Publisher>,
    page: EncodedPage,
    record: CursorRecord,
) -> Option<Published> {
    loop {
        match publisher.publish(&topic(), page.clone(), Some(record.clone())).await {
            Ok(published) => return Some(published),
            Err(error) => match publisher.cursor(&topic()).await {
                Ok(Some(found)) if found == record => return None,
                _ => assert_eq!(error.remedy(), Remedy::Retry, "{error}"),
            },
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads and commits until so many messages have come, from where it stood after each failure.
async fn read(subscribe: &Arc<dyn Subscribe>, count: usize) -> Vec<Bytes> {
    let (mut got, mut at) = (Vec::new(), None::<Span>);
    while got.len() < count {
        if read_on(subscribe, count, &mut got, &mut at).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    got
}

async fn read_on(
    subscribe: &Arc<dyn Subscribe>,
    count: usize,
    got: &mut Vec<Bytes>,
    at: &mut Option<Span>,
) -> Result<(), BusError> {
    let mut raw = subscribe.subscribe(&topic(), Layer::Raw, OWNER).await?;
    if let Some(span) = at {
        raw.seek(&Position { epoch: span.epoch, offset: span.to, index: 0 }).await?;
        raw.commit(span).await?;
    }
    while got.len() < count {
        let delivery = raw.fetch(at_once()).await?;
        got.extend(delivery.messages.iter().map(|m| m.payload.clone()));
        *at = Some(Span { after: 0, ..delivery.span });
        raw.commit(&delivery.span).await?;
    }
    Ok(())
}

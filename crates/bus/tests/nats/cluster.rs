//! A cluster of which a server goes: nothing is lost, nothing stands twice, and nobody stops who has
//! only to wait.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{Bus as _, NatsBus, NatsSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, EncodedPage, Layer, Publisher, Subscriber, SystemClock};
use alluvium_testkit::NatsCluster;
use async_nats::jetstream;
use bytes::Bytes;
use tokio::sync::watch;

use super::{PATIENCE, STREAM, answered, limit};
use crate::support::{OWNER, page, record, topic};

const SOON: Duration = Duration::from_millis(50);

async fn connect(cluster: &NatsCluster, replicas: usize) -> Arc<NatsBus> {
    let settings = NatsSettings { servers: cluster.urls(), replicas, ..NatsSettings::default() };
    let bus = async || NatsBus::connect(settings.clone(), Arc::new(SystemClock)).await;
    answered(bus).await.unwrap()
}

/// The name of the server that leads the topic's stream.
async fn leader(cluster: &NatsCluster) -> String {
    let js = jetstream::new(async_nats::connect(cluster.urls().remove(0)).await.unwrap());
    let found = async {
        loop {
            let Ok(stream) = js.get_stream(STREAM).await else { continue };
            let cluster = stream.cached_info().cluster.as_ref();
            if let Some(leader) = cluster.and_then(|cluster| cluster.leader.clone()) {
                return leader;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the stream has a leader")
}

fn says(number: u64) -> EncodedPage {
    page((0..3).map(|part| format!("{number} {part}").into_bytes()))
}

fn sent(pages: u64) -> Vec<Bytes> {
    (1..=pages).flat_map(|number| says(number).messages).map(|message| message.payload).collect()
}

/// Publishes a page as a poller does: what is not answered is published again, unless its cursor
/// stands.
async fn publish(bus: &NatsBus, number: u64) {
    let published = async {
        loop {
            match bus.publish(&topic(), says(number), Some(record(number))).await {
                Err(BusError::Unavailable(_)) => {}
                Err(BusError::Fenced { page, .. }) if page == number => return,
                published => {
                    published.expect("the page is taken");
                    return;
                }
            }
            let cursor = answered(async || bus.cursor(&topic()).await).await.unwrap();
            if cursor.is_some_and(|record| record.page == number) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("the page is taken");
}

/// Reads and commits up to an end that may be told later.
async fn read(raw: &mut Box<dyn Subscriber>, end: watch::Receiver<u64>) -> Vec<Bytes> {
    let (mut came, mut at) = (Vec::new(), 0);
    while at < *end.borrow() {
        match raw.fetch(limit(SOON)).await {
            Err(BusError::Unavailable(_)) => tokio::task::yield_now().await,
            fetched => {
                let delivery = fetched.expect("what comes reads");
                if delivery.is_empty() {
                    continue;
                }
                at = delivery.span.to;
                answered(async || raw.commit(&delivery.span).await).await.unwrap();
                came.extend(delivery.messages.iter().map(|message| message.payload.clone()));
            }
        }
    }
    came
}

/// Reads up to `end`.
async fn read_to(raw: &mut Box<dyn Subscriber>, end: u64) -> Vec<Bytes> {
    let reading = read(raw, watch::channel(end).1);
    tokio::time::timeout(PATIENCE, reading).await.expect("all come")
}

async fn reaches(pages: &mut watch::Receiver<u64>, number: u64) {
    let reached = tokio::time::timeout(PATIENCE, pages.wait_for(|page| *page >= number)).await;
    reached.expect("pages are taken").expect("the publisher goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_server_that_leads_loses_nothing_and_doubles_nothing() {
    let Some(mut cluster) = NatsCluster::start(3) else { return };
    let bus = connect(&cluster, 3).await;
    let mut raw =
        answered(async || bus.subscribe(&topic(), Layer::Raw, OWNER).await).await.unwrap();
    let (ends, end) = watch::channel(u64::MAX);
    let (told, mut pages) = watch::channel(0);
    let is_enough = Cell::new(false);
    let publishing = async {
        let mut number = 0;
        while !is_enough.get() {
            number += 1;
            publish(&bus, number).await;
            told.send_replace(number);
        }
        let (_, end) = answered(async || bus.end(&topic()).await).await.unwrap();
        ends.send_replace(end);
        number
    };
    let killing = async {
        reaches(&mut pages, 10).await;
        let leader = leader(&cluster).await;
        tokio::task::block_in_place(|| cluster.named(&leader).server.kill());
        let there = *pages.borrow();
        reaches(&mut pages, there + 10).await;
        is_enough.set(true);
    };
    let all = async { tokio::join!(read(&mut raw, end), publishing, killing) };
    let (came, published, ()) = tokio::time::timeout(3 * PATIENCE, all).await.expect("all come");
    assert_eq!(came, sent(published));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_only_server_of_a_stream_is_away_nobody_stops_and_all_go_on_when_it_is_back() {
    let Some(mut cluster) = NatsCluster::start(3) else { return };
    let bus = connect(&cluster, 1).await;
    publish(&bus, 1).await;
    let mut raw =
        answered(async || bus.subscribe(&topic(), Layer::Raw, OWNER).await).await.unwrap();
    let mut came = read_to(&mut raw, 3).await;
    let leader = leader(&cluster).await;
    // One that says that it goes: of its streams the others say that they are offline.
    tokio::task::block_in_place(|| cluster.named(&leader).server.terminate());
    let offline = async {
        loop {
            match raw.fetch(limit(SOON)).await {
                Err(BusError::Unavailable(text)) if text.contains("offline") => return,
                Err(BusError::Unavailable(_)) => tokio::task::yield_now().await,
                Ok(delivery) => assert!(delivery.is_empty(), "{delivery:?}"),
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, offline).await.expect("the reader is told");
    let refused = bus.publish(&topic(), says(2), Some(record(2))).await;
    assert!(matches!(&refused, Err(BusError::Unavailable(_))), "{refused:?}");
    let unseen = bus.refresh().await;
    assert!(matches!(&unseen, Err(BusError::Unavailable(_))), "{unseen:?}");
    let known = bus.topic_stats();
    assert_eq!(known.len(), 1, "it is not forgotten");
    assert_eq!(known[0].layers.iter().map(|of| of.layer).collect::<Vec<_>>(), [Layer::Raw]);
    tokio::task::block_in_place(|| {
        cluster.named(&leader).server.resume();
        cluster.wait();
    });
    publish(&bus, 2).await;
    came.extend(read_to(&mut raw, 6).await);
    assert_eq!(came, sent(2));
}

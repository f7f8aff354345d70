//! What readers ask the server for before anybody needs it.

use std::time::Duration;

use alluvium_bus::testkit::noise;
use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::port::Subscribe;
use alluvium_model::{FetchLimit, Layer, Publisher, Subscriber};

use super::line::Line;
use super::{connect, limit, server, settings};
use crate::support::{OWNER, page, topic};

const WAIT: Duration = Duration::from_secs(20);

/// The text of a request for so many bytes.
fn request(bytes: usize) -> String {
    format!("\"max_bytes\":{bytes}")
}

async fn reader(bus: &NatsBus, layer: Layer) -> Box<dyn Subscriber> {
    bus.subscribe(&topic(), layer, OWNER).await.unwrap()
}

/// The reader, which has read nothing yet, asks for `bytes` where it may have `most`.
async fn asks_for(line: &Line, reader: &mut Box<dyn Subscriber>, most: usize, bytes: usize) {
    line.stop_before(&request(bytes), 1);
    let passing = async {
        line.has_stopped().await;
        line.go_on();
    };
    let limit = FetchLimit { bytes: most, ..limit(WAIT) };
    let (fetched, ()) = tokio::join!(reader.fetch(limit), passing);
    assert_eq!(fetched.unwrap().messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_share_what_they_ask_for_ahead_and_none_asks_for_more_than_it_may_have() {
    let server = server!();
    let line = Line::to(&server.url()).await;
    let bus = connect(NatsSettings { servers: vec![line.url()], ..settings(&server) }).await;
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    let mut raw = reader(&bus, Layer::Raw).await;
    asks_for(&line, &mut raw, 1 << 20, 1 << 20).await;
    let mut bronze = reader(&bus, Layer::Bronze).await;
    // Any message of the usual size comes by it.
    asks_for(&line, &mut bronze, 1, 320 << 10).await;
    let mut silver = reader(&bus, Layer::Silver).await;
    asks_for(&line, &mut silver, 64 << 20, 4 << 20).await;
    let mut others = Vec::new();
    for _ in 0..60 {
        others.push(reader(&bus, Layer::Bronze).await);
    }
    let mut last = reader(&bus, Layer::Silver).await;
    asks_for(&line, &mut last, 64 << 20, (128 << 20) / 64).await;
    drop(others);
    let mut last = reader(&bus, Layer::Silver).await;
    asks_for(&line, &mut last, 64 << 20, 4 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_comes_alone_and_what_follows_is_asked_for_as_before() {
    let server = server!("max_payload: 8MB\n");
    let line = Line::to(&server.url()).await;
    let settings = NatsSettings {
        servers: vec![line.url()],
        max_message_bytes: 16 << 20,
        max_unlanded_bytes: u64::MAX,
        ..settings(&server)
    };
    let bus = connect(settings).await;
    let large = noise(1, 5 << 20);
    bus.publish(&topic(), page([large.clone(), vec![1]]), None).await.unwrap();
    let mut raw = reader(&bus, Layer::Raw).await;
    // The first of them is refused, for the large one.
    line.stop_before(&request(4 << 20), 2);
    let passing = async {
        line.has_stopped().await;
        line.go_on();
    };
    let reading = async {
        let mut came = Vec::new();
        while came.len() < 2 {
            came.extend(raw.fetch(limit(WAIT)).await.unwrap().messages);
        }
        came
    };
    let (came, ()) = tokio::join!(reading, passing);
    assert_eq!((came[0].payload.as_ref(), came[1].payload.as_ref()), (&large[..], &[1][..]));
}

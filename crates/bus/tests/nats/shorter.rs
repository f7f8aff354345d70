//! A stream that comes back shorter than what was acknowledged, as after a power cut before the
//! server's disk was synced, while those who use it live on.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::NatsBus;
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, Delivery, Layer, Position, Publisher, Span, Subscriber};
use alluvium_testkit::NatsServer;

use super::{answered, connect, drain, limit, server, settings, stream};
use crate::support::{OWNER, page, record, topic};

/// Puts the server's folder by, as it is now.
fn put_by(server: &mut NatsServer) {
    tokio::task::block_in_place(|| {
        server.server.terminate();
        let folder = server.server.folder();
        copy(&folder.join("store"), &folder.join("before"));
        server.server.resume();
    });
}

/// Kills the server and gives it the folder that was put by.
fn go_back(server: &mut NatsServer) {
    tokio::task::block_in_place(|| {
        server.server.kill();
        let folder = server.server.folder();
        std::fs::remove_dir_all(folder.join("store")).unwrap();
        copy(&folder.join("before"), &folder.join("store"));
        server.server.resume();
    });
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A bus whose raw layer has landed five messages, of which the server then loses two.
async fn shortened(server: &mut NatsServer) -> (Arc<NatsBus>, Box<dyn Subscriber>) {
    let bus = connect(settings(server)).await;
    let first = page((0..3).map(|n| vec![n]));
    let epoch = bus.publish(&topic(), first, Some(record(1))).await.unwrap().span.epoch;
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    assert_eq!(drain(&mut raw).await.len(), 3);
    put_by(server);
    answered(async || bus.publish(&topic(), page([vec![3], vec![4]]), Some(record(2))).await)
        .await
        .unwrap();
    let mut got = 0;
    while got < 2 {
        let fetched = raw.fetch(limit(Duration::from_millis(50))).await;
        got += fetched.map_or(0, |delivery| delivery.messages.len());
    }
    answered(async || raw.commit(&Span { epoch, after: 0, to: 5 }).await).await.unwrap();
    go_back(server);
    (bus, raw)
}

/// What the raw layer is told in the end.
async fn told(raw: &mut Box<dyn Subscriber>) -> Result<Delivery, BusError> {
    answered(async || match raw.fetch(limit(Duration::from_millis(50))).await {
        Ok(delivery) if delivery.is_empty() => Err(BusError::Unavailable("nothing".to_owned())),
        answer => answer,
    })
    .await
}

fn is_damaged<T: std::fmt::Debug>(answer: &Result<T, BusError>, part: &str) {
    assert!(matches!(answer, Err(BusError::Corrupt(text)) if text.contains(part)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_comes_back_shorter_stops_those_who_know_better() {
    let mut server = server!();
    let (bus, mut raw) = shortened(&mut server).await;
    let lost = "ends at offset 3, but messages up to 5 were acknowledged";
    is_damaged(&told(&mut raw).await, lost);
    let next = answered(async || bus.publish(&topic(), page([vec![5]]), Some(record(3))).await);
    is_damaged(&next.await, lost);
    is_damaged(&answered(async || bus.publish(&topic(), page([vec![5]]), None).await).await, lost);
    is_damaged(&answered(async || bus.cursor(&topic()).await).await, lost);
    is_damaged(&answered(async || bus.end(&topic()).await).await, lost);
    assert_eq!(stream(&server).await.cached_info().state.last_sequence, 3, "nobody went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_came_back_shorter_and_grew_again_is_not_read_on() {
    let mut server = server!();
    let (bus, mut raw) = shortened(&mut server).await;
    // One that knows nothing of what was there.
    let other = connect(settings(&server)).await;
    let others = page((0..4).map(|n| vec![n; 10]));
    let span = other.publish(&topic(), others, Some(record(2))).await.unwrap().span;
    assert_eq!((span.after, span.to), (3, 7));
    let lost = "messages up to offset 5 were acknowledged and are gone";
    is_damaged(&told(&mut raw).await, lost);
    let at = Position { epoch: span.epoch, offset: 5, index: 0 };
    let mut again = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    is_damaged(&answered(async || again.seek(&at).await).await, lost);
}

//! How fast pages become durable. Not a promise: run it with `--ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_model::port::Subscribe;
use alluvium_model::{Clock, FetchLimit, SystemClock};
use alluvium_model::{Layer, Publisher};

use crate::support::{OWNER, page, topic};

const MESSAGES: usize = 1024;
const MESSAGE_BYTES: usize = 256 << 10;
const PER_PAGE: usize = 16;

/// A block of NDJSON like that of a busy table, about 256 KiB.
fn lines(seed: usize) -> Vec<u8> {
    let mut text = String::with_capacity(MESSAGE_BYTES + 300);
    let mut n = seed * 1000;
    while text.len() < MESSAGE_BYTES {
        n += 1;
        let hash = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        text.push_str(&format!(
            "{{\"op\":\"u\",\"after\":{{\"id\":{n},\"name\":\"customer {hash:x}\",\"amount\":{},\
             \"state\":\"open\",\"note\":\"{:x}\"}},\"source\":{{\"sequence\":[{n}]}}}}\n",
            hash % 100_000,
            hash.rotate_left(17)
        ));
    }
    text.into_bytes()
}

fn report(what: &str, clock: &SystemClock, start: Instant, bytes: usize) {
    let seconds = clock.since(start).as_secs_f64();
    let mib = bytes as f64 / f64::from(1 << 20);
    println!("{what}: {mib:.0} MiB in {seconds:.2} s, {:.0} MiB/s", mib / seconds);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn publish_and_read_messages_of_256_kib() {
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock;
    let settings = BusSettings { max_unlanded_bytes: 1 << 40, ..BusSettings::default() };
    let bus = EmbeddedBus::open(folder.path(), settings, Arc::new(clock)).unwrap();
    let blocks: Vec<Vec<u8>> = (0..64).map(lines).collect();
    let pages: Vec<_> = (0..MESSAGES / PER_PAGE)
        .map(|n| page((0..PER_PAGE).map(|m| blocks[(n * PER_PAGE + m) % blocks.len()].clone())))
        .collect();
    let bytes: usize = pages.iter().map(|p| p.bytes()).sum();

    let start = clock.instant();
    for sent in &pages {
        bus.publish(&topic(), sent.clone(), None).await.unwrap();
    }
    report("publish, one page at a time", &clock, start, bytes);

    let start = clock.instant();
    let tasks: Vec<_> = pages
        .into_iter()
        .map(|sent| {
            let bus = Arc::clone(&bus);
            tokio::spawn(async move { bus.publish(&topic(), sent, None).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    report("publish, all pages at once", &clock, start, bytes);

    let mut subscriber = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let start = clock.instant();
    let mut read = 0;
    while read < 2 * bytes {
        read += subscriber.fetch(FetchLimit::default()).await.unwrap().bytes();
    }
    report("read", &clock, start, read);
    println!("{:?}", bus.stats().unwrap());
}

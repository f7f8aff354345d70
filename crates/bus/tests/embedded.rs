//! What is promised of the embedded bus alone: shared messages, epochs, retention by size, the
//! folder's lock, damage, and what it tells about itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::testkit::{Fault, ScriptedPublisher};
use alluvium_bus::{BusSettings, EmbeddedBus, LayerStats};
use alluvium_model::port::Subscribe;
use alluvium_model::{BusError, Clock, EntityId, FetchLimit, Layer, Publisher, Span, SystemClock};

use crate::support::{OWNER, clock, open, page, read_all, record, topic};
use alluvium_bus::testkit::noise;

#[tokio::test(flavor = "multi_thread")]
async fn three_layers_share_one_message_whether_from_memory_or_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    for from_disk in [false, true] {
        let bus = open(folder.path());
        if !from_disk {
            bus.publish(&topic(), page([noise(1, 10_000)]), None).await.unwrap();
        }
        let mut shared = Vec::new();
        for layer in Layer::ALL {
            let mut subscriber = bus.subscribe(&topic(), layer, OWNER).await.unwrap();
            let delivery = subscriber.fetch(FetchLimit::default()).await.unwrap();
            shared.push(Arc::clone(&delivery.messages[0]));
        }
        assert!(Arc::ptr_eq(&shared[0], &shared[1]) && Arc::ptr_eq(&shared[0], &shared[2]));
        let frame = shared[0].frame.as_ref().unwrap();
        assert_eq!(zstd::bulk::decompress(frame, 20_000).unwrap(), noise(1, 10_000));
    }
}

#[tokio::test]
async fn epochs_grow_from_topic_to_topic_even_if_the_clock_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let first = clock.now().as_millisecond() as u64;
    for round in 0..2 {
        let bus = EmbeddedBus::open(folder.path(), BusSettings::default(), Arc::clone(&clock) as _)
            .unwrap();
        for n in 0..2 {
            let topic: EntityId = format!("shop.t{round}{n}").parse().unwrap();
            assert_eq!(bus.end(&topic).await.unwrap().0.0, first + 2 * round + n);
        }
    }
}

/// Bytes in the engine's tables, journals left out.
fn table_bytes(path: &Path) -> u64 {
    let mut bytes = 0;
    // A file may be removed while we look.
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => bytes += table_bytes(&entry.path()),
            Ok(found) => bytes += found.len(),
            Err(_) => {}
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_size_removes_the_oldest_and_gives_the_disk_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = BusSettings {
        retention_bytes: 4 << 20,
        max_unlanded_bytes: 1 << 30,
        ..BusSettings::default()
    };
    let bus = EmbeddedBus::open(folder.path(), settings, Arc::new(SystemClock)).unwrap();
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let mut last = bus.publish(&topic(), page([noise(0, 1 << 20)]), None).await.unwrap().span;
    for n in 1..160 {
        last = bus.publish(&topic(), page([noise(n, 1 << 20)]), None).await.unwrap().span;
    }
    bus.retain().await;
    assert_eq!(bus.topic_stats().remove(0).messages, 160, "raw has landed nothing yet");
    // Nothing is published any more, so the engine has no reason of its own to tidy up.
    raw.commit(&Span { after: 0, ..last }).await.unwrap();
    bus.retain().await;
    let stats = bus.topic_stats().remove(0);
    assert!(stats.stored_bytes <= 4 << 20 && stats.messages == 3, "{stats:?}");
    assert_eq!((stats.first_after, stats.end), (last.to - 3, last.to));
    let tables = folder.path().join("keyspaces");
    for look in 0.. {
        let left = table_bytes(&tables);
        if left < 40 << 20 {
            break;
        }
        assert!(look < 1000, "{left} bytes were not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((raw, bus));
    let bus = open(folder.path());
    assert_eq!(bus.topic_stats().remove(0).first_after, last.to - 3);
    assert_eq!(read_from(&bus, last.to - 3).await, 3);
}

async fn read_from(bus: &EmbeddedBus, after: u64) -> usize {
    let mut subscriber = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let delivery = subscriber.fetch(FetchLimit::default()).await.unwrap();
    assert_eq!(delivery.span.after, after);
    delivery.messages.len()
}

#[tokio::test]
async fn a_second_process_is_told_that_the_folder_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _bus = open(folder.path());
    let second = EmbeddedBus::open(folder.path(), BusSettings::default(), Arc::new(SystemClock));
    let text = second.err().unwrap().to_string();
    assert!(text.contains("another alluvium process uses this data folder"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_bus_has_written_what_it_took_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let other = Arc::clone(&bus);
    let publishing =
        tokio::spawn(async move { other.publish(&topic(), page([vec![1]]), None).await });
    let published = publishing.await.unwrap().unwrap();
    bus.close().await;
    let refused = bus.publish(&topic(), page([vec![1]]), None).await;
    assert!(matches!(refused, Err(BusError::Unavailable(_))));
    bus.retain().await;
    drop(bus);
    assert_eq!(open(folder.path()).end(&topic()).await.unwrap().1, published.span.to);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_publishers_share_an_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let publish = |n: u8| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.publish(&topic(), page([vec![n]]), None).await.unwrap() })
    };
    let tasks: Vec<_> = (0..200).map(publish).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = bus.stats().unwrap();
    assert_eq!(stats.pages, 200);
    assert!(stats.group_commits < 200, "{stats:?}");
}

#[tokio::test]
async fn the_bus_tells_how_far_each_layer_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let bus =
        EmbeddedBus::open(folder.path(), BusSettings::default(), Arc::clone(&clock) as _).unwrap();
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(clock.now().as_microsecond());
        bus.publish(&topic(), page([vec![b'x'; 100]]), None).await.unwrap();
        clock.advance(Duration::from_secs(5));
    }
    let mut raw = bus.subscribe(&topic(), Layer::Raw, OWNER).await.unwrap();
    let _silver = bus.subscribe(&topic(), Layer::Silver, OWNER).await.unwrap();
    let epoch = bus.end(&topic()).await.unwrap().0;
    raw.commit(&Span { epoch, after: 0, to: 2 }).await.unwrap();
    let check = |bus: &EmbeddedBus, silver: bool| {
        let stats = bus.topic_stats().remove(0);
        assert_eq!((stats.end, stats.messages, stats.unlanded_bytes), (3, 3, 100));
        assert_eq!(stats.last_published_at_us, Some(times[2]));
        let behind = |layer, committed: u64, since| LayerStats {
            layer,
            committed,
            waiting_records: 3 - committed,
            waiting_since_us: Some(since),
        };
        let mut expected = vec![behind(Layer::Raw, 2, times[2])];
        if silver {
            expected.push(behind(Layer::Silver, 0, times[0]));
        }
        assert_eq!(stats.layers, expected);
    };
    check(&bus, true);
    drop((raw, _silver, bus));
    check(&open(folder.path()), false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_failed_after_its_write_is_fenced_when_it_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let publisher = ScriptedPublisher::over(open(folder.path()));
    publisher.fault(Fault::FailAfterWrite);
    publisher.fault(Fault::Reject(BusError::Full("told so".to_owned())));
    let (hold, release) = Fault::hold();
    publisher.fault(hold);
    let lost = publisher.publish(&topic(), page([vec![1]]), Some(record(1))).await;
    assert!(matches!(lost, Err(BusError::Unavailable(_))));
    assert_eq!(publisher.cursor(&topic()).await.unwrap(), Some(record(1)));
    let refused = publisher.publish(&topic(), page([vec![1]]), Some(record(1))).await;
    assert!(matches!(refused, Err(BusError::Full(_))));
    assert!(release.release());
    let fenced = publisher.publish(&topic(), page([vec![1]]), Some(record(1))).await;
    assert!(matches!(fenced, Err(BusError::Fenced { .. })));
    assert_eq!(publisher.end(&topic()).await.unwrap().1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_cache_changes_nothing_but_the_speed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = BusSettings { cache_bytes: 1000, ..BusSettings::default() };
    let bus = EmbeddedBus::open(folder.path(), settings, Arc::new(SystemClock)).unwrap();
    for n in 0..50 {
        bus.publish(&topic(), page([noise(n, 700), noise(n, 5000)]), None).await.unwrap();
    }
    let messages = read_all(&bus, &topic()).await;
    assert_eq!(messages.len(), 100);
    for (n, pair) in messages.chunks(2).enumerate() {
        assert_eq!(pair[1].payload, noise(n as u64, 5000));
    }
    assert!(bus.stats().unwrap().cache_bytes <= 1000);
}

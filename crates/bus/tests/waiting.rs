//! Who waits for the embedded bus does not wait for ever, and who stops waiting breaks nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alluvium_bus::testkit::noise;
use alluvium_bus::{BusSettings, EmbeddedBus, TopicStats};
use alluvium_model::{BusError, Clock, EntityId, Publisher, SystemClock};
use jiff::Timestamp;

use crate::support::{open, page, topic};

/// Long for a machine with much else to do, short beside the patience with a slow disk.
const SOON: Duration = Duration::from_secs(60);

/// Opens the folder as soon as nobody has it any more.
async fn open_again(path: &Path) -> Arc<EmbeddedBus> {
    let opening = async {
        loop {
            match EmbeddedBus::open(path, BusSettings::default(), Arc::new(SystemClock)) {
                Err(BusError::Unavailable(_)) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    };
    tokio::time::timeout(SOON, opening).await.expect("somebody keeps the folder")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_creator_went_away_shares_its_number_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let names: Vec<EntityId> = (0..8).map(|n| format!("shop.t{n}").parse().unwrap()).collect();
    for name in &names {
        // Whoever publishes waits for the disk, and gives up at once.
        let gone = tokio::time::timeout(Duration::ZERO, bus.publish(name, page([vec![1]]), None));
        drop(gone.await);
    }
    bus.publish(&topic(), page([noise(1, 100)]), None).await.unwrap();
    let all_there = async {
        while bus.topic_stats().len() < names.len() + 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, all_there).await.expect("each topic is made to the end");
    bus.close().await;
    let before = bus.topic_stats();
    drop(bus);
    let names = |stats: Vec<TopicStats>| -> Vec<_> {
        stats.into_iter().map(|stats| (stats.topic, stats.epoch)).collect()
    };
    let after = open_again(folder.path()).await.topic_stats();
    assert_eq!(names(after), names(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_room_is_told_when_the_bus_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = BusSettings { max_unlanded_bytes: 1000, ..BusSettings::default() };
    let bus = EmbeddedBus::open(folder.path(), settings, Arc::new(SystemClock)).unwrap();
    bus.publish(&topic(), page([vec![1; 900]]), None).await.unwrap();
    // One waits for room, the others for their turn.
    let wait = |_| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { bus.publish(&topic(), page([vec![1; 900]]), None).await })
    };
    let waiting: Vec<_> = (0..3).map(wait).collect();
    bus.close().await;
    for publisher in waiting {
        let told = tokio::time::timeout(SOON, publisher).await.expect("a publisher hangs").unwrap();
        assert!(matches!(told, Err(BusError::Unavailable(_))), "{told:?}");
    }
}

/// A clock that breaks the thread that asks it.
#[derive(Debug, Default)]
struct BrokenClock {
    is_broken: AtomicBool,
}

impl Clock for BrokenClock {
    fn now(&self) -> Timestamp {
        assert!(!self.is_broken.load(Ordering::Relaxed), "the clock is broken, as it is to be");
        SystemClock.now()
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_whose_writer_broke_down_says_so_and_can_be_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(BrokenClock::default());
    let bus =
        EmbeddedBus::open(folder.path(), BusSettings::default(), Arc::clone(&clock) as _).unwrap();
    bus.publish(&topic(), page([vec![1]]), None).await.unwrap();
    clock.is_broken.store(true, Ordering::Relaxed);
    let asking = async {
        for _ in 0..3 {
            let told = bus.publish(&topic(), page([vec![2]]), None).await;
            assert!(matches!(told, Err(BusError::Unavailable(_))), "{told:?}");
        }
        bus.retain().await;
        bus.close().await;
    };
    tokio::time::timeout(SOON, asking)
        .await
        .expect("somebody waits for a writer that is not there");
    drop(bus);
    assert_eq!(open_again(folder.path()).await.end(&topic()).await.unwrap().1, 1);
}

//! The embedded bus keeps the contract of all buses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_bus::contract::{AgingBus, BoundedBus, BusUnderTest, Ends, settings};
use alluvium_bus::{Bus, BusSettings, EmbeddedBus};
use alluvium_model::clock::ManualClock;
use alluvium_testkit::SmallDisk;
use async_trait::async_trait;
use tempfile::TempDir;

use crate::support::clock;

struct Embedded {
    folder: TempDir,
    clock: Arc<ManualClock>,
    bus: Mutex<Option<Arc<EmbeddedBus>>>,
    disk: Mutex<Option<SmallDisk>>,
}

impl Embedded {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: clock(), bus: Mutex::default(), disk: Mutex::default() }
    }

    /// Opens the bus on the small disk, which alone is its bound.
    fn open_on_disk(&self) -> Option<Ends> {
        let disk = self.disk.lock().unwrap();
        let settings = BusSettings { max_unlanded_bytes: u64::MAX, ..settings() };
        let clock = Arc::clone(&self.clock);
        let bus = EmbeddedBus::open(disk.as_ref()?.path(), settings, clock).unwrap();
        *self.bus.lock().unwrap() = Some(Arc::clone(&bus));
        Some((Arc::clone(&bus) as _, bus))
    }
}

#[async_trait]
impl BusUnderTest for Embedded {
    async fn open(&self) -> Ends {
        let clock = Arc::clone(&self.clock);
        let bus = EmbeddedBus::open(self.folder.path(), settings(), clock).unwrap();
        *self.bus.lock().unwrap() = Some(Arc::clone(&bus));
        (Arc::clone(&bus) as _, bus)
    }

    fn whole(&self) -> Arc<dyn Bus> {
        self.bus.lock().unwrap().clone().unwrap()
    }

    async fn restart(&self) -> Ends {
        let bus = self.bus.lock().unwrap().take().unwrap();
        assert_eq!(Arc::strong_count(&bus), 1, "somebody still holds the bus");
        drop(bus);
        self.open().await
    }

    async fn lose(&self) -> Ends {
        drop(self.bus.lock().unwrap().take());
        std::fs::remove_dir_all(self.folder.path()).unwrap();
        // Whoever loses a disk takes longer than this.
        self.clock.advance(Duration::from_secs(1));
        self.open().await
    }
}

#[async_trait]
impl AgingBus for Embedded {
    async fn grow_old(&self) {
        self.clock.advance(Duration::from_secs(2 * 3600));
        let bus = self.bus.lock().unwrap().clone().unwrap();
        bus.retain().await;
    }
}

/// What the engine keeps beside the messages, in KiB.
const ENGINE: u64 = 4 << 10;

#[async_trait]
impl BoundedBus for Embedded {
    async fn open_with_a_store_of(&self, bytes: u64) -> Option<Ends> {
        *self.disk.lock().unwrap() = SmallDisk::in_sight((ENGINE + (bytes >> 10)) as u32);
        self.open_on_disk()
    }

    async fn fill(&self) {
        assert!(self.disk.lock().unwrap().as_ref().unwrap().squeeze(48));
    }

    async fn make_room(&self, ends: Ends) -> Ends {
        drop((self.bus.lock().unwrap().take(), ends));
        self.disk.lock().unwrap().as_ref().unwrap().make_room();
        self.open_on_disk().unwrap()
    }
}

alluvium_bus::bus_contract!(Embedded::new(), aging, bounded);

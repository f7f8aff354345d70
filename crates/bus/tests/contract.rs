//! The embedded bus keeps the contract of all buses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_bus::contract::{AgingBus, BusUnderTest, Ends, settings};
use alluvium_bus::{Bus, EmbeddedBus};
use alluvium_model::clock::ManualClock;
use async_trait::async_trait;
use tempfile::TempDir;

use crate::support::clock;

struct Embedded {
    folder: TempDir,
    clock: Arc<ManualClock>,
    bus: Mutex<Option<Arc<EmbeddedBus>>>,
}

impl Embedded {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: clock(), bus: Mutex::default() }
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

alluvium_bus::bus_contract!(Embedded::new(), aging);

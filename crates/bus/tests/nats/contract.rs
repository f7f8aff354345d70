//! The bus on NATS keeps the contract of all buses.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluvium_bus::contract::{AgingBus, BoundedBus, BrokeredBus, BusUnderTest, Ends};
use alluvium_bus::{Bus, NatsBus, NatsSettings};
use alluvium_model::{Clock, SystemClock};
use alluvium_testkit::NatsServer;
use async_trait::async_trait;
use jiff::Timestamp;

use super::settings;

/// The machine's clock, or one that goes before it: the server has its own.
#[derive(Debug, Default)]
struct Shifted(Mutex<Duration>);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock().unwrap()
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

struct Nats {
    server: Mutex<NatsServer>,
    clock: Arc<Shifted>,
    bus: Mutex<Option<Arc<NatsBus>>>,
}

impl Nats {
    fn new(server: NatsServer) -> Self {
        Self { server: Mutex::new(server), clock: Arc::default(), bus: Mutex::default() }
    }

    fn settings(&self) -> NatsSettings {
        settings(&self.server.lock().unwrap())
    }

    async fn open_with(&self, settings: NatsSettings) -> Ends {
        let bus = NatsBus::connect(settings, Arc::clone(&self.clock) as _).await.unwrap();
        *self.bus.lock().unwrap() = Some(Arc::clone(&bus));
        (Arc::clone(&bus) as _, bus)
    }

    /// Kills the server, does something to its folder, and starts it again.
    fn restart_server(&self, between: impl FnOnce(&NatsServer)) {
        tokio::task::block_in_place(|| {
            let mut server = self.server.lock().unwrap();
            server.server.kill();
            between(&server);
            server.server.resume();
        });
    }
}

#[async_trait]
impl BusUnderTest for Nats {
    async fn open(&self) -> Ends {
        self.open_with(self.settings()).await
    }

    fn whole(&self) -> Arc<dyn Bus> {
        self.bus.lock().unwrap().clone().unwrap()
    }

    async fn restart(&self) -> Ends {
        let bus = self.bus.lock().unwrap().take().unwrap();
        assert_eq!(Arc::strong_count(&bus), 1, "somebody still holds the bus");
        drop(bus);
        self.restart_server(|_| {});
        self.open().await
    }

    async fn lose(&self) -> Ends {
        drop(self.bus.lock().unwrap().take());
        self.restart_server(|server| {
            std::fs::remove_dir_all(server.server.folder().join("store")).unwrap();
        });
        self.open().await
    }
}

#[async_trait]
impl AgingBus for Nats {
    async fn grow_old(&self) {
        *self.clock.0.lock().unwrap() += Duration::from_secs(2 * 3600);
        let bus = self.bus.lock().unwrap().clone().unwrap();
        bus.retain().await.unwrap();
    }
}

#[async_trait]
impl BoundedBus for Nats {
    async fn open_with_a_store_of(&self, bytes: u64) -> Option<Ends> {
        let settings = NatsSettings {
            max_stream_bytes: Some(bytes),
            max_unlanded_bytes: u64::MAX,
            ..self.settings()
        };
        Some(self.open_with(settings).await)
    }

    /// The server has its bound, and holds to it to the byte.
    async fn fill(&self) {}

    /// What raw has landed goes.
    async fn make_room(&self, ends: Ends) -> Ends {
        ends
    }
}

#[async_trait]
impl BrokeredBus for Nats {
    async fn kill_the_broker(&self) {
        self.restart_server(|_| {});
    }
}

alluvium_bus::bus_contract!(Nats::new(super::server!()), aging, bounded, brokered);

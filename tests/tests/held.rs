//! Workers that are stopped past their leases while a write of theirs is under way, which arrives
//! when another has gone on with the work: for each layer a request to the store, for a poller a page
//! of its source.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium_testkit::{Fault, Gate, NatsServer, PostgresServer, S3Proxy, S3Server, free_port};
use alluvium_tests::http::{Answer, Server};
use alluvium_tests::platform::{MAP, on_nats};
use alluvium_tests::workers::{PATIENCE, await_all, await_return, await_rows, count, worker};
use alluvium_tests::{Running, TestPlatform, Workload, until};
use serde_json::{Value, json};

use crate::bucket;
use crate::lost_bus::assert_proved;
use crate::thread::{assert_same, versions};
use crate::woken::{owner, pass_to, settings};

/// Each layer, and what the addresses of its writes hold: raw's objects, and entries of tables' logs.
const WRITES: [(&str, &str); 3] = [
    ("raw", "/raw/shop/customers/"),
    ("bronze", "/bronze/shop/customers/_delta_log/0"),
    ("silver", "/silver/shop/customers/_delta_log/0"),
];

/// Two workers on NATS, PostgreSQL and S3.
struct Site {
    workers: Vec<Running>,
    ports: [u16; 2],
    desk: TestPlatform,
    store: S3Proxy,
    changes: Workload,
    files: u64,
    _servers: (NatsServer, PostgresServer, S3Server),
}

impl Site {
    fn new() -> Option<Self> {
        let servers = (NatsServer::start()?, PostgresServer::start()?, S3Server::start()?);
        let store = servers.2.proxy();
        let desk = bucket::shop_in(&store.endpoint(), "held");
        let settings = bucket::settings(&store.endpoint(), "held")
            + &format!(
                "[ledger]\nurl = \"{}\"\nmax_connections = 4\n\
                 [layers]\nraw_linger_time = \"300ms\"\n[runtime]\nlease_time = \"5s\"\n",
                servers.1.url()
            );
        desk.write("alluvium.toml", &on_nats(&settings, &servers.0, "alluvium"));
        let ports = [free_port(), free_port()];
        let start = |at: usize| worker(&desk, ["a", "b"][at], ports[at], &[]);
        let workers = vec![start(0), start(1)];
        await_all(&ports);
        let changes = Workload::new(41);
        Some(Self { workers, ports, desk, store, changes, files: 0, _servers: servers })
    }

    /// So many changes, of which the last makes a version. Nobody waits until they have landed.
    fn publish(&mut self, count: u64) {
        let lines = match self.files {
            0 => self.changes.inserts(count),
            _ => self.changes.changes(count - 1) + &self.changes.inserts(1),
        };
        self.files += 1;
        let file = self.desk.write(&format!("changes-{}.ndjson", self.files), &lines);
        let file = file.to_str().unwrap();
        self.desk.run_holding(&["publish", "shop.customers", file, "--map", MAP, "-q"]).ok();
    }

    /// Waits until silver has all of it: the last change makes the last version.
    fn landed(&self) {
        await_rows(&self.desk, "silver.shop.customers", self.changes.version_count());
    }

    /// Stops the owner of a layer while a write of this layer is on its way, and lets it arrive when
    /// the other one has landed everything. Tells who it was.
    fn oversleep(&mut self, layer: &str, part: &str) -> usize {
        let gate = Gate::default();
        self.store.script("PUT", part, 1, Fault::Hold(gate.clone()));
        self.publish(300);
        let address = gate.until_held(PATIENCE);
        assert_eq!(self.store.stored(&address), None, "{address} is written already");
        let lease = format!("{layer}/shop.customers");
        let (asleep, work) = owner(&self.desk, &self.workers, &lease);
        self.workers[asleep].signal("STOP");
        pass_to(&self.desk, &self.workers[1 - asleep], &work);
        self.landed();
        let heirs = until("what the heir writes there", PATIENCE, || self.store.stored(&address));

        self.workers[asleep].signal("CONT");
        assert_eq!(gate.release(PATIENCE), 412, "{address} was written by the heir");
        assert!(self.store.stored(&address) == Some(heirs), "{address} is not the heir's any more");
        await_return(self.ports[asleep], "shop.customers", PATIENCE);
        let said = self.workers[asleep].stderr();
        assert!(self.workers[asleep].ended().is_none(), "who wakes goes on: {said}");
        asleep
    }
}

#[test]
fn a_write_under_way_when_its_layers_owner_is_stopped_changes_nothing_when_it_arrives() {
    let Some(mut site) = Site::new() else { return };
    site.publish(1_000);
    site.landed();
    let mut asleep = 0;
    for (layer, part) in WRITES {
        asleep = site.oversleep(layer, part);
    }
    // Who slept last is of use: alone it lands what comes next.
    assert!(site.workers.remove(1 - asleep).terminate(60).success());
    site.publish(300);
    site.landed();
    for layer in ["raw", "bronze"] {
        await_rows(&site.desk, &format!("{layer}.shop.customers"), site.changes.count());
    }
    assert!(site.workers.remove(0).terminate(60).success());

    for layer in ["raw", "bronze"] {
        let records = count(&site.desk, &format!("{layer}.shop.customers"));
        assert_eq!(records, Some(site.changes.count()), "{layer} has each change once");
    }
    assert_same(&versions(&site.desk), &site.changes.expected());
    assert_proved(&site.desk);
}

/// The source gives nothing of what came after its first row.
const NOTHING: usize = 0;
/// It gives its second row, to one poller after the other, and holds it as long as it has gates.
const HELD: usize = 1;

/// A source of two rows. Who asks first for the second gets a page that no other poller gets.
fn source(stage: &Arc<AtomicUsize>, gates: &[Gate]) -> Server {
    let (stage, gates) = (Arc::clone(stage), gates.to_vec());
    let page = |id: u64, name: &str| Answer::json(json!([{"id": id, "name": name}]));
    Server::answering(move |path| {
        if !path.contains("since=") {
            return page(1, "first");
        }
        if !path.contains("since=1") {
            return Answer::json(json!([]));
        }
        let always = Ordering::SeqCst;
        let next = |at| (HELD..=gates.len()).contains(&at).then_some(at + 1);
        let name = |at| if at == HELD { "to who sleeps" } else { "to the heir" };
        match stage.fetch_update(always, always, next) {
            Ok(at) => Answer::Held(gates[at - HELD].clone(), Box::new(page(2, name(at)))),
            Err(NOTHING) => Answer::json(json!([])),
            Err(at) => page(2, name(at)),
        }
    })
}

/// A project that polls it each second.
fn feed(nats: &NatsServer, postgres: &PostgresServer, source: &Server) -> TestPlatform {
    let platform = TestPlatform::empty();
    let systems = json!({"systems": [{
        "name": "feed", "type": "rest", "triggers": [{"type": "interval", "seconds": 1}],
        "connection": {"base_url": source.url(), "timeout_seconds": 600}
    }]});
    let entities = json!({"entities": [{
        "system": "feed", "name": "events", "load": "delta", "keys": ["id"],
        "source": {
            "path": "/events",
            "incremental": {"column": "id", "param": "since", "format": "raw"}
        },
        "columns": [
            {"name": "id", "type": "long", "nullable": false},
            {"name": "name", "type": "string"}
        ]
    }]});
    platform.write("alluvium.toml", &settings(&platform, nats, postgres));
    platform.write("systems.json", &systems.to_string());
    platform.write("entities.json", &entities.to_string());
    platform
}

fn names(platform: &TestPlatform) -> Vec<Value> {
    let rows = platform.query("SELECT name FROM silver.feed.events ORDER BY id, _valid_from");
    rows.into_iter().map(|mut row| row["name"].take()).collect()
}

#[test]
fn a_page_under_way_when_its_poller_is_stopped_is_refused_when_he_wakes_with_it() {
    wakes_with_a_page(&[Gate::default()]);
}

#[test]
fn a_page_under_way_is_refused_also_where_the_heir_has_published_nothing_yet() {
    wakes_with_a_page(&[Gate::default(), Gate::default()]);
}

/// The second gate, if there is one, holds the page of the heir.
fn wakes_with_a_page(gates: &[Gate]) {
    let Some(nats) = NatsServer::start() else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let stage = Arc::new(AtomicUsize::new(NOTHING));
    let source = source(&stage, gates);
    let platform = feed(&nats, &postgres, &source);
    let ports = [free_port(), free_port()];
    let start = |at: usize| worker(&platform, ["a", "b"][at], ports[at], &[]);
    let mut workers = vec![start(0), start(1)];
    await_all(&ports);
    await_rows(&platform, "silver.feed.events", 1);

    stage.store(HELD, Ordering::SeqCst);
    gates[0].until_held(PATIENCE);
    let (asleep, work) = owner(&platform, &workers, "poll/feed.events");
    workers[asleep].signal("STOP");
    // The page waits for who sleeps, behind his back.
    assert_eq!(gates[0].release(PATIENCE), 200);
    pass_to(&platform, &workers[1 - asleep], &work);
    match gates.get(1) {
        Some(gate) => drop(gate.until_held(PATIENCE)),
        None => await_rows(&platform, "silver.feed.events", 2),
    }

    let before = workers[asleep].stderr().len();
    match gates.get(1) {
        // Nobody tells who wakes that his lease is over.
        Some(_) => {
            postgres.server.freeze();
            workers[asleep].signal("CONT");
            // Time to write, for who would.
            std::thread::sleep(Duration::from_secs(1));
            postgres.server.thaw();
        }
        None => workers[asleep].signal("CONT"),
    }
    until("the end of the poll that was under way", PATIENCE, || {
        workers[asleep].stderr()[before..].contains("entity failed").then_some(())
    });
    if let Some(gate) = gates.get(1) {
        assert_eq!(names(&platform), ["first"], "who woke wrote all the same");
        assert_eq!(gate.release(PATIENCE), 200);
    }
    await_return(ports[asleep], "feed.events", PATIENCE);
    for layer in ["raw", "bronze", "silver"] {
        await_rows(&platform, &format!("{layer}.feed.events"), 2);
    }
    for worker in &mut workers {
        assert!(worker.ended().is_none(), "who wakes goes on: {}", worker.stderr());
    }
    for worker in workers {
        assert!(worker.terminate(60).success());
    }

    assert_eq!(names(&platform), ["first", "to the heir"]);
    for layer in ["raw", "bronze"] {
        let records = count(&platform, &format!("{layer}.feed.events"));
        assert_eq!(records, Some(2), "{layer} has each page once");
    }
    assert_proved(&platform);
}

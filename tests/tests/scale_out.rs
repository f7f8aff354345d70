//! More than one process: three workers on NATS, PostgreSQL and S3, as on three machines, of which one
//! is killed and one comes back when others have its work.

use std::collections::BTreeMap;

use alluvium_testkit::{NatsServer, PostgresServer, S3Proxy, S3Server};
use alluvium_tests::platform::on_nats;
use alluvium_tests::{Running, TestPlatform, Workload, until};
use serde_json::{Value, json};

use crate::bucket;
use crate::lost_bus::{assert_proved, sqlite};
use crate::thread::{assert_same, versions};

/// Roles of three workers: each role is taken by two of them.
const ROLES: [&str; 3] = ["connect,raw", "bronze,silver", "connect,raw,bronze,silver,api"];

/// The servers, and what all machines are told of them.
struct Site {
    /// Where there is no worker: whoever works here publishes, asks and proves.
    desk: TestPlatform,
    settings: String,
    systems: Value,
    entities: Value,
    store: S3Proxy,
    /// So many rows the till has.
    sold: u64,
    /// So many files were published.
    files: u64,
    _servers: (NatsServer, PostgresServer, S3Server),
}

impl Site {
    fn new() -> Option<Self> {
        let servers = (NatsServer::start()?, PostgresServer::start()?, S3Server::start()?);
        // It lets requests through one after the other: the store's own threads would create one
        // object twice.
        let store = servers.2.proxy();
        let desk = bucket::shop_in(&store.endpoint(), "scale");
        let settings = bucket::settings(&store.endpoint(), "scale")
            + &format!(
                "[ledger]\nurl = \"{}\"\nmax_connections = 4\n\
                 [layers]\nraw_linger_time = \"300ms\"\n[runtime]\nlease_time = \"3s\"\n",
                servers.1.url()
            );
        let settings = on_nats(&settings, &servers.0, "alluvium");
        let (mut systems, mut entities) = alluvium_tests::workload::metadata();
        systems["systems"].as_array_mut().unwrap().push(json!({
            "name": "till", "type": "sqlite", "triggers": [{"type": "interval", "seconds": 1}],
            "connection": {"path": desk.folder().join("source.db")}
        }));
        entities["entities"].as_array_mut().unwrap().push(json!({
            "system": "till", "name": "sales", "load": "delta", "keys": ["id"],
            "source": {"table": "sales", "cursor_column": "id"}
        }));
        sqlite(&desk, "CREATE TABLE sales (id INTEGER PRIMARY KEY, total INTEGER)");
        let (sold, files, _servers) = (0, 0, servers);
        let site = Self { desk, settings, systems, entities, store, sold, files, _servers };
        site.furnish(&site.desk);
        Some(site)
    }

    fn furnish(&self, machine: &TestPlatform) {
        machine.write("alluvium.toml", &self.settings);
        machine.write("systems.json", &self.systems.to_string());
        machine.write("entities.json", &self.entities.to_string());
    }

    /// A machine with a data folder of its own.
    fn machine(&self) -> TestPlatform {
        let machine = bucket::shop_in(&self.store.endpoint(), "scale");
        self.furnish(&machine);
        machine
    }

    /// Publishes until all layers have it. It is begun again where it does not end well, and goes on
    /// where it was.
    fn publish(&mut self, lines: &str) {
        self.files += 1;
        let file = self.desk.write(&format!("changes-{}.ndjson", self.files), lines);
        until("the end of a file", 180, || {
            let published = self.desk.publish(&file);
            if published.code != 0 {
                eprintln!("{}", published.stderr);
            }
            (published.code == 0).then_some(())
        });
    }

    /// So many more rows come into the till.
    fn sell(&mut self, count: u64) {
        let ids = self.sold + 1..=self.sold + count;
        let rows: Vec<String> = ids.map(|id| format!("({id}, {})", id * 10)).collect();
        sqlite(&self.desk, &format!("INSERT INTO sales VALUES {}", rows.join(", ")));
        self.sold += count;
    }

    /// Waits until everything that the till has is in silver.
    fn await_sales(&self) {
        until("what the till has", 120, || {
            let sql = "SELECT count(*) AS n FROM silver.till.sales";
            let found = self.desk.run(&["query", sql, "-o", "ndjson"]);
            // Before the first row there is no table.
            let row = found.rows().into_iter().next()?;
            (found.code == 0 && row["n"] == self.sold).then_some(())
        });
    }

    /// Which of the workers has this piece of work.
    fn owner(&self, workers: &[Running], lease: &str) -> usize {
        until(&format!("an owner of {lease}"), 60, || {
            let holder = holders(&self.desk).remove(lease)?;
            workers.iter().position(|worker| is_of(worker, &holder))
        })
    }
}

/// Who has each piece of work, or had it last, as the ledger tells. Nobody, where it does not tell.
pub(crate) fn holders(platform: &TestPlatform) -> BTreeMap<String, String> {
    let sql = "SELECT name, holder FROM ledger.lease";
    let asked = platform.run(&["query", sql, "-o", "ndjson"]);
    let rows = if asked.code == 0 { asked.rows() } else { Vec::new() };
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "name"), text(row, "holder"))).collect()
}

/// Whether a holder is this worker.
pub(crate) fn is_of(worker: &Running, holder: &str) -> bool {
    holder.starts_with(&format!("{}-", worker.id()))
}

#[test]
fn three_workers_go_on_where_one_is_killed_and_where_one_comes_back_too_late() {
    let Some(mut site) = Site::new() else { return };
    let machines = ROLES.map(|roles| (site.machine(), roles));
    let start = |at: usize| machines[at].0.spawn(&["run", "--roles", machines[at].1]);
    let mut workers = [start(0), start(1), start(2)];
    let mut changes = Workload::new(77);
    site.publish(&changes.inserts(1_500));
    site.sell(200);
    site.await_sales();

    let killed = site.owner(&workers, "triggers/till");
    workers[killed].signal("KILL");
    site.sell(200);
    site.publish(&changes.changes(800));
    site.await_sales();
    workers[killed] = start(killed);
    site.publish(&changes.changes(800));

    // The file is landed when another worker has silver, and so the lease of who sleeps has run out.
    let asleep = site.owner(&workers, "silver/shop.customers");
    workers[asleep].signal("STOP");
    site.sell(200);
    site.publish(&changes.changes(800));
    assert_ne!(site.owner(&workers, "silver/shop.customers"), asleep);
    workers[asleep].signal("CONT");
    site.publish(&changes.changes(800));
    site.sell(200);
    site.await_sales();
    for worker in workers {
        let status = worker.terminate(60);
        assert!(status.success(), "{status}");
    }
    // The last poll came when nobody was left to land it in every layer.
    site.desk.run_holding(&["ingest", "till"]).ok();

    assert_same(&versions(&site.desk), &changes.expected());
    for layer in ["raw", "bronze"] {
        let records = site.desk.number(&format!("SELECT count(*) FROM {layer}.shop.customers"));
        assert_eq!(records, changes.count(), "{layer} has each change once");
    }
    let sales = "SELECT id, total, _is_current AS open FROM silver.till.sales ORDER BY id";
    let row = |id: u64| json!({"id": id, "total": id * 10, "open": true});
    assert_eq!(site.desk.query(sales), (1..=site.sold).map(row).collect::<Vec<_>>());
    assert_proved(&site.desk);
}

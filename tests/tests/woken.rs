//! Workers that are stopped where they stand for longer than their leases last, and wake after others
//! have taken over: real processes, on NATS and PostgreSQL.

use std::time::Duration;

use alluvium_testkit::{NatsServer, PostgresServer};
use alluvium_tests::platform::{QUIET, on_nats};
use alluvium_tests::workers::PATIENCE;
use alluvium_tests::workload::Random;
use alluvium_tests::{Running, TestPlatform, until};
use serde_json::json;

use crate::lost_bus::{assert_proved, sqlite};
use crate::scale_out::{holders, is_of};

/// Rows that come at once.
const ROWS: u64 = 3_000;

/// The settings of a project whose workers are on one machine: its lake is in a folder.
pub(crate) fn settings(
    platform: &TestPlatform,
    nats: &NatsServer,
    postgres: &PostgresServer,
) -> String {
    let lake = platform.folder().join("lake");
    let settings = format!(
        "{QUIET}\n[ledger]\nurl = \"{}\"\n\n[lake]\npath = {lake:?}\n\n\
         [layers]\nraw_linger_time = \"1s\"\n\n[runtime]\nlease_time = \"5s\"\n",
        postgres.url()
    );
    on_nats(&settings, nats, "alluvium")
}

/// A shop whose orders are read every second.
pub(crate) fn house(nats: &NatsServer, postgres: &PostgresServer) -> TestPlatform {
    let platform = TestPlatform::empty();
    let systems = json!({"systems": [{
        "name": "shop", "type": "sqlite", "connection": {"path": "source.db"},
        "triggers": [{"type": "interval", "seconds": 1}]
    }]});
    let entities = json!({"entities": [{
        "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
        "source": {"table": "orders", "cursor_column": "id"}
    }]});
    platform.write("alluvium.toml", &settings(&platform, nats, postgres));
    platform.write("systems.json", &systems.to_string());
    platform.write("entities.json", &entities.to_string());
    sqlite(&platform, "CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)");
    platform
}

/// The rows up to this id.
pub(crate) fn insert(platform: &TestPlatform, from: u64, to: u64) {
    let numbers = format!(
        "WITH RECURSIVE n(id) AS (SELECT {from} UNION ALL SELECT id + 1 FROM n WHERE id < {to}) \
         INSERT INTO orders SELECT id, id * 10 FROM n"
    );
    sqlite(platform, &numbers);
}

/// Waits until silver has all rows, each once.
pub(crate) fn landed(platform: &TestPlatform, rows: u64) {
    let sql = "SELECT count(*) AS versions, count(DISTINCT id) AS ids FROM silver.shop.orders";
    until("all rows in silver", PATIENCE, || {
        // There is no table before the first of them.
        let asked = platform.run(&["query", sql, "-o", "ndjson"]);
        (asked.code == 0 && asked.rows()[0] == json!({"versions": rows, "ids": rows})).then_some(())
    });
}

/// Which of the workers has a piece of work, and all that this one has.
pub(crate) fn owner(
    platform: &TestPlatform,
    workers: &[Running],
    lease: &str,
) -> (usize, Vec<String>) {
    until(&format!("an owner of {lease}"), PATIENCE, || {
        let holders = holders(platform);
        let holder = holders.get(lease)?;
        let at = workers.iter().position(|worker| is_of(worker, holder))?;
        let its = holders.iter().filter(|(_, holder)| is_of(&workers[at], holder));
        Some((at, its.map(|(name, _)| name.clone()).collect()))
    })
}

/// Waits until all of this work is another's.
pub(crate) fn pass_to(platform: &TestPlatform, heir: &Running, work: &[String]) {
    until("another owner of all work of who sleeps", PATIENCE, || {
        let holders = holders(platform);
        let passed = |name: &String| holders.get(name).is_some_and(|holder| is_of(heir, holder));
        work.iter().all(passed).then_some(())
    });
}

#[test]
fn workers_that_are_stopped_past_their_leases_and_woken_leave_nothing_out_and_nothing_twice() {
    let Some(nats) = NatsServer::start() else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let platform = house(&nats, &postgres);
    let worker = |name: &str| {
        let data = format!("data=data-{name}");
        platform.spawn_beside(&format!("{name}-"), &["run", "--set", &data])
    };
    let mut workers: Vec<Running> = vec![worker("a")];
    insert(&platform, 1, ROWS);
    landed(&platform, ROWS);
    let (mut random, mut rows) = (Random::new(17), ROWS);
    // First the one that has everything, then whoever has this.
    for lease in ["silver/shop.orders", "raw/shop.orders", "triggers/shop", "silver/shop.orders"] {
        let (stopped, work) = owner(&platform, &workers, lease);
        insert(&platform, rows + 1, rows + ROWS);
        rows += ROWS;
        // The moment is what is tested; there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(random.below(1_500)));
        workers[stopped].signal("STOP");
        if workers.len() == 1 {
            workers.push(worker("b"));
        }
        pass_to(&platform, &workers[1 - stopped], &work);
        landed(&platform, rows);
        workers[stopped].signal("CONT");
    }
    // Alone, nobody could have asked it for what it had: its leases ran out in its hands.
    until("the end of its leases to be noticed", PATIENCE, || {
        workers[0].stderr().contains("a lease was lost").then_some(())
    });
    insert(&platform, rows + 1, rows + ROWS);
    landed(&platform, rows + ROWS);
    for mut worker in workers {
        assert!(worker.ended().is_none(), "who wakes goes on: {}", worker.stderr());
        assert!(worker.terminate(60).success());
    }
    // The last poll came when nobody was left to land it in every layer.
    platform.run_holding(&["ingest", "shop"]).ok();
    assert_proved(&platform);
}

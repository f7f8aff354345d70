//! Workers that are stopped where they stand for longer than their leases last, and wake after others
//! have taken over: real processes, on NATS and PostgreSQL.

use std::time::Duration;

use alluvium_testkit::{NatsServer, PostgresServer};
use alluvium_tests::workload::Random;
use alluvium_tests::{Running, TestPlatform, until};
use serde_json::json;

use crate::lost_bus::{assert_proved, sqlite};

/// So long it may take until all is landed, whoever has to notice first that another one is gone.
const PATIENCE: u64 = 120;
/// Rows that come at once.
const ROWS: u64 = 3_000;

fn house(nats: &NatsServer, postgres: &PostgresServer) -> TestPlatform {
    let platform = TestPlatform::empty();
    let systems = json!({"systems": [{
        "name": "shop", "type": "sqlite", "connection": {"path": "source.db"},
        "triggers": [{"type": "interval", "seconds": 1}]
    }]});
    let entities = json!({"entities": [{
        "system": "shop", "name": "orders", "load": "delta", "keys": ["id"],
        "source": {"table": "orders", "cursor_column": "id"}
    }]});
    let lake = platform.folder().join("lake");
    let settings = format!(
        "[http]\nenabled = false\n\n[bus]\ntype = \"nats\"\n\n[bus.nats]\nservers = [\"{}\"]\n\n\
         [ledger]\nurl = \"{}\"\nstatement_time = \"3s\"\n\n[lake]\npath = {lake:?}\n\n\
         [layers]\nraw_linger_time = \"1s\"\n\n[runtime]\nlease_time = \"5s\"\n",
        nats.url(),
        postgres.url()
    );
    platform.write("alluvium.toml", &settings);
    platform.write("systems.json", &systems.to_string());
    platform.write("entities.json", &entities.to_string());
    sqlite(&platform, "CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER)");
    platform
}

/// The rows up to this id.
fn insert(platform: &TestPlatform, from: u64, to: u64) {
    let numbers = format!(
        "WITH RECURSIVE n(id) AS (SELECT {from} UNION ALL SELECT id + 1 FROM n WHERE id < {to}) \
         INSERT INTO orders SELECT id, id * 10 FROM n"
    );
    sqlite(platform, &numbers);
}

/// Waits until silver has all rows, each once.
fn landed(platform: &TestPlatform, rows: u64) {
    let sql = "SELECT count(*) AS versions, count(DISTINCT id) AS ids FROM silver.shop.orders";
    until("all rows in silver", PATIENCE, || {
        // There is no table before the first of them.
        let asked = platform.run(&["query", sql, "-o", "ndjson"]);
        (asked.code == 0 && asked.rows()[0] == json!({"versions": rows, "ids": rows})).then_some(())
    });
}

#[test]
fn workers_that_are_stopped_past_their_leases_and_woken_leave_nothing_out_and_nothing_twice() {
    let Some(nats) = NatsServer::start() else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let platform = house(&nats, &postgres);
    let worker = |data: &str| platform.spawn(&["run", "--set", &format!("data={data}")]);
    let mut workers: Vec<Running> = vec![worker("data-a")];
    insert(&platform, 1, ROWS);
    landed(&platform, ROWS);
    workers.push(worker("data-b"));
    let (mut random, mut rows) = (Random::new(17), ROWS);
    // First the one that polls and lands everything, then each with whatever it has.
    for round in 0..4 {
        let stopped = &workers[round % 2];
        insert(&platform, rows + 1, rows + ROWS);
        rows += ROWS;
        // The moment is what is tested; there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(random.below(1_500)));
        stopped.signal("STOP");
        landed(&platform, rows);
        stopped.signal("CONT");
    }
    insert(&platform, rows + 1, rows + ROWS);
    landed(&platform, rows + ROWS);
    for mut worker in workers {
        assert!(worker.ended().is_none(), "who wakes goes on");
        assert!(worker.terminate(60).success());
    }
    assert_proved(&platform);
}

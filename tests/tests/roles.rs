//! Processes that do a part of the work: each what its role is, and nothing else.

use alluvium_testkit::{NatsServer, PostgresServer, free_port};
use alluvium_tests::http::get;
use alluvium_tests::workers::{PATIENCE, await_rows, told, worker};
use alluvium_tests::{Running, TestPlatform, until};
use serde_json::{Value, json};

use crate::lost_bus::assert_proved;
use crate::scale_out::{holders, is_of};
use crate::woken::{house, insert, landed, owner};

const ROLES: [&str; 5] = ["connect", "raw", "bronze", "silver", "api"];

/// Each piece of work, and whose it is.
const WORK: [(&str, &str); 4] = [
    ("triggers/shop", "connect"),
    ("raw/shop.orders", "raw"),
    ("bronze/shop.orders", "bronze"),
    ("silver/shop.orders", "silver"),
];

const ROWS: u64 = 500;

/// Whether it may be this role's. What is done once for all is anybody's.
fn is_for(lease: &str, role: &str) -> bool {
    match lease.split_once('/') {
        Some(("triggers" | "poll", _)) => role == "connect",
        Some((layer, _)) => role == layer,
        None => lease == "house",
    }
}

#[test]
fn five_processes_of_one_role_each_do_what_is_theirs_and_nothing_else() {
    let Some(nats) = NatsServer::start() else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let platform = house(&nats, &postgres);
    insert(&platform, 1, ROWS);
    let ports = ROLES.map(|_| free_port());
    let start = |(role, port): (&&str, &u16)| worker(&platform, role, *port, &["--roles", *role]);
    let workers: Vec<Running> = ROLES.iter().zip(&ports).map(start).collect();
    landed(&platform, ROWS);
    for (lease, role) in WORK {
        let (at, _) = owner(&platform, &workers, lease);
        assert_eq!(ROLES[at], role, "who has {lease}");
    }
    let holders = until("all that somebody has", PATIENCE, || {
        Some(holders(&platform)).filter(|holders| !holders.is_empty())
    });
    for (lease, holder) in &holders {
        let role = workers.iter().position(|worker| is_of(worker, holder)).map(|at| ROLES[at]);
        assert!(role.is_some_and(|role| is_for(lease, role)), "{role:?} has {lease}");
    }
    for (role, port) in ROLES.into_iter().zip(ports) {
        answers_as(role, port);
    }
    for layer in ["raw", "bronze"] {
        await_rows(&platform, &format!("{layer}.shop.orders"), ROWS);
    }
    for worker in workers {
        assert!(worker.terminate(60).success());
    }
    // The last poll came when nobody was left to land it in every layer.
    platform.run_holding(&["ingest", "shop"]).ok();
    assert_proved(&platform);
}

/// Health and status are told by every process, runs only by who has the role.
fn answers_as(role: &str, port: u16) {
    let answer = |path: &str| until(&format!("{role}'s answer"), PATIENCE, || get(port, path));
    assert_eq!(answer("/livez").0, 200, "{role}");
    let worker = until(&format!("{role}'s status"), PATIENCE, || told(port));
    assert_eq!(worker["roles"], json!([role]));
    let (status, body) = answer("/v1/runs?system=shop");
    if role != "api" {
        assert_eq!(status, 404, "{role} lists runs: {body}");
        return;
    }
    assert_eq!(status, 200, "{body}");
    let listed: Value = serde_json::from_str(&body).unwrap();
    let runs = listed["runs"].as_array().unwrap();
    assert!(runs.iter().any(|run| run["trigger"] == "interval"), "{listed}");
}

#[test]
fn on_the_embedded_bus_no_role_is_left_out_for_nobody_else_could_take_it() {
    let platform = TestPlatform::shop();
    let why = ["the embedded bus is open in one process only", "connect, bronze, silver, api"];
    platform.run(&["run", "--roles", "raw"]).ended(2).told(&why);
}

//! Moving house: from one bus to another nothing is lost and nothing comes twice, wherever the move
//! is broken off, and nobody uses the bus that was left.

use std::fs;
use std::path::{Path, PathBuf};

use alluvium_testkit::{KafkaMock, NatsServer, free_port};
use alluvium_tests::http::get;
use alluvium_tests::platform::{MAP, QUIET, copy, on_nats};
use alluvium_tests::{Moments, TestPlatform, Workload, nats, until};
use serde_json::{Value, json};

use crate::lost_bus::{SETTINGS, assert_proved, rows, shop, sqlite};
use crate::thread::versions;

/// Moves, and gives what is told: the topics, and the settings to write.
#[track_caller]
pub(crate) fn migrate(platform: &TestPlatform, to: &str, further: &[&str]) -> Value {
    let args = [&["bus", "migrate", "--to", to, "-o", "json"][..], further].concat();
    serde_json::from_str(&platform.run(&args).ok().stdout).unwrap()
}

/// How many changes of the orders a run polls. It begins with the last row before the cursor.
fn polled(platform: &TestPlatform) -> Value {
    let polled = platform.rows(&["ingest", "shop"]);
    polled.iter().find(|row| row["entity"] == "shop.orders").unwrap()["polled"].clone()
}

#[test]
fn a_house_moves_there_and_back_and_sources_are_read_on_from_where_they_were() {
    let Some(server) = NatsServer::start() else { return };
    let platform = shop();
    platform.run(&["ingest", "shop"]).ok();

    let moved = migrate(&platform, &server.url(), &[]);
    let topics = moved["topics"].as_array().unwrap();
    assert_eq!(topics.len(), 2, "{moved:#}");
    for topic in topics {
        let epochs = [&topic["from_epoch"], &topic["to_epoch"]].map(|e| e.as_u64().unwrap());
        assert!(epochs[0] < epochs[1] && topic["from_end"] != 0, "{topic}");
    }
    let expected = json!([
        {"setting": "bus.type", "value": "nats"},
        {"setting": "bus.nats.servers", "value": server.url()}
    ]);
    assert_eq!(moved["settings"], expected);
    let refusal = format!("the bus has moved to {}", server.url());
    for command in [&["ingest", "shop"][..], &["run"], &["epoch", "accept", "shop"]] {
        platform.run(command).ended(2).told(&[&refusal, "alluvium bus migrate --to"]);
    }
    assert_eq!(migrate(&platform, &server.url(), &[]), moved, "given again, it tells the same");
    let astray = platform.run(&["bus", "migrate", "--to", "kafka://127.0.0.1:9"]).ended(2);
    astray.told(&[&format!("`--to {}`", server.url())]);

    platform.write("alluvium.toml", &on_nats(SETTINGS, &server, "alluvium"));
    sqlite(&platform, "INSERT INTO orders VALUES (3, 30)");
    assert_eq!(polled(&platform), 2, "from the cursor on, its last row once more");
    assert_eq!(rows(&platform, "orders", "id, total").len(), 3);
    assert_eq!(rows(&platform, "people", "id").len(), 2);
    assert_proved(&platform);
    let same = platform.run(&["bus", "migrate", "--to", &server.url()]).ended(2);
    same.told(&["name", "already"]);

    migrate(&platform, "embedded", &[]);
    platform.run(&["ingest", "shop"]).ended(2).told(&["the bus has moved to embedded"]);
    platform.write("alluvium.toml", SETTINGS);
    sqlite(&platform, "INSERT INTO orders VALUES (4, 40)");
    assert_eq!(polled(&platform), 2);
    assert!(!platform.folder().join("data/bus.left").exists());
    assert_proved(&platform);

    let stale = platform.run(&["bus", "migrate", "--to", &server.url()]).ended(2);
    stale.told(&["was left by an earlier move", "prefix"]);
    let told = migrate(&platform, &server.url(), &["--set", "bus.nats.prefix=second"]);
    assert_eq!(told["settings"][2], json!({"setting": "bus.nats.prefix", "value": "second"}));
    let other = platform.run(&["bus", "migrate", "--to", &server.url()]).ended(2);
    other.told(&["this is not the bus", "the same prefix"]);
    platform.write("alluvium.toml", &on_nats(SETTINGS, &server, "second"));
    sqlite(&platform, "INSERT INTO orders VALUES (5, 50)");
    assert_eq!(polled(&platform), 2);
    let orders = rows(&platform, "orders", "id, total");
    assert_eq!(orders.len(), 5, "{orders:#?}");
    assert!(orders.iter().all(|row| row["open"] == true), "{orders:#?}");
    assert_proved(&platform);
}

/// The topics of a shop, on a cluster that makes none by itself.
const ON_KAFKA: [&str; 4] =
    ["alluvium.audit", "alluvium.cursors", "alluvium.shop.orders", "alluvium.shop.people"];

/// The mock cluster knows no transactions and forgets nothing: what these do is shown on real brokers,
/// in the bus's own tests.
#[test]
fn a_house_moves_to_kafka_and_on_from_there() {
    let Some(server) = NatsServer::start() else { return };
    let cluster = KafkaMock::with_topics(ON_KAFKA);
    let (brokers, platform) = (cluster.servers(), shop());
    platform.run(&["ingest", "shop"]).ok();

    let there = format!("kafka://{brokers}");
    let moved = migrate(&platform, &there, &[]);
    assert_eq!(moved["topics"].as_array().unwrap().len(), 2, "{moved:#}");
    let expected = json!([
        {"setting": "bus.type", "value": "kafka"},
        {"setting": "bus.kafka.bootstrap_servers", "value": brokers}
    ]);
    assert_eq!(moved["settings"], expected);
    assert_eq!(migrate(&platform, &there, &[]), moved, "given again, it tells the same");
    platform.run(&["ingest", "shop"]).ended(2).told(&[&format!("the bus has moved to {there}")]);

    let on_kafka = format!(
        "{SETTINGS}\n[bus]\ntype = \"kafka\"\n\n[bus.kafka]\nbootstrap_servers = {brokers:?}\n"
    );
    platform.write("alluvium.toml", &on_kafka);
    sqlite(&platform, "INSERT INTO orders VALUES (3, 30)");
    assert_eq!(polled(&platform), 2, "from the cursor on, its last row once more");
    assert_proved(&platform);

    let moved = migrate(&platform, &server.url(), &[]);
    for topic in moved["topics"].as_array().unwrap() {
        let epochs = [&topic["from_epoch"], &topic["to_epoch"]].map(|e| e.as_u64().unwrap());
        assert!(epochs[0] < epochs[1] && topic["from_end"] != 0, "{topic}");
    }
    let refusal = format!("the bus has moved to {}", server.url());
    platform.run(&["ingest", "shop"]).ended(2).told(&[&refusal]);
    platform.write("alluvium.toml", &on_nats(SETTINGS, &server, "alluvium"));
    sqlite(&platform, "INSERT INTO orders VALUES (4, 40)");
    assert_eq!(polled(&platform), 2);
    let expected: Vec<Value> =
        (1..=4).map(|id| json!({"id": id, "total": id * 10, "open": true})).collect();
    assert_eq!(rows(&platform, "orders", "id, total"), expected);
    assert_eq!(rows(&platform, "people", "id").len(), 2);
    assert_proved(&platform);
}

/// The lake has nothing of what happens meanwhile, as if nobody had landed it yet.
fn set_lake_back(platform: &TestPlatform, meanwhile: impl FnOnce()) {
    let (lake, kept) = (platform.folder().join("data/lake"), platform.folder().join("kept"));
    copy(&lake, &kept);
    meanwhile();
    fs::remove_dir_all(&lake).unwrap();
    fs::rename(&kept, &lake).unwrap();
}

#[test]
fn what_waits_of_a_system_that_is_declared_no_more_is_not_left_behind() {
    let Some(server) = NatsServer::start() else { return };
    let mut changes = Workload::new(53);
    let platform = TestPlatform::shop();
    platform.write("alluvium.toml", &on_nats(QUIET, &server, "alluvium"));
    let files = changes.files(&platform, 2_000, 2, 1_000);
    platform.publish(&files[0]).ok();
    set_lake_back(&platform, || drop(platform.publish(&files[1]).ok()));

    let declared = ["systems.json", "entities.json"]
        .map(|name| (name, fs::read_to_string(platform.folder().join(name)).unwrap()));
    for (name, text) in &declared {
        platform.write(name, &text.replace("\"shop\"", "\"other\""));
    }
    let other = platform.write("other.ndjson", &Workload::new(54).inserts(10));
    let other = other.to_str().unwrap();
    platform.run(&["publish", "other.customers", other, "--map", MAP, "--wait"]).ok();
    let refused = platform.run(&["bus", "migrate", "--to", "embedded"]).ended(1);
    refused.told(&["shop.customers goes up to offset", "declare it again"]);

    for (name, text) in &declared {
        platform.write(name, text);
    }
    // The ledger had heard of what the lake has no more; it is told so when somebody lands on.
    platform.publish(&files[2]).ok();
    let moved = migrate(&platform, "embedded", &[]);
    let topics = moved["topics"].as_array().unwrap().iter().map(|topic| &topic["entity"]);
    assert_eq!(topics.collect::<Vec<_>>(), ["other.customers", "shop.customers"]);
    platform.write("alluvium.toml", QUIET);
    assert_goes_on(&platform, &mut changes);
}

#[test]
fn a_bus_at_which_another_process_is_at_work_is_not_left() {
    let (Some(server), Some(there)) = (NatsServer::start(), NatsServer::start()) else { return };
    let platform = shop();
    let (lake, ledger) = (platform.folder().join("lake"), platform.folder().join("ledger.db"));
    let shared = format!(
        "{SETTINGS}\n[lake]\npath = {lake:?}\n\n[ledger]\npath = {ledger:?}\n\n\
         [runtime]\nlease_time = \"3s\"\n"
    );
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));
    platform.run_holding(&["ingest", "shop"]).ok();
    // It polls only when it is told to, and has no layer.
    let elsewhere = ["run", "--roles", "connect", "--set", "data=elsewhere"];
    let running = platform.spawn(&elsewhere);
    let sql = format!("SELECT name FROM ledger.lease WHERE holder LIKE '{}-%'", running.id());
    until("a lease of the other process", 60, || (!platform.query(&sql).is_empty()).then_some(()));
    let to = there.url();
    platform.run(&["bus", "migrate", "--to", &to]).ended(1).told(&["stop all that use this bus"]);
    assert!(running.terminate(60).success());
    migrate(&platform, &to, &[]);
    platform.write("alluvium.toml", &on_nats(&shared, &there, "alluvium"));
    assert_proved(&platform);
}

#[test]
fn a_bus_where_somebody_lives_is_not_moved_to() {
    let Some(server) = NatsServer::start() else { return };
    let (first, second) = (shop(), shop());
    first.run(&["ingest", "shop"]).ok();
    second.run(&["ingest", "shop"]).ok();
    migrate(&first, &server.url(), &[]);
    second.run(&["bus", "migrate", "--to", &server.url()]).ended(2).told(&["in use since a move"]);
    let third = shop();
    third.write("alluvium.toml", &on_nats(SETTINGS, &server, "third"));
    third.run(&["ingest", "shop"]).ok();
    let url = server.url();
    let args = ["bus", "migrate", "--to", &url, "--set", "bus.nats.prefix=third"];
    second.run(&args).ended(2).told(&["it is no empty bus"]);
    for unmoved in [&second, &third] {
        unmoved.run(&["ingest", "shop"]).ok();
        assert_proved(unmoved);
    }
}

/// The platform of the workload, with changes of it.
fn workload(workload: &mut Workload) -> TestPlatform {
    let platform = TestPlatform::shop();
    for file in workload.files(&platform, 2_000, 3, 1_000) {
        platform.publish(&file).ok();
    }
    platform
}

/// What is published under new settings comes to what was there before the move.
#[track_caller]
fn assert_goes_on(platform: &TestPlatform, workload: &mut Workload) {
    let more = platform.write("more.ndjson", &workload.changes(1_000));
    platform.publish(&more).ok();
    assert_eq!(versions(platform).len() as u64, workload.version_count());
    let records = platform.number("SELECT count(*) FROM bronze.shop.customers");
    assert_eq!(records, workload.count(), "each change once");
    assert_proved(platform);
}

#[test]
fn a_move_that_is_killed_goes_on_when_it_is_given_again() {
    let Some(server) = NatsServer::start() else { return };
    let mut changes = Workload::new(51);
    let platform = workload(&mut changes);
    let before = versions(&platform);
    let url = server.url();
    Moments::new(9, 40..640).kill_each(
        5,
        || platform.spawn(&["bus", "migrate", "--to", &url]),
        || {
            assert_eq!(versions(&platform), before);
            !nats::ends(&server).is_empty()
        },
    );
    let moved = migrate(&platform, &url, &[]);
    assert_eq!(moved["topics"].as_array().unwrap().len(), 1, "{moved:#}");
    platform.run(&["ingest", "shop"]).ended(2).told(&["the bus has moved to"]);
    platform.write("alluvium.toml", &on_nats(QUIET, &server, "alluvium"));
    assert_goes_on(&platform, &mut changes);
}

/// Puts the mark of NATS back to where a move counts and is not at its end.
fn unfinish(server: &NatsServer) {
    let mut mark = nats::stands(server, "move");
    assert_eq!(mark["state"], "arrived", "{mark}");
    mark["state"] = json!("arriving");
    nats::put(server, "move", &mark);
}

/// The files in a folder and below that are called so.
fn called(name: &str, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            called(name, &path, found);
        } else if path.ends_with(name) {
            found.push(path);
        }
    }
}

#[test]
fn between_the_houses_neither_bus_can_be_used_until_the_move_is_at_its_end() {
    let Some(server) = NatsServer::start() else { return };
    let mut changes = Workload::new(52);
    let platform = workload(&mut changes);
    let moved = migrate(&platform, &server.url(), &[]);
    // As if the process had been killed once the old bus was left, before the lake was led on.
    unfinish(&server);
    let url = server.url();
    let mut steps = Vec::new();
    called("follows.json", &platform.folder().join("data/lake/raw"), &mut steps);
    assert_eq!(steps.len(), 1, "{steps:?}");
    fs::remove_file(&steps[0]).unwrap();

    let file = platform.write("none.ndjson", "");
    platform.publish(&file).ended(2).told(&["the bus has moved to"]);
    platform.write("alluvium.toml", &on_nats(QUIET, &server, "alluvium"));
    let unfinished = platform.publish(&file).ended(2);
    unfinished.told(&["is not at its end", "(embedded)", "alluvium bus migrate --to"]);
    platform.write("alluvium.toml", QUIET);
    assert_eq!(migrate(&platform, &url, &[]), moved);
    assert!(steps[0].exists());
    platform.write("alluvium.toml", &on_nats(QUIET, &server, "alluvium"));
    assert_goes_on(&platform, &mut changes);
}

#[test]
fn what_came_at_the_moment_at_which_the_bus_was_left_goes_along() {
    let Some(server) = NatsServer::start() else { return };
    let mut changes = Workload::new(55);
    let platform = TestPlatform::shop();
    let files = changes.files(&platform, 2_000, 1, 1_000);
    platform.publish(&files[0]).ok();
    set_lake_back(&platform, || {
        platform.publish(&files[1]).ok();
        migrate(&platform, &server.url(), &[]);
        unfinish(&server);
    });
    let before = versions(&platform).len();
    let moved = migrate(&platform, &server.url(), &[]);
    assert_ne!(moved["topics"][0]["from_end"], json!(0), "{moved:#}");
    assert!(versions(&platform).len() > before, "it was landed");
    platform.write("alluvium.toml", &on_nats(QUIET, &server, "alluvium"));
    assert_goes_on(&platform, &mut changes);
}

#[test]
fn nobody_moves_while_a_process_is_at_work() {
    let platform = shop();
    let port = free_port();
    platform.write("alluvium.toml", &format!("[http]\nlisten = \"127.0.0.1:{port}\"\n"));
    let running = platform.spawn(&["run"]);
    until("readiness", 30, || get(port, "/readyz").filter(|(status, _)| *status == 200));
    let refused = platform.run(&["bus", "migrate", "--to", "nats://127.0.0.1:9"]).ended(1);
    refused.told(&["another alluvium process uses this data folder"]);
    running.terminate(30);
    platform.run(&["ingest", "shop"]).ok();
}

#[test]
fn an_address_that_is_none_is_refused_and_no_credentials_are_taken_from_the_command_line() {
    let platform = shop();
    let to = |to: &str| platform.run(&["bus", "migrate", "--to", to]).ended(2);
    to("http://127.0.0.1:4222").told(&["nats://HOST:PORT"]);
    let refused = to("nats://me:canary-7@127.0.0.1:4222");
    let said = refused.told(&["credentials do not stand in an address"]);
    assert!(!said.stderr.contains("canary-7"), "{}", said.stderr);
}

//! Who is at work at the very moment at which a bus is left: a process that has found no mark yet, one
//! that stands still meanwhile, and one that publishes what needs no lease. What they are told is
//! published is where the house has moved to, and whatever else they do is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use alluvium_testkit::{NatsLine, NatsServer, PostgresServer};
use alluvium_tests::http::{Answer, Server};
use alluvium_tests::platform::{MAP, QUIET, on_nats};
use alluvium_tests::{Finished, Running, TestPlatform, Workload, nats, until};
use serde_json::{Value, json};

use crate::lost_bus::{assert_proved, rows, shop, sqlite};
use crate::moving::migrate;
use crate::thread::versions;

/// So long a step may take on a machine that has much else to do.
const PATIENCE: u64 = 180;

/// Settings of processes that share the work, but for the bus.
fn shared(platform: &TestPlatform, postgres: &PostgresServer) -> String {
    let lake = platform.folder().join("lake");
    // Who stands still in the middle of a transaction holds nobody up for longer.
    format!(
        "{QUIET}\n[lake]\npath = {lake:?}\n\n[ledger]\nurl = \"{}\"\n\n\
         [runtime]\nlease_time = \"5s\"\n",
        postgres.url()
    )
}

/// A process, on a machine of its own, that has found the bus without a mark and stands before it says
/// that it is there: the password of its ledger comes through a pipe, which it waits for.
fn begun(platform: &TestPlatform, args: &[&str]) -> (Running, File) {
    let gate = platform.folder().join("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let apart = ["--set", "data=elsewhere", "--set", "ledger.password=${file:gate}"];
    let running = platform.spawn_beside("late-", &[args, &apart].concat());
    let (tell, told) = mpsc::channel();
    // A pipe is opened once somebody opens its other end.
    std::thread::spawn(move || drop(tell.send(File::options().write(true).open(gate))));
    match told.recv_timeout(Duration::from_secs(PATIENCE)) {
        Ok(gate) => (running, gate.unwrap()),
        Err(_) => panic!("it asks for no password:\n{}", running.said()),
    }
}

/// Lets it go on. The server asks for no password.
fn go_on(mut gate: File) {
    gate.write_all(b"any").unwrap();
}

/// It goes on, and is told where the bus is now.
#[track_caller]
fn assert_refused((mut running, gate): (Running, File)) {
    go_on(gate);
    let ended = until("the end of who came too late", PATIENCE, || running.ended());
    let said = running.said();
    assert!(said.contains("the bus has moved to"), "{said}");
    assert_eq!(ended.code(), Some(2), "{said}");
}

/// Publishes a file, and waits until all layers have it. No lease is to be lost meanwhile: what is
/// begun again after its last word comes twice.
fn publish(platform: &TestPlatform, file: &Path) -> Finished {
    let file = file.to_str().unwrap();
    platform.run_holding(&["publish", "shop.customers", file, "--map", MAP, "--wait"])
}

/// Does it until it is done. The ledger may still know that a layer has stopped which was refused.
fn until_done(what: &str, run: impl Fn() -> Finished) -> Finished {
    until(what, PATIENCE, || {
        let finished = run();
        if finished.code != 0 {
            eprintln!("{what}:\n{}", finished.stderr);
        }
        (finished.code == 0).then_some(finished)
    })
}

#[test]
fn a_source_is_not_read_by_who_found_the_bus_before_it_was_left() {
    let (Some(server), Some(there)) = (NatsServer::start(), NatsServer::start()) else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let platform = shop();
    let shared = shared(&platform, &postgres);
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));
    platform.run_holding(&["ingest", "shop"]).ok();
    sqlite(&platform, "INSERT INTO orders VALUES (3, 30)");

    let ends = nats::ends(&server);
    let late = begun(&platform, &["ingest", "shop", "-o", "ndjson"]);
    migrate(&platform, &there.url(), &[]);
    assert_refused(late);
    assert_eq!(nats::ends(&server), ends);

    platform.write("alluvium.toml", &on_nats(&shared, &there, "alluvium"));
    until_done("all rows", || platform.run(&["ingest", "shop"]));
    let expected: Vec<Value> =
        (1..=3).map(|id| json!({"id": id, "total": id * 10, "open": true})).collect();
    assert_eq!(rows(&platform, "orders", "id, total"), expected);
    assert_eq!(rows(&platform, "people", "id").len(), 2);
    assert_proved(&platform);
}

#[test]
fn a_file_is_not_published_by_who_found_the_bus_before_it_was_left() {
    let (Some(server), Some(there)) = (NatsServer::start(), NatsServer::start()) else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let mut changes = Workload::new(71);
    let platform = TestPlatform::shop();
    let shared = shared(&platform, &postgres);
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));
    let files = changes.files(&platform, 500, 1, 500);
    publish(&platform, &files[0]).ok();

    let ends = nats::ends(&server);
    let file = files[1].to_str().unwrap();
    let late = begun(&platform, &["publish", "shop.customers", file, "--map", MAP]);
    migrate(&platform, &there.url(), &[]);
    assert_refused(late);
    assert_eq!(nats::ends(&server), ends);

    platform.write("alluvium.toml", &on_nats(&shared, &there, "alluvium"));
    until_done("the file", || publish(&platform, &files[1]));
    assert_eq!(versions(&platform).len() as u64, changes.version_count());
    let records = platform.number("SELECT count(*) FROM bronze.shop.customers");
    assert_eq!(records, changes.count(), "each change once");
    assert_proved(&platform);
}

/// Stops it where it stands until the bus is left; where the topics ended then.
fn stand_still(
    running: &Running,
    platform: &TestPlatform,
    server: &NatsServer,
    to: &str,
) -> BTreeMap<String, u64> {
    running.signal("STOP");
    let ends = nats::ends(server);
    until_done("the move", || platform.run(&["bus", "migrate", "--to", to]));
    running.signal("CONT");
    ends
}

/// It has ended, and was told why; all that it said.
#[track_caller]
fn assert_ended_badly(mut running: Running) -> String {
    let ended = until("the end of who stood still", PATIENCE, || running.ended());
    let said = running.said();
    assert!(matches!(ended.code(), Some(1 | 2)), "{ended:?}\n{said}");
    let is_told = said.contains("was lost: another process") || said.contains("the bus has moved");
    assert!(is_told, "{said}");
    said
}

#[test]
fn a_poller_that_stood_still_while_the_bus_was_left_is_gone_on_with_elsewhere() {
    let (Some(server), Some(there)) = (NatsServer::start(), NatsServer::start()) else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let (tell, asked) = mpsc::channel();
    let (let_go, held) = mpsc::channel::<()>();
    let source = Server::answering(move |address| {
        if address.ends_with("page=1") {
            return Answer::json(json!([{"id": 1}, {"id": 2}]));
        }
        if !address.ends_with("page=2") {
            return Answer::json(json!([]));
        }
        // The first to ask is answered once it is let go.
        tell.send(()).ok();
        held.recv().ok();
        Answer::json(json!([{"id": 3}]))
    });
    let systems = json!({"systems": [
        {"name": "shop", "type": "rest", "connection": {"base_url": source.url()}}
    ]});
    let entities = json!({"entities": [{
        "system": "shop", "name": "items", "load": "full", "keys": ["id"],
        "columns": [{"name": "id", "type": "long", "nullable": false}],
        "source": {"path": "/items", "pagination": {"type": "page", "param": "page"}}
    }]});
    let platform = TestPlatform::new(QUIET, &systems, &entities);
    let shared = shared(&platform, &postgres);
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));

    let args = ["ingest", "shop", "-o", "ndjson", "--set", "data=elsewhere"];
    let running = platform.spawn_beside("late-", &args);
    let second = asked.recv_timeout(Duration::from_secs(PATIENCE));
    assert!(second.is_ok(), "the second page is not asked for:\n{}", running.said());
    let ends = stand_still(&running, &platform, &server, &there.url());
    drop(let_go);
    assert_ended_badly(running);
    assert_eq!(nats::ends(&server), ends);

    platform.write("alluvium.toml", &on_nats(&shared, &there, "alluvium"));
    until_done("all pages", || platform.run(&["ingest", "shop"]));
    let expected: Vec<Value> = (1..=3).map(|id| json!({"id": id, "open": true})).collect();
    assert_eq!(rows(&platform, "items", "id"), expected);
    let asked = source.asked();
    let before = asked.iter().take_while(|line| !line.contains("page=3 "));
    let begun = before.filter(|line| line.contains("page=1 ")).count();
    assert_eq!(begun, 1, "it was gone on with where it was: {asked:?}");
    assert_proved(&platform);
}

/// So much of its input `publish` puts on the bus at once.
const PAGE_BYTES: usize = 4 << 20;

/// The same lines with much beside the row, so that few of them fill a page.
fn padded(lines: &str) -> String {
    let pad = "x".repeat(4_096);
    let begin = format!("{{\"pad\":\"{pad}\",");
    lines.lines().map(|line| line.replacen('{', &begin, 1) + "\n").collect()
}

#[test]
fn a_publisher_that_stood_still_while_the_bus_was_left_does_not_believe_that_it_has_published() {
    let (Some(server), Some(there)) = (NatsServer::start(), NatsServer::start()) else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let mut changes = Workload::new(72);
    let platform = TestPlatform::shop();
    let shared = shared(&platform, &postgres);
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));
    let lines = padded(&changes.inserts(1_500));
    let file = platform.write("all.ndjson", &lines);

    let args = ["publish", "shop.customers", "-", "--map", MAP, "--set", "data=elsewhere"];
    let (running, mut stdin) = platform.spawn_fed("late-", &args);
    let (first, rest) = lines.split_at(PAGE_BYTES + lines[PAGE_BYTES..].find('\n').unwrap() + 1);
    stdin.write_all(first.as_bytes()).unwrap();
    until("the first page on the bus", PATIENCE, || {
        (nats::stands(&server, "cursor.shop.customers")["page"] == 1).then_some(())
    });
    let ends = stand_still(&running, &platform, &server, &there.url());
    // It may have ended before it reads them.
    drop(stdin.write_all(rest.as_bytes()));
    drop(stdin);
    let said = assert_ended_badly(running);
    assert!(
        said.contains("records of stdin are published, and it cannot be gone on with"),
        "{said}"
    );
    assert_eq!(nats::ends(&server), ends, "nobody reads what stands there");

    platform.write("alluvium.toml", &on_nats(&shared, &there, "alluvium"));
    until_done("the whole file", || publish(&platform, &file));
    assert_eq!(versions(&platform).len() as u64, changes.version_count());
    assert_proved(&platform);
}

#[test]
fn a_decision_that_comes_as_the_bus_is_left_goes_along() {
    let Some(server) = NatsServer::start() else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let mut changes = Workload::new(73);
    let platform = TestPlatform::shop();
    let shared = shared(&platform, &postgres);
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));
    let file = platform.write("bad.ndjson", &(changes.inserts(10) + "this is no JSON\n"));
    publish(&platform, &file).ok();
    let waiting = platform.rows(&["quarantine", "list", "shop.customers"]);
    let row = waiting.iter().find(|row| row["layer"] == "silver").unwrap();
    let (known, id) = (row["id"].clone(), row["id"].to_string());

    let (mut late, gate) = begun(&platform, &["quarantine", "discard", &id]);
    let line = NatsLine::to(&server, "\"state\":\"left\"");
    let servers = format!("bus.nats.servers={}", line.url());
    let moves = ["bus", "migrate", "--to", "embedded", "--set", &servers, "-o", "json"];
    let mut mover = platform.spawn_beside("move-", &moves);
    line.wait(PATIENCE);
    let ends = nats::ends(&server);
    go_on(gate);
    until("the decision on the bus", PATIENCE, || (nats::ends(&server) != ends).then_some(()));
    line.let_go();
    let ended = until("the end of the move", PATIENCE, || mover.ended());
    assert_eq!(ended.code(), Some(1), "{}", mover.said());
    until("the end of who decided", PATIENCE, || late.ended());

    let moved = until_done("the move", || platform.run(&moves)).stdout;
    let moved: Value = serde_json::from_str(&moved).unwrap();
    let [end] = nats::ends(&server).into_values().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!(moved["topics"][0]["from_end"], json!(end), "{moved:#}");
    platform.write("alluvium.toml", &shared);
    let more = platform.write("more.ndjson", &changes.changes(100));
    publish(&platform, &more).ok();
    assert_eq!(versions(&platform).len() as u64, changes.version_count());
    let decided = platform.rows(&["quarantine", "list", "shop.customers", "--all"]);
    let row = decided.iter().find(|row| row["id"] == known).unwrap();
    assert_eq!(row["status"], "discarded");
    assert_proved(&platform);
}

#[test]
fn a_move_that_stood_still_until_another_had_ended_leaves_the_new_bus_in_use() {
    let (Some(server), Some(there)) = (NatsServer::start(), NatsServer::start()) else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let mut changes = Workload::new(74);
    let platform = TestPlatform::shop();
    let shared = shared(&platform, &postgres);
    platform.write("alluvium.toml", &on_nats(&shared, &server, "alluvium"));
    // A topic without messages: the lake cannot tell by it that another has moved.
    let none = platform.write("none.ndjson", "");
    platform.run(&["publish", "shop.customers", none.to_str().unwrap(), "--map", MAP]).ok();

    let line = NatsLine::to(&there, "STREAM.CREATE.alluvium-changes-");
    let to = line.url();
    let moves = ["bus", "migrate", "--to", &to, "--set", "data=elsewhere"];
    let mut late = platform.spawn_beside("late-", &moves);
    line.wait(PATIENCE);
    // Where this takes longer than NATS is waited for, the other ends for that alone.
    migrate(&platform, &to, &[]);
    line.let_go();
    let ended = until("the end of who stood still", PATIENCE, || late.ended());
    assert_eq!(ended.code(), Some(1), "{}", late.said());
    assert_eq!(nats::stands(&there, "move")["state"], "arrived", "{}", late.said());

    platform.write("alluvium.toml", &on_nats(&shared, &there, "alluvium"));
    let file = platform.write("all.ndjson", &changes.inserts(500));
    until_done("the file", || platform.publish(&file));
    assert_eq!(versions(&platform).len() as u64, changes.version_count());
    assert_proved(&platform);
}

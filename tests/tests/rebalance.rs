//! How soon work is another's: when a worker comes, is stopped, or is killed.

use std::time::Duration;

use alluvium_testkit::{NatsServer, PostgresServer, free_port};
use alluvium_tests::workers::{PATIENCE, await_rows, worker};
use alluvium_tests::{Running, TestPlatform, timed, until};
use serde_json::{Value, json};

use crate::lost_bus::assert_proved;
use crate::scale_out::{holders, is_of};
use crate::woken::{pass_to, settings};

/// So many entities that each worker has a share of the work, whatever its folder is called.
const ENTITIES: usize = 8;
/// Their layers, and the house.
const WORK: usize = 3 * ENTITIES + 1;

/// Who comes has something to do, its start included.
const JOINED: Duration = Duration::from_secs(40);
/// Who is asked to stop hands everything over.
const STOPPED: Duration = Duration::from_secs(20);
/// A lease has to run out first, which lasts five seconds.
const KILLED: Duration = Duration::from_secs(30);

fn project(nats: &NatsServer, postgres: &PostgresServer) -> TestPlatform {
    let platform = TestPlatform::empty();
    let entity = |number: usize| {
        json!({
            "system": "app", "name": format!("notes{number}"), "keys": ["id"],
            "columns": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]
        })
    };
    let entities: Value = (0..ENTITIES).map(entity).collect();
    let systems = json!({"systems": [{"name": "app", "type": "push"}]});
    platform.write("alluvium.toml", &settings(&platform, nats, postgres));
    platform.write("systems.json", &systems.to_string());
    platform.write("entities.json", &json!({"entities": entities}).to_string());
    platform
}

/// One more note of one of the entities, which all layers have when this returns.
fn note(platform: &TestPlatform, id: u64) {
    let file = platform.write(&format!("note-{id}.ndjson"), &format!("{{\"id\":{id}}}\n"));
    platform.run_holding(&["publish", "app.notes0", file.to_str().unwrap(), "--rows", "-q"]).ok();
    for layer in ["raw", "bronze", "silver"] {
        await_rows(platform, &format!("{layer}.app.notes0"), id);
    }
}

/// What a worker has of the work.
fn work_of(platform: &TestPlatform, worker: &Running) -> Vec<String> {
    let its = holders(platform).into_iter().filter(|(_, holder)| is_of(worker, holder));
    its.map(|(lease, _)| lease).collect()
}

/// Waits until a worker has something to do, and tells what.
fn has_work(platform: &TestPlatform, worker: &Running) -> Vec<String> {
    until("something to do", PATIENCE, || {
        Some(work_of(platform, worker)).filter(|work| !work.is_empty())
    })
}

#[track_caller]
fn assert_within(most: Duration, what: &str, took: Duration) {
    eprintln!("{what}: {took:?}");
    assert!(took <= most, "{what} took {took:?}, and {most:?} at most was to be");
}

#[test]
fn work_is_anothers_within_seconds_when_a_worker_comes_is_stopped_or_killed() {
    let Some(nats) = NatsServer::start() else { return };
    let Some(postgres) = PostgresServer::start() else { return };
    let platform = project(&nats, &postgres);
    let ports = [free_port(), free_port()];
    let start = |at: usize| worker(&platform, ["a", "b"][at], ports[at], &[]);
    let mut a = start(0);
    until("one who has everything", PATIENCE, || {
        (work_of(&platform, &a).len() >= WORK).then_some(())
    });
    note(&platform, 1);

    let mut joined = None;
    let took = timed(|| drop(has_work(&platform, joined.insert(start(1)))));
    let mut b = joined.unwrap();
    assert_within(JOINED, "work for a new worker", took);
    note(&platform, 2);

    let work = has_work(&platform, &a);
    let took = timed(|| {
        a.signal("KILL");
        pass_to(&platform, &b, &work);
    });
    assert_within(KILLED, "all work of a killed worker at the other", took);
    until("the end of who was killed", PATIENCE, || a.ended());
    note(&platform, 3);

    let took = timed(|| {
        a = start(0);
        drop(has_work(&platform, &a));
    });
    assert_within(JOINED, "work for a worker that comes back", took);

    let work = has_work(&platform, &b);
    let took = timed(|| {
        b.signal("TERM");
        pass_to(&platform, &a, &work);
    });
    assert_within(STOPPED, "all work of a stopped worker at the other", took);
    assert!(until("the end of who was stopped", PATIENCE, || b.ended()).success());
    note(&platform, 4);
    assert!(a.terminate(60).success());
    assert_proved(&platform);
}

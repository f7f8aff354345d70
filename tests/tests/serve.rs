//! The process that goes on: triggers, HTTP, and a stop in good order.

use std::io::Write as _;
use std::process::{Command, Stdio};

use alluvium_testkit::free_port;
use alluvium_tests::http::{Answer, Server, get, get_from};
use alluvium_tests::platform::QUIET;
use alluvium_tests::workload::metadata;
use alluvium_tests::{Running, TestPlatform, required, until};
use serde_json::{Value, json};

use crate::lost_bus::{database, sqlite};

/// A system that works, one whose source always fails, and the port that HTTP is on.
fn start(server: &Server) -> (TestPlatform, Running, u16) {
    let broken = Server::new(Answer::Whole(500, "text/plain", "broken".to_owned()));
    let system = |name: &str, url: &str| {
        json!({
            "name": name, "type": "rest", "connection": {"base_url": url},
            "triggers": [{"type": "interval", "seconds": 1}]
        })
    };
    let entity = |system: &str| {
        json!({
            "system": system, "name": "events", "load": "full",
            "source": {"path": "/events", "conditional": false}, "keys": ["id"],
            "columns": [
                {"name": "id", "type": "long", "nullable": false},
                {"name": "name", "type": "string"}
            ]
        })
    };
    let port = free_port();
    let settings = format!(
        "[http]\nlisten = \"127.0.0.1:{port}\"\n\n[runtime.retry]\nattempts = 1\ninitial = \"50ms\"\n"
    );
    let systems = json!({"systems": [system("good", &server.url()), system("bad", &broken.url())]});
    let entities = json!({"entities": [entity("good"), entity("bad")]});
    let platform = TestPlatform::new(&settings, &systems, &entities);
    let running = platform.spawn(&["run"]);
    until("readiness", 30, || get(port, "/readyz").filter(|(status, _)| *status == 200));
    (platform, running, port)
}

/// The runs of a system that ended so.
fn runs(port: u16, system: &str, status: &str) -> Vec<Value> {
    let path = format!("/v1/runs?system={system}&status={status}");
    let Some((code, body)) = get(port, &path) else { return Vec::new() };
    assert_eq!(code, 200, "{body}");
    let mut body: Value = serde_json::from_str(&body).unwrap();
    serde_json::from_value(body["runs"].take()).unwrap()
}

#[test]
fn triggers_run_systems_and_one_that_fails_stops_no_other() {
    let server = Server::new(Answer::json(json!([{"id": 1, "name": "Ada"}])));
    let (platform, running, port) = start(&server);
    assert_eq!(get(port, "/livez").unwrap().0, 200);
    let failed =
        until("two failed runs", 30, || Some(runs(port, "bad", "failed")).filter(|r| r.len() > 1));
    assert!(failed[0]["reason"].as_str().unwrap().contains("500"), "{}", failed[0]);
    let before = runs(port, "good", "succeeded").len();
    server.answer(Answer::json(json!([{"id": 1, "name": "Ada L."}, {"id": 2, "name": "Grace"}])));
    until("runs beside the failing system", 30, || {
        Some(runs(port, "good", "succeeded")).filter(|runs| runs.len() > before + 1)
    });
    assert_eq!(runs(port, "good", "failed"), Vec::<Value>::new());
    assert_eq!(get(port, "/readyz").unwrap().0, 200, "a source that fails makes nobody unready");
    let ended = running.terminate(30);
    assert_eq!(ended.code(), Some(0), "after SIGTERM");
    assert!(get(port, "/livez").is_none(), "the port is still open");
    let sql = "SELECT id, name FROM silver.good.events WHERE _is_current ORDER BY id";
    let expected = [json!({"id": 1, "name": "Ada L."}), json!({"id": 2, "name": "Grace"})];
    assert_eq!(platform.query(sql), expected, "what was read before the stop has landed");
    assert_eq!(
        platform.number("SELECT count(*) FROM ledger.system_run WHERE status = 'running'"),
        0
    );
    platform.assert_sound();
}

#[test]
fn metrics_count_what_landed_and_promtool_finds_no_fault() {
    let server = Server::new(Answer::json(json!([{"id": 1, "name": "Ada"}])));
    let (_platform, running, port) = start(&server);
    let line = r#"alluvium_changes_published_total{"#;
    let text = until("a published change in the metrics", 30, || {
        let (_, text) = get(port, "/metrics")?;
        let counted = text.lines().any(|metric| {
            metric.starts_with(line) && metric.contains("good") && !metric.ends_with(" 0")
        });
        counted.then_some(text)
    });
    if Command::new("promtool").arg("--version").output().is_err() {
        assert!(!required(), "promtool is not there: run `make setup`");
        eprintln!("SKIPPED: promtool is not there");
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
    assert!(running.terminate(30).success());
}

#[test]
fn only_who_calls_the_host_by_a_name_that_it_has_is_answered() {
    let (systems, entities) = metadata();
    let port = free_port();
    let settings =
        format!("[http]\nlisten = \"127.0.0.1:{port}\"\nallowed_hosts = [\"lake.example\"]\n");
    let mut platform = TestPlatform::new(&settings, &systems, &entities);
    let status = |host: &str| get_from(port, "/v1/status", host).map(|(status, _)| status);
    let running = platform.spawn(&["run"]);
    until("an answer", 30, || get(port, "/livez"));
    for ours in ["lake.example", "LAKE.example:80", "127.0.0.1", "[::1]:7411"] {
        assert_eq!(status(ours), Some(200), "{ours}");
    }
    // A page whose name was bent to our address, and a name that is not among the settings.
    for foreign in ["evil.example", "lake.example.evil.example", "localhost"] {
        assert_eq!(status(foreign), Some(403), "{foreign}");
    }
    assert!(running.terminate(30).success());

    platform.set_variable("ALLUVIUM_HTTP__ALLOWED_HOSTS", "localhost, other.example");
    let running = platform.spawn(&["run"]);
    until("an answer", 30, || get(port, "/livez"));
    assert_eq!([status("localhost:1"), status("other.example")], [Some(200); 2]);
    assert_eq!(status("lake.example"), Some(403));
    assert!(running.terminate(30).success());
}

#[test]
fn a_run_is_shown_over_http() {
    let server = Server::new(Answer::json(json!([{"id": 1, "name": "Ada"}])));
    let (_platform, running, port) = start(&server);
    for (path, status) in
        [("/v1/runs?status=nonsense", 400), ("/v1/runs/none", 404), ("/nothing", 404)]
    {
        assert_eq!(get(port, path).unwrap().0, status, "{path}");
    }
    let run = until("a run", 30, || runs(port, "good", "succeeded").into_iter().next());
    let (status, body) = get(port, &format!("/v1/runs/{}", run["id"].as_str().unwrap())).unwrap();
    assert_eq!(status, 200);
    let detail: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(detail["trigger"], "interval");
    assert!(!detail["steps"].as_array().unwrap().is_empty(), "{detail}");
    assert!(running.terminate(30).success());
}

#[test]
fn what_sources_told_and_the_ledger_did_not_take_is_told_again() {
    let systems = json!({"systems": [{
        "name": "shop", "type": "sqlite", "triggers": [{"type": "interval", "seconds": 1}],
        "connection": {"path": "source.db"}
    }]});
    let entities = json!({"entities": [
        {"system": "shop", "name": "people", "load": "full", "source": {"table": "people"}}
    ]});
    let platform = TestPlatform::new(QUIET, &systems, &entities);
    sqlite(
        &platform,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO people VALUES (1, 'a')",
    );
    let running = platform.spawn(&["run"]);
    let knows = |column: &str| {
        let asked = platform.run(&["query", "SELECT spec FROM ledger.metadata", "-o", "ndjson"]);
        (asked.code == 0 && asked.stdout.contains(column)).then_some(())
    };
    until("what the source told first", 60, || knows("name"));
    database(&platform, "data/ledger.db", "ALTER TABLE metadata_history RENAME TO away");
    sqlite(&platform, "ALTER TABLE people ADD COLUMN nickname TEXT");
    until("the ledger's refusal", 60, || {
        running.stderr().contains("the ledger did not take what sources told").then_some(())
    });
    database(&platform, "data/ledger.db", "ALTER TABLE away RENAME TO metadata_history");
    until("what the source told then", 60, || knows("nickname"));
    assert!(running.terminate(60).success());
}
